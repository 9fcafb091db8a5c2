"""A network on a split: scores, expert load and latency.

B batch, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from research_eval import ranks
from research_eval.diagnostics.totals import ExpertReport, ExpertTotals
from research_eval.metrics import classification_scores, language_scores
from research_eval.network import Network, NetworkOutput
from research_eval.spec import Split
from research_eval.training.batches import Batch, Batches
from research_eval.training.device import synchronizer

Autocast = Callable[[], AbstractContextManager[object]]

LATENCY_BATCHES = 30
"""Batches that are timed; the first three are warm-up and not counted."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one pass over a split measured.

    Attributes:
        scores: Loss and the scores of the task, without a prefix.
        experts: What the experts did; empty for a model without.
    """

    scores: Mapping[str, float]
    experts: ExpertReport = field(default_factory=ExpertReport)

    def named(self, prefix: str) -> dict[str, float]:
        """Return the scores under `prefix`, for example final_val."""
        return {f"{prefix}_{name}": value for name, value in self.scores.items()}


@torch.no_grad()
def evaluate(
    network: Network,
    batches: Batches,
    *,
    batch_size: int,
    autocast: Autocast,
    max_batches: int | None = None,
    observe: Callable[[Batch, NetworkOutput], None] | None = None,
) -> Evaluation:
    """Measure a network on a split, from its first row to its last.

    Ranks that train together each look at a part of it, and all return the same.

    Args:
        network: Put into evaluation mode, and back afterwards.
        batches: The split.
        batch_size: Rows per batch; it does not change the result beyond rounding.
        autocast: Makes the context of a forward pass.
        max_batches: Look at no more than so many batches.
        observe: Shown every batch with what the network made of it.
    """
    was_training = network.training
    network.eval()
    seen = _Totals(batches.device)
    for batch in batches.in_order(batch_size, max_batches):
        with autocast():
            output = network(batch.ids_BL, batch.mask_BL, batch.labels)
        seen.add(batch, output)
        if observe is not None:
            observe(batch, output)
    network.train(was_training)
    complete = max_batches is None or max_batches * batch_size >= len(batches)
    seen, *others = ranks.everyones(seen)
    for other in others:
        seen.extend(other)
    return Evaluation(seen.scores(batches.split if complete else None), seen.experts.report())


class _Totals:
    """What was seen in some rows of a split."""

    def __init__(self, device: torch.device) -> None:
        self.loss_sum = torch.zeros((), device=device)
        self.targets = torch.zeros((), dtype=torch.int64, device=device)
        self.confusion_CC: Tensor | None = None
        self.experts = ExpertTotals()

    def add(self, batch: Batch, output: NetworkOutput) -> None:
        """Add a batch."""
        loss = torch.where(output.num_targets > 0, output.loss, 0.0)
        self.loss_sum += loss * output.num_targets
        self.targets += output.num_targets
        if output.logits_BC is not None:
            self._add_confusion(_confusion(output.logits_BC, batch.labels))
        self.experts.add(
            output.routing,
            output.couplings,
            output.path,
            batch.mask_BL,
            (batch.ids_BL.shape[0], batch.ids_BL.shape[1]),
            batch.groups_B,
        )

    def extend(self, later: _Totals) -> None:
        """Add what was seen in the rows that come next."""
        self.loss_sum += later.loss_sum
        self.targets += later.targets
        if later.confusion_CC is not None:
            self._add_confusion(later.confusion_CC)
        self.experts.extend(later.experts)

    def _add_confusion(self, counts_CC: Tensor) -> None:
        self.confusion_CC = (
            counts_CC if self.confusion_CC is None else self.confusion_CC + counts_CC
        )

    def scores(self, whole: Split | None) -> dict[str, float]:
        """Return the scores; `whole` is the split if all of it was read."""
        num_targets = int(self.targets)
        loss = float(self.loss_sum) / num_targets if num_targets else float("nan")
        if self.confusion_CC is not None:
            return {"loss": loss, **classification_scores(self.confusion_CC.cpu().numpy())}
        num_bytes, num_words = (None, None) if whole is None else (whole.num_bytes, whole.num_words)
        scores = language_scores(
            loss, num_targets=num_targets, num_bytes=num_bytes, num_words=num_words
        )
        return {"loss": loss, **scores}


def _confusion(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    num_classes = logits_BC.shape[1]
    cells = labels_B * num_classes + logits_BC.argmax(1)
    return torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)


@torch.no_grad()
def measure_latency(
    network: Network, batches: Batches, *, batch_size: int, autocast: Autocast
) -> dict[str, float]:
    """Time forward passes over batches of a split, in milliseconds per batch.

    Only batches of full size are timed (the first ones again if there are few); three warm-up
    passes come first, and the device is waited for around each pass.
    """
    was_training = network.training
    network.eval()
    wait = synchronizer(batches.device)
    size = min(batch_size, len(batches))
    full_batches = max(1, len(batches) // size)
    times_ms = []
    for index in range(LATENCY_BATCHES):
        start_row = (index % full_batches) * size
        batch = batches.take(torch.arange(start_row, start_row + size))
        wait()
        started = time.perf_counter()
        with autocast():
            network(batch.ids_BL, batch.mask_BL, batch.labels)
        wait()
        times_ms.append(1e3 * (time.perf_counter() - started))
    network.train(was_training)
    counted = np.array(times_ms[3:])
    return {
        "inference_latency_ms_batch": float(counted.mean()),
        "inference_latency_ms_batch_p50": float(np.percentile(counted, 50)),
        "inference_latency_ms_batch_p95": float(np.percentile(counted, 95)),
    }

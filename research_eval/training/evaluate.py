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
    loss_sum = torch.zeros((), device=batches.device)
    targets = torch.zeros((), dtype=torch.int64, device=batches.device)
    confusion: Tensor | None = None
    experts = ExpertTotals()
    for batch in batches.in_order(batch_size, max_batches):
        with autocast():
            output = network(batch.ids_BL, batch.mask_BL, batch.labels)
        loss_sum += torch.where(output.num_targets > 0, output.loss, 0.0) * output.num_targets
        targets += output.num_targets
        if output.logits_BC is not None:
            counts = _confusion(output.logits_BC, batch.labels)
            confusion = counts if confusion is None else confusion + counts
        experts.add(
            output.routing,
            output.couplings,
            output.path,
            batch.mask_BL,
            (batch.ids_BL.shape[0], batch.ids_BL.shape[1]),
            batch.groups_B,
        )
        if observe is not None:
            observe(batch, output)
    network.train(was_training)
    complete = max_batches is None or max_batches * batch_size >= len(batches)
    scores = _scores(float(loss_sum), int(targets), confusion, batches.split if complete else None)
    return Evaluation(scores, experts.report())


def _scores(
    loss_sum: float, num_targets: int, confusion_CC: Tensor | None, whole: Split | None
) -> dict[str, float]:
    """Return the scores; `whole` is the split if all of it was read."""
    loss = loss_sum / num_targets if num_targets else float("nan")
    if confusion_CC is not None:
        return {"loss": loss, **classification_scores(confusion_CC.cpu().numpy())}
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

"""One pass over a split that keeps what became of every row.

B batch, L length, C classes, N rows, T real tokens, E experts, P layers or steps of a path.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from research_eval.breakdown import COLUMNS
from research_eval.diagnostics.routing import row_load, row_of_tokens
from research_eval.network import Network, NetworkOutput
from research_eval.spec import IGNORED_LABEL, Dataset, PathRecord, Split
from research_eval.training.batches import Batch, Batches
from research_eval.training.evaluate import evaluate
from research_eval.training.progress import Progress


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass found.

    Attributes:
        table: A row for each row of the split, with the columns of `breakdown.COLUMNS`.
        scores: Loss and the scores of the task, without a prefix.
    """

    table: pa.Table
    scores: Mapping[str, float]


def predict(
    network: Network,
    dataset: Dataset,
    split: Split,
    *,
    batch_size: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
    mixed_by: int | None = None,
    progress: Callable[[Progress], None] = lambda _now: None,
) -> Pass:
    """Let a network look at every row of a split.

    Args:
        network: In evaluation, on the device.
        dataset: Names labels and domains.
        split: Of the data set.
        batch_size: Rows per batch.
        device: Of the network.
        autocast: Makes the context of a forward pass.
        mixed_by: Seed of an order in which rows are taken, for networks in which the rows of a
            batch matter to each other; None takes them from first to last.
        progress: Told after every batch.
    """
    order_N = torch.arange(len(split))
    if mixed_by is not None:
        order_N = torch.randperm(len(split), generator=torch.Generator().manual_seed(mixed_by))
    batches = Batches(_taken(split, order_N), dataset.task, device)
    rows = _Rows(-(-len(split) // batch_size), progress)
    found = evaluate(network, batches, batch_size=batch_size, autocast=autocast, observe=rows.add)
    return Pass(rows.table(dataset, batches.split, order_N), found.scores)


def _taken(split: Split, order_N: Tensor) -> Split:
    """Return the split with its rows in another order."""
    return replace(
        split,
        ids_NL=split.ids_NL[order_N],
        lengths_N=split.lengths_N[order_N],
        labels_N=None if split.labels_N is None else split.labels_N[order_N],
        domains_N=None if split.domains_N is None else split.domains_N[order_N],
    )


class _Rows:
    """Keeps what `evaluate` sees, row by row.

    Args:
        num_batches: How many will come.
        progress: Told after each.
    """

    def __init__(self, num_batches: int, progress: Callable[[Progress], None]) -> None:
        self._num_batches, self._progress = num_batches, progress
        self._started = time.monotonic()
        self._tokens = 0
        self._columns: dict[str, list[Tensor]] = {}
        self._experts: list[Tensor] = []

    def add(self, batch: Batch, output: NetworkOutput) -> None:
        """Keep the rows of a batch."""
        rows, length = batch.ids_BL.shape
        if batch.mask_BL is None:
            lengths_B = torch.full((rows,), length, device=batch.ids_BL.device)
        else:
            lengths_B = batch.mask_BL.sum(dim=1)
        found = {"length": lengths_B}
        if output.logits_BC is not None:
            probs_BC = output.logits_BC.softmax(dim=1)
            found["probability"], found["prediction"] = probs_BC.max(dim=1)
            found["loss"], found["targets"] = output.losses, torch.ones_like(lengths_B)
        else:
            found["targets"] = (batch.labels != IGNORED_LABEL).sum(dim=1)
            found["loss"] = output.losses.sum(dim=1) / found["targets"]
        for name, values_B in found.items():
            self._columns.setdefault(name, []).append(values_B.cpu())
        shares_BPE = expert_shares(batch, output)
        if shares_BPE is not None:
            self._experts.append(shares_BPE.cpu())
        self._tell(batch, output)

    def _tell(self, batch: Batch, output: NetworkOutput) -> None:
        self._tokens += batch.num_tokens
        done = len(self._columns["length"])
        seconds = max(time.monotonic() - self._started, 1e-9)
        left = seconds / done * (self._num_batches - done)
        pace = self._tokens / seconds
        self._progress(Progress(done, self._num_batches, pace, left, float(output.loss)))

    def table(self, dataset: Dataset, split: Split, order_N: Tensor) -> pa.Table:
        """Return all rows in the order of the split, of which `order_N` tells the present one."""
        count = len(order_N)
        columns = {name: torch.cat(parts).numpy() for name, parts in self._columns.items()}
        is_classified = "prediction" in columns
        labels_N = split.labels_N if is_classified else None
        experts = torch.cat(self._experts).numpy() if self._experts else None
        arrays = {
            "id": pa.array(order_N.numpy(), pa.int64()),
            "label": _named(labels_N, dataset.label_names, count),
            "prediction": _named(columns.get("prediction"), dataset.label_names, count),
            "probability": _numbers(columns.get("probability"), pa.float32(), count),
            "loss": _numbers(columns["loss"], pa.float32(), count),
            "targets": _numbers(columns["targets"], pa.int32(), count),
            "domain": _named(split.domains_N, dataset.domain_names, count),
            "length": _numbers(columns["length"], pa.int32(), count),
            "experts": _nested(experts, count),
        }
        table = pa.table({name: arrays[name] for name in COLUMNS})
        return table.take(pa.array(np.argsort(order_N.numpy())))


def expert_shares(batch: Batch, output: NetworkOutput) -> Tensor | None:
    """Return which experts worked on each row: its choices' shares, [B, P, E].

    P are the routed layers, where a row's shares add up to 1 if any expert worked on it, or the
    steps of a path, where they add up to the share of its decision makers that still went on.
    None where no expert is chosen, and where layers have different numbers of experts.
    """
    rows, length = batch.ids_BL.shape
    row_T = row_of_tokens(batch.mask_BL, (rows, length), batch.ids_BL.device)
    counts = [row_load(record, row_T, rows).float() for record in output.routing]
    if counts and len({count.shape for count in counts}) == 1:
        counts_BPE = torch.stack(counts, dim=1)
        return counts_BPE / counts_BPE.sum(dim=2, keepdim=True).clamp(min=1)
    if output.path is None:
        return None
    row_N = row_T
    if output.logits_BC is not None:  # samples decide, those that have a token
        row_N = torch.unique(row_T)
    return _path_shares(output.path, row_N, rows)


def _path_shares(path: PathRecord, row_N: Tensor, rows: int) -> Tensor:
    experts_E = torch.arange(path.num_experts, device=row_N.device)
    visits_NPE = (path.chosen_NP.unsqueeze(2) == experts_E).float()
    totals_BPE = visits_NPE.new_zeros(rows, *visits_NPE.shape[1:]).index_add(0, row_N, visits_NPE)
    deciders_B = torch.bincount(row_N, minlength=rows).clamp(min=1)
    return totals_BPE / deciders_B[:, None, None]


def _named(codes: Tensor | np.ndarray | None, names: Sequence[str], count: int) -> pa.Array:
    known = pa.array(list(names), pa.string())
    if codes is None:
        return pa.DictionaryArray.from_arrays(pa.nulls(count, pa.int32()), known)
    return pa.DictionaryArray.from_arrays(pa.array(np.asarray(codes), pa.int32()), known)


def _numbers(values: np.ndarray | None, kind: pa.DataType, count: int) -> pa.Array:
    return pa.nulls(count, kind) if values is None else pa.array(values).cast(kind)


def _nested(values_NPE: np.ndarray | None, count: int) -> pa.Array:
    if values_NPE is None:
        return pa.nulls(count, pa.list_(pa.list_(pa.float32())))
    rows, places, experts = values_NPE.shape
    flat = pa.array(values_NPE.reshape(-1))
    inner = pa.ListArray.from_arrays(_offsets(rows * places, experts), flat)
    return pa.ListArray.from_arrays(_offsets(rows, places), inner)


def _offsets(lists: int, length: int) -> pa.Array:
    return pa.array(np.arange(lists + 1) * length, pa.int32())

"""From a split to batches on the device.

B batch, L length, N rows of the split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from research_eval import ranks
from research_eval.spec import IGNORED_LABEL, Split, Task


@dataclass(frozen=True, slots=True)
class Batch:
    """What a network reads in one step.

    Attributes:
        ids_BL: Token ids, int64, cut to the longest row of the batch.
        mask_BL: True at real tokens; None if no row is padded.
        labels: [B] classes, or [B, L] next tokens with `IGNORED_LABEL` where there is none.
        num_tokens: Real tokens that the model reads.
        groups_B: Domain, or else class, of each row; None if it has neither.
    """

    ids_BL: Tensor
    mask_BL: Tensor | None
    labels: Tensor
    num_tokens: int
    groups_B: Tensor | None = None


class Batches:
    """A split held on the device, from which any rows can be taken without waiting for it.

    Args:
        split: The rows.
        task: Decides what the labels are.
        device: Where the tensors go.
    """

    def __init__(self, split: Split, task: Task, device: torch.device) -> None:
        self.split = split
        self.task = task
        self.device = device
        self._ids_NL = split.ids_NL.to(device)
        self._labels_N = None if split.labels_N is None else split.labels_N.to(device)
        self._groups_N = self._labels_N
        if split.domains_N is not None:
            self._groups_N = split.domains_N.to(device)
        # A language model reads all but the last token of a row and predicts all but the first.
        shift = 1 if task == "language_modeling" else 0
        self._read_N = split.lengths_N.long() - shift

    def __len__(self) -> int:
        return len(self.split)

    def take(self, rows_B: Tensor) -> Batch:
        """Return the batch of some rows.

        Args:
            rows_B: Row numbers, int64, on the CPU.
        """
        read_B = self._read_N[rows_B]
        longest = max(int(read_B.max()), 1)
        padded = int(read_B.min()) < longest
        rows_B = rows_B.to(self.device, non_blocking=True)
        mask_BL = None
        if padded:
            positions_L = torch.arange(longest, device=self.device)
            mask_BL = positions_L < read_B.to(self.device, non_blocking=True)[:, None]
        ids_BL = self._ids_NL[rows_B, :longest].long()
        labels = self._labels(rows_B, longest, mask_BL)
        groups_B = None if self._groups_N is None else self._groups_N[rows_B]
        return Batch(ids_BL, mask_BL, labels, int(read_B.sum()), groups_B)

    def _labels(self, rows_B: Tensor, longest: int, mask_BL: Tensor | None) -> Tensor:
        if self._labels_N is not None and self.task == "classification":
            return self._labels_N[rows_B]
        targets_BL = self._ids_NL[rows_B, 1 : longest + 1].long()
        if self.split.unscored_id is not None:
            is_unscored_BL = targets_BL == self.split.unscored_id
            targets_BL = targets_BL.masked_fill(is_unscored_BL, IGNORED_LABEL)
        return targets_BL if mask_BL is None else targets_BL.masked_fill(~mask_BL, IGNORED_LABEL)

    def nothing(self) -> Batch:
        """Return a row of padding in which nothing counts: the share of a rank without rows."""
        ids_BL = torch.zeros(1, 1, dtype=torch.int64, device=self.device)
        labels = torch.full_like(ids_BL, IGNORED_LABEL)
        if self.task == "classification":
            labels = labels.squeeze(1)
        return Batch(ids_BL, torch.zeros_like(ids_BL, dtype=torch.bool), labels, num_tokens=0)

    def num_tokens(self, rows_B: Tensor) -> int:
        """Return how many real tokens the model reads in some rows."""
        return int(self._read_N[rows_B].sum())

    def in_order(self, batch_size: int, max_batches: int | None = None) -> Iterator[Batch]:
        """Yield the rows from first to last, in batches; of several ranks each has its part.

        Args:
            batch_size: Rows of the batches of all ranks together.
            max_batches: Yield no more than so many of these.
        """
        count = len(self) if max_batches is None else min(len(self), max_batches * batch_size)
        rows_N = ranks.share(torch.arange(count))
        for rows_B in torch.split(rows_N, max(1, batch_size // ranks.size())):
            if len(rows_B):
                yield self.take(rows_B)

"""The frame of the generated data sets: sizes, random streams, disjoint splits.

Rows are drawn independently; a row that another split already holds is drawn again, so that no
split shares a row with another. N rows, L length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from research_eval.datasets._splits import split_keys, stream
from research_eval.errors import DataError
from research_eval.spec import Dataset, DatasetParams, Split, Task, data_fingerprint

MAX_ROUNDS = 50
"""Draws without a single new row after which a split counts as impossible to fill."""


class SyntheticParams(DatasetParams):
    """How many rows are generated."""

    num_samples: Annotated[int, Field(ge=1)] = 20_000
    """Rows of the training split."""

    val_samples: Annotated[int, Field(ge=1)] = 4_000
    """Rows of the validation split."""

    test_samples: Annotated[int, Field(ge=0)] = 4_000
    """Rows of the test split; 0 makes none."""


class SequenceParams(SyntheticParams):
    """Generated rows of free length over a free vocabulary."""

    seq_len: Annotated[int, Field(ge=2)] = 16
    """Tokens that the model reads per row."""

    vocab_size: Annotated[int, Field(ge=2)] = 8
    """Different tokens, numbered from 1; 0 is padding."""


class Rows(NamedTuple):
    """Generated rows without padding: ids int32 and, for classification, classes int64."""

    ids_NL: Tensor
    labels_N: Tensor | None = None

    def take(self, which: Tensor) -> Rows:
        """Return the rows at the given indices, or where a mask is True."""
        return Rows(self.ids_NL[which], None if self.labels_N is None else self.labels_N[which])


Draw = Callable[[torch.Generator, int], Rows]
"""Draws a number of rows: `draw(generator, count)`."""


def generate(
    name: str,
    params: SyntheticParams,
    draw: Draw,
    *,
    task: Task,
    vocab_size: int,
    label_names: tuple[str, ...] = (),
    loss_floor: Callable[[Tensor], float] | None = None,
) -> Dataset:
    """Draw the three splits, disjoint, each from its own random stream.

    Args:
        name: For messages.
        params: Sizes and `data_seed`.
        draw: Draws rows of one length.
        task: What the rows are for.
        vocab_size: Ids of the rows are below it; 0 is padding.
        label_names: Declared classes in order.
        loss_floor: Returns the true process's mean loss on the targets of given rows.

    Raises:
        DataError: If there are too few different rows for disjoint splits, or for two classes.
    """
    taken: set[bytes] = set()
    splits: dict[str, Split] = {}
    counts: dict[str, int] = {}
    sizes = {"test": params.test_samples, "validation": params.val_samples}
    for purpose, size in {**sizes, "train": params.num_samples}.items():
        if size == 0:
            continue
        generator = stream(params.data_seed, purpose)
        rows, redrawn = _draw_new(name, draw, generator, size, taken)
        if redrawn:
            counts[f"{purpose}_redrawn"] = redrawn
        splits[purpose] = split_of(rows, loss_floor)
        taken.update(split_keys(splits[purpose]))
    _require_two_classes(name, splits["train"].labels_N, label_names)
    return assemble(
        splits,
        task=task,
        vocab_size=vocab_size,
        label_names=label_names,
        counts=counts,
        source=f"generated from data_seed {params.data_seed}",
    )


def _require_two_classes(name: str, labels_N: Tensor | None, names: tuple[str, ...]) -> None:
    if labels_N is not None and (labels_N == labels_N[0]).all():
        raise DataError(
            f"{name} has training rows of one class only, {names[int(labels_N[0])]}; ask for more "
            "rows, longer rows or a larger vocabulary"
        )


def _draw_new(
    name: str, draw: Draw, generator: torch.Generator, size: int, taken: set[bytes]
) -> tuple[Rows, int]:
    """Return `size` rows that are not `taken`, and how many were drawn again."""
    parts: list[Rows] = []
    missing, redrawn, fruitless = size, 0, 0
    while missing:
        rows = draw(generator, missing)
        new = torch.tensor([key not in taken for key in split_keys(split_of(rows))])
        parts.append(rows.take(new))
        fruitless = 0 if new.any() else fruitless + 1
        missing -= int(new.sum())
        redrawn += missing
        if fruitless == MAX_ROUNDS:
            raise DataError(
                f"{name} has too few different rows for splits that share none: {missing} of "
                f"{size} are missing; ask for longer rows, a larger vocabulary or fewer rows"
            )
    labels = [rows.labels_N for rows in parts if rows.labels_N is not None]
    ids_NL = torch.cat([rows.ids_NL for rows in parts])
    return Rows(ids_NL, torch.cat(labels) if labels else None), redrawn


def split_of(rows: Rows, loss_floor: Callable[[Tensor], float] | None = None) -> Split:
    """Wrap rows of one length."""
    count, length = rows.ids_NL.shape
    return Split(
        ids_NL=rows.ids_NL,
        lengths_N=torch.full((count,), length, dtype=torch.int32),
        labels_N=rows.labels_N,
        loss_floor=None if loss_floor is None else loss_floor(rows.ids_NL),
    )


def assemble(
    splits: dict[str, Split],
    *,
    task: Task,
    vocab_size: int,
    label_names: tuple[str, ...],
    counts: dict[str, int],
    source: str,
) -> Dataset:
    """Make a data set of generated splits."""
    length = splits["train"].ids_NL.shape[1]
    return Dataset(
        task=task,
        vocab_size=vocab_size,
        max_length=length - 1 if task == "language_modeling" else length,
        train=splits["train"],
        validation=splits["validation"],
        test=splits.get("test"),
        label_names=label_names,
        counts=counts,
        fingerprint=data_fingerprint(splits["train"], splits["validation"], splits.get("test")),
        source=source,
    )

"""Rows of text before they are tokenised, and how they are divided into splits.

N rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from research_eval.datasets._splits import choose, distinct, numbered, stream
from research_eval.errors import DataError

COLUMNS = ("texts", "labels", "domains", "groups")


@dataclass(frozen=True, slots=True)
class Fields:
    """The columns of a file to read; None where there is no such column to read."""

    text: str = "text"
    label: str | None = None
    domain: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class TextRows:
    """The rows of one split, column by column; None where no such column was asked for.

    Attributes:
        label_names: Classes in the order that the file declares, empty if it declares none.
    """

    texts: list[str]
    labels: list[Any] | None = None
    domains: list[Any] | None = None
    groups: list[Any] | None = None
    label_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, keep_N: NDArray[np.bool_]) -> TextRows:
        """Return the rows at which `keep_N` is True."""
        keep = keep_N.tolist()
        columns: dict[str, Any] = {name: getattr(self, name) for name in COLUMNS}
        kept = {n: list(compress(c, keep)) for n, c in columns.items() if c is not None}
        return TextRows(**{**columns, **kept}, label_names=self.label_names)

    def strata(self) -> NDArray[np.int64]:
        """Number the rows by label, else by domain, else all alike."""
        values = self.labels or self.domains
        if values is None:
            return np.zeros(len(self), dtype=np.int64)
        return numbered(values, distinct(values))


Splits = dict[str, TextRows]


def drop_empty(splits: Splits, counts: dict[str, int]) -> Splits:
    """Return the splits without rows of nothing but white space, and count what went."""
    empty = {
        name: np.array([not text.strip() for text in rows.texts], dtype=bool)
        for name, rows in splits.items()
    }
    tally(empty, "empty", counts)
    return {name: rows.take(~empty[name]) for name, rows in splits.items()}


def tally(affected: Mapping[str, NDArray[np.bool_]], what: str, counts: dict[str, int]) -> None:
    """Record under `<split>_<what>` how many rows of each split are affected, if any."""
    numbers = {f"{name}_{what}": int(affected_N.sum()) for name, affected_N in affected.items()}
    counts.update({name: number for name, number in numbers.items() if number})


def divide(
    splits: Splits, validation_fraction: float, test_fraction: float, data_seed: int
) -> Splits:
    """Cut the splits that are missing from train, at random but even over labels or domains.

    Args:
        splits: At least train.
        validation_fraction: Share of the original training rows for a validation split.
        test_fraction: Likewise for a test split; 0 cuts none.
        data_seed: Decides which rows.

    Raises:
        DataError: If a cut would leave one of its two sides empty.
    """
    divided = dict(splits)
    train = splits["train"]
    is_one_text = len(train) == 1
    total = len(train.texts[0]) if is_one_text else len(train)
    for name, fraction in (("test", test_fraction), ("validation", validation_fraction)):
        if name in splits or fraction == 0:
            continue
        size = max(1, round(fraction * total))
        parts = (
            _cut_text(divided["train"], size)
            if is_one_text
            else _cut_rows(divided["train"], size, stream(data_seed, f"cut {name}"))
        )
        if not all(len(rows) for rows in parts):
            raise DataError(
                f"a {name} split cannot be cut from {len(train):,} training rows: one side would "
                "be empty; provide more rows, lines or groups, or the split itself"
            )
        divided["train"], divided[name] = parts
    return divided


def _cut_rows(rows: TextRows, count: int, generator: torch.Generator) -> tuple[TextRows, TextRows]:
    groups_N = None if rows.groups is None else numbered(rows.groups, distinct(rows.groups))
    chosen_N = choose(rows.strata(), min(count, len(rows)), generator, groups_N)
    return rows.take(~chosen_N), rows.take(chosen_N)


def _cut_text(rows: TextRows, size: int) -> tuple[TextRows, TextRows]:
    """Cut a single document at a line break; its last `size` characters become the new split."""
    (text,) = rows.texts
    place = text.find("\n", max(0, len(text) - size - 1)) + 1
    kept, new = text[:place], text[place:]
    return (
        replace(rows, texts=[kept] if kept.strip() else []),
        replace(rows, texts=[new] if new.strip() else []),
    )


def shared(keys: Mapping[str, Sequence[Hashable]], was_cut: bool) -> dict[str, NDArray[np.bool_]]:
    """Return which rows must go so that train shares no key with the other splits.

    Args:
        keys: One key for each row of each split.
        was_cut: Whether validation was cut from train; then it gives way to test, while an
            official validation split is left as it is.
    """
    test = set(keys.get("test", ()))
    gone = {name: np.zeros(len(found), dtype=bool) for name, found in keys.items()}
    if was_cut:
        gone["validation"] = np.array([key in test for key in keys["validation"]], dtype=bool)
    others = test | set(keys.get("validation", ()))
    gone["train"] = np.array([key in others for key in keys["train"]], dtype=bool)
    return gone


def at_most(rows: TextRows, limit: int | None, generator: torch.Generator) -> TextRows:
    """Return no more than `limit` rows, chosen evenly over labels or domains."""
    if limit is None or limit >= len(rows):
        return rows
    return rows.take(choose(rows.strata(), limit, generator))


def require_rows(splits: Splits, name: str) -> None:
    """Refuse a data set with an empty split.

    Raises:
        DataError: Naming the empty splits.
    """
    empty = [split for split, rows in splits.items() if len(rows) == 0]
    if empty:
        raise DataError(f"data set '{name}' has no usable rows in: {', '.join(empty)}")

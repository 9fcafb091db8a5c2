"""What was recorded beside what was obtained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from research_eval.records import RunRecord
from research_eval.reproduction.original import Original

Verdict = Literal["bit-equal", "within seed spread", "outside", "not equal", "missing"]
"""`not equal` where there are too few seeds to know their spread; `missing` if nothing came out."""

FEWEST_SEEDS = 3
CONFIDENCE = 0.99
SCORES = ("final_", "last_", "best_val_")
"""Beginnings of the names of metrics that a seed determines; times and speeds are none."""

Group = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of one run.

    Attributes:
        original: The recorded run.
        obtained: The run that repeats it.
        limit: Largest difference that two seeds of this configuration would show in 99 of 100
            cases; None if it is not known.
    """

    original: RunRecord
    obtained: RunRecord
    metric: str
    limit: float | None

    @property
    def values(self) -> tuple[float, float]:
        """What was recorded, and what was obtained; NaN for what is missing."""
        obtained = self.obtained.metrics.get(self.metric)
        recorded = self.original.metrics[self.metric].value
        return recorded, math.nan if obtained is None else obtained.value

    @property
    def difference(self) -> float:
        """Obtained minus recorded; 0 for two values that are both not finite in the same way."""
        recorded, obtained = self.values
        return 0.0 if self._is_equal else obtained - recorded

    @property
    def verdict(self) -> Verdict:
        """What the difference means."""
        if self.metric not in self.obtained.metrics:
            return "missing"
        if self._is_equal:
            return "bit-equal"
        if self.limit is None:
            return "not equal"
        return "within seed spread" if abs(self.difference) <= self.limit else "outside"

    @property
    def _is_equal(self) -> bool:
        recorded, obtained = self.values
        return recorded == obtained or (math.isnan(recorded) and math.isnan(obtained))


def seed_spreads(originals: Sequence[Original]) -> dict[tuple[Group, str], float]:
    """Return by group and metric how far two runs may lie apart that differ only in the seed.

    With s the standard deviation over n recorded seeds, the difference of two independent normal
    values has the standard deviation s sqrt(2), and lies within t(0.995; n - 1) s sqrt(2) in 99 of
    100 cases. Fewer than three seeds say nothing.
    """
    values: dict[tuple[Group, str], dict[int | None, float]] = {}
    for each in originals:
        for name in scores_of(each.record):
            seeds = values.setdefault((each.group, name), {})
            seeds[each.record.seed] = each.record.metrics[name].value
    spreads = {}
    for key, by_seed in values.items():
        known = [value for value in by_seed.values() if math.isfinite(value)]
        if len(known) >= FEWEST_SEEDS:
            factor = stats.t.ppf((1 + CONFIDENCE) / 2, len(known) - 1) * math.sqrt(2)
            spreads[key] = float(factor * np.std(known, ddof=1))
    return spreads


def compare(
    original: Original, obtained: RunRecord, spreads: Mapping[tuple[Group, str], float]
) -> list[Comparison]:
    """Return a comparison for every score that is recorded."""
    return [
        Comparison(original.record, obtained, name, spreads.get((original.group, name)))
        for name in scores_of(original.record)
    ]


def scores_of(record: RunRecord) -> list[str]:
    """Return the names of a run's scores."""
    return sorted(name for name in record.metrics if name.startswith(SCORES))

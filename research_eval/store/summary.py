"""The summary of a metric, folded point by point in the order of recording."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class RunningSummary:
    """Last value and extremes of one metric so far; the fields of `records.MetricSummary`."""

    value: float = math.nan
    step: int = 0
    minimum: float | None = None
    minimum_step: int | None = None
    maximum: float | None = None
    maximum_step: int | None = None
    count: int = 0
    nonfinite: int = 0

    def add(self, step: int, value: float) -> None:
        """Take in the next point; of equal extremes the first is kept."""
        self.value, self.step = value, step
        self.count += 1
        if not math.isfinite(value):
            self.nonfinite += 1
            return
        if self.minimum is None or value < self.minimum:
            self.minimum, self.minimum_step = value, step
        if self.maximum is None or value > self.maximum:
            self.maximum, self.maximum_step = value, step

    def extend(self, steps: Sequence[int], values: Sequence[float]) -> None:
        """Take in points in order, at least one, as `add` would take each."""
        if not math.isfinite(sum(values)):  # or their sum overflowed
            for step, value in zip(steps, values, strict=True):
                self.add(step, value)
            return
        self.value, self.step = values[-1], steps[-1]
        self.count += len(values)
        lowest, highest = min(values), max(values)
        if self.minimum is None or lowest < self.minimum:
            self.minimum, self.minimum_step = lowest, steps[values.index(lowest)]
        if self.maximum is None or highest > self.maximum:
            self.maximum, self.maximum_step = highest, steps[values.index(highest)]


def nan_as_null(value: float) -> float | None:
    """Return what is stored for a value: NULL means NaN (see `schema`)."""
    return None if math.isnan(value) else value


def null_as_nan(stored: float | None) -> float:
    """Return the value that was stored."""
    return math.nan if stored is None else stored

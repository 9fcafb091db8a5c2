"""What was tried, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from research_eval.suggest.axes import Floats, Point

WORST = 0.9
"""Share of the losses above which none is told from another: what diverged stands there."""


class Outcome(StrEnum):
    """What is known of a configuration."""

    COMPLETED = "completed"
    PRUNED = "pruned"
    """Ended early; its loss is that of its last evaluation."""
    DIVERGED = "diverged"
    """Its loss, or the metric, is not finite."""
    UNKNOWN = "unknown"
    """It runs, or failed by an error: nothing is learnt from it, and it is not proposed."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One configuration and its runs, all seeds together.

    Attributes:
        loss: Mean of what is to be minimised; NaN where it is not known.
        losses: Of each seed.
        seconds: Mean wall time, None where it is not known.
        run: Id of the best of its runs.
    """

    point: Point
    outcome: Outcome
    losses: tuple[float, ...] = ()
    seconds: float | None = None
    run: str = ""

    @property
    def loss(self) -> float:
        """Mean over seeds."""
        return sum(self.losses) / len(self.losses) if self.losses else math.nan


@dataclass(frozen=True, slots=True)
class Targets:
    """What a model is told: a finite loss for everything that was tried.

    Attributes:
        tried: Those that say something.
        losses: One each. None lies above the 90th percentile, so that one bad run does not hide
            the differences between good ones; what diverged lies there, what was pruned not
            below the median of those that were not.
        counts: Runs behind each.
    """

    tried: tuple[Tried, ...]
    losses: Floats
    counts: Floats


def targets(tried: Sequence[Tried]) -> Targets:
    """Return what a model is told. Nothing completed means nothing is known."""
    known = tuple(each for each in tried if each.outcome is not Outcome.UNKNOWN)
    completed = [each.loss for each in known if each.outcome is Outcome.COMPLETED]
    if not completed:
        return Targets((), np.array([]), np.array([]))
    worst = float(np.quantile(completed, WORST))
    middle = float(np.median(completed))

    def told(each: Tried) -> float:
        match each.outcome:
            case Outcome.DIVERGED:
                return worst
            case Outcome.PRUNED:
                return min(max(each.loss, middle), worst)
        return min(each.loss, worst)

    losses = np.array([told(each) for each in known])
    counts = np.array([max(len(each.losses), 1) for each in known], dtype=float)
    return Targets(known, losses, counts)


def seed_noise(tried: Sequence[Tried]) -> float | None:
    """Return the standard deviation between seeds, pooled over configurations; None if unknown."""
    groups = [np.array(each.losses) for each in tried if len(each.losses) > 1]
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return None
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    return math.sqrt(squares / freedom)

"""Finds the value of a scale at which a cost comes closest to a target.

Costs are taken to grow with the scale and to be smooth but for small steps: a width is a whole
number, whatever the factor that says it. So the bracket is narrowed by false position, and a
guess that stays on its side of the target is followed by one that goes twice as far.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

CostAt = Callable[[float], "Point | None"]
"""Returns the point nearest to a value; None if there is no legal one."""

MAX_EVALUATIONS = 60
FLAT_STEPS = 4
"""Doublings or halvings in a row without a new cost after which there is an end."""

FLAT_GUESSES = 3
"""Guesses in a row without a new cost after which a bracket holds nothing else."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value of the scale, and what it costs."""

    value: float
    cost: float


@dataclass(frozen=True, slots=True)
class Found:
    """The end of a search.

    Attributes:
        best: The point whose cost is closest.
        lacking: "below" if no value costs as little as the target, "above" if none costs as much.
    """

    best: Point
    lacking: Literal["below", "above"] | None = None


@dataclass(frozen=True, slots=True)
class Range:
    """Where values may lie, and where to begin."""

    low: float
    start: float
    high: float


def closest(cost_at: CostAt, target: float, within: Range, exact: float) -> Found | None:
    """Return the value whose cost is closest to a target; None if not even the start is legal.

    Args:
        cost_at: Of a value.
        target: More than 0.
        within: Where to look.
        exact: Relative error at which nothing better is looked for.
    """
    start = cost_at(within.start)
    if start is None:
        return None
    seen = [start]

    def is_done() -> bool:
        return abs(_nearest(seen, target).cost / target - 1) <= exact

    inside = outside = start
    upward = start.cost < target
    while not is_done() and (outside.cost < target) == upward:
        further = _beyond(outside.value, within, upward=upward)
        point = None if further == outside.value else cost_at(further)
        if point is None or point.value == outside.value or _is_flat(seen):
            return Found(_nearest(seen, target), "above" if upward else "below")
        inside, outside = outside, point
        seen.append(point)
    low, high = (inside, outside) if upward else (outside, inside)
    _narrow(cost_at, target, low, high, seen, is_done)
    return Found(_nearest(seen, target))


def _beyond(value: float, within: Range, *, upward: bool) -> float:
    """Return a value twice as far, or the end."""
    if upward:
        return min(2 * value or 1.0, within.high)
    return max(value / 2, within.low)


def _narrow(
    cost_at: CostAt,
    target: float,
    low: Point,
    high: Point,
    seen: list[Point],
    is_done: Callable[[], bool],
) -> None:
    """Add points between two whose costs lie on either side of the target."""
    boost, repeated = 1.0, 0
    from_low = True
    while not is_done() and len(seen) < MAX_EVALUATIONS and repeated < FLAT_GUESSES:
        slope = (high.cost - low.cost) / (high.value - low.value)
        middle = (low.value + high.value) / 2
        if repeated:
            guess = middle
        elif from_low:
            guess = low.value + boost * (target - low.cost) / slope
        else:
            guess = high.value - boost * (high.cost - target) / slope
        if boost > 1 and (guess > middle) == from_low:
            guess = middle
        point = cost_at(guess)
        if point is None or point.value in (low.value, high.value):
            point = cost_at(middle)
            if point is None or point.value in (low.value, high.value):
                return
        seen.append(point)
        repeated = repeated + 1 if point.cost in (low.cost, high.cost) else 0
        stays = (point.cost < target) == from_low
        boost = 2 * boost if stays else 1.0
        from_low = point.cost < target
        low, high = (point, high) if from_low else (low, point)


def _nearest(points: list[Point], target: float) -> Point:
    return min(points, key=lambda point: abs(point.cost - target))


def _is_flat(seen: list[Point]) -> bool:
    """Return whether the last points all cost the same."""
    last = seen[-FLAT_STEPS:]
    return len(last) == FLAT_STEPS and all(math.isclose(p.cost, last[0].cost) for p in last)

"""Parameters as coordinates between 0 and 1, on the scale that each declares.

A logarithmic range is even in the logarithm, ordered options are even by rank, and options without
an order are told apart by a column each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from research_eval.hpo.space import Space, grid_values, rounded
from research_eval.knobs import Choice, Knob, LogUniform, Uniform, is_number

Floats = npt.NDArray[np.float64]


class Point(NamedTuple):
    """A configuration as a search sees it: what stays as it is, and what is searched."""

    arm: str
    params: Mapping[str, Any]

    def key(self) -> tuple[str, frozenset[tuple[str, Any]]]:
        """Return what equal points share, whatever the order of their parameters."""
        return self.arm, frozenset((path, _plain(value)) for path, value in self.params.items())


def _plain(value: Any) -> Any:
    return repr(value) if isinstance(value, list | dict) else value


@dataclass(frozen=True)
class Axis:
    """One parameter.

    Attributes:
        knob: Its range.
        is_integer: Whether its values are whole numbers.
    """

    knob: Knob
    is_integer: bool

    @cached_property
    def values(self) -> tuple[Any, ...]:
        """All values in order; empty if it is continuous."""
        found = grid_values(self.knob, self.is_integer)
        return tuple(sorted(found)) if self.is_ordered else found

    @cached_property
    def is_ordered(self) -> bool:
        """Whether its values have an order."""
        return not isinstance(self.knob, Choice) or all(map(is_number, self.knob.options))

    @cached_property
    def _ends(self) -> tuple[float, float]:
        match self.knob:
            case LogUniform(low=low, high=high):
                return math.log(low), math.log(high)
            case Uniform(low=low, high=high):
                return low, high
        return 0, len(self.values) - 1

    def position(self, value: Any) -> float:
        """Return where a value lies, 0 to 1; the middle for what is no number (null)."""
        if not is_number(value):
            return 0.5
        nearest = self.knob.nearest(value)
        low, high = self._ends
        match self.knob:
            case LogUniform():
                return (math.log(float(nearest or 0)) - low) / (high - low)
            case Uniform():
                return (float(nearest or 0) - low) / (high - low)
        return self.values.index(nearest) / high

    def at(self, position: float) -> Any:
        """Return the value that is closest to a position."""
        low, high = self._ends
        place = low + (high - low) * min(max(position, 0.0), 1.0)
        match self.knob:
            case Choice():
                return self.values[round(place)]
            case Uniform(step=step) if step and not self.is_integer:
                place = low + round((place - low) / step) * step
            case LogUniform():
                place = math.exp(place)
        return self.knob.nearest(rounded(place, self.is_integer))


class Encoding:
    """Points of several arms as rows of one matrix.

    A parameter that arms share with one range is one coordinate. Where an arm lacks it, it is in
    the middle. Arms, and options without an order, have a column each.

    Args:
        spaces: What is searched in each arm.

    Attributes:
        axes: By arm and path.
        groups: Of each column; the columns of one group have one length scale.
    """

    def __init__(self, spaces: Mapping[str, Space]) -> None:
        self.axes = {
            arm: {path: Axis(knob, path in space.integers) for path, knob in space.knobs.items()}
            for arm, space in spaces.items()
        }
        starts: dict[tuple[str, Axis], int] = {}
        groups = [0] * len(spaces) if len(spaces) > 1 else []
        for axes in self.axes.values():
            for named in axes.items():
                if named not in starts:
                    starts[named] = len(groups)
                    width = 1 if named[1].is_ordered else len(named[1].values)
                    groups += [max(groups, default=-1) + 1] * width
        self.groups = np.array(groups, dtype=np.intp)
        self._starts = {
            arm: [(path, axis, starts[path, axis]) for path, axis in axes.items()]
            for arm, axes in self.axes.items()
        }
        self._arms = {arm: place for place, arm in enumerate(spaces)}
        self._middle = np.array([0.5 * self._is_line(starts, c) for c in range(len(groups))])

    @staticmethod
    def _is_line(starts: Mapping[tuple[str, Axis], int], column: int) -> bool:
        return any(start == column and axis.is_ordered for (_, axis), start in starts.items())

    def rows(self, points: Sequence[Point]) -> Floats:
        """Return the points as a matrix of a row each, all entries in 0..1."""
        made = np.tile(self._middle, (len(points), 1))
        for row, (arm, params) in zip(made, points, strict=True):
            if len(self._arms) > 1:
                row[self._arms[arm]] = math.sqrt(0.5)
            for path, axis, start in self._starts[arm]:
                value = params[path]
                if axis.is_ordered:
                    row[start] = axis.position(value)
                elif value in axis.values:
                    row[start + axis.values.index(value)] = math.sqrt(0.5)
        return made

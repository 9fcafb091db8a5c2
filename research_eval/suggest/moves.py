"""Where new points come from: the whole space, or the neighbourhood of one that was tried."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy.stats import qmc

from research_eval.suggest.axes import Axis, Point

FLIPS = 0.12
"""How often a perturbation changes an option that has no order."""

STEPS = 0.5
"""How often it moves a whole number, or an ordered option, by a step or more."""

Axes = Mapping[str, Axis]


def anywhere(arm: str, axes: Axes, rng: np.random.Generator) -> Point:
    """Return a point drawn evenly on the declared scales."""
    places = rng.random(len(axes))
    return Point(
        arm, {path: _at(axis, u) for (path, axis), u in zip(axes.items(), places, strict=True)}
    )


def _at(axis: Axis, share: float) -> Any:
    """Return the value at a share of the range, each of finitely many equally likely."""
    if axis.values:
        return axis.values[min(int(share * len(axis.values)), len(axis.values) - 1)]
    return axis.at(share)


def spread(axes_of: Mapping[str, Axes], seed: int) -> Iterator[Point]:
    """Yield points that fill the space evenly, the arms in turn (Owen's scrambled Sobol)."""
    sequences = {
        arm: qmc.Sobol(max(len(axes), 1), scramble=True, rng=seed + place)
        for place, (arm, axes) in enumerate(axes_of.items())
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # any number of points is balanced enough
        while True:
            for arm, axes in axes_of.items():
                places = sequences[arm].random(1)[0]
                pairs = zip(axes.items(), places, strict=False)
                yield Point(arm, {path: _at(axis, u) for (path, axis), u in pairs})


def near(point: Point, axes: Axes, rng: np.random.Generator, magnitude: float) -> Point:
    """Return a point in which everything is moved on its declared scale.

    Args:
        point: Where to start.
        axes: Of its arm.
        rng: Source of chance.
        magnitude: Standard deviation of a move, as a share of the range. What has finitely many
            ordered values moves by a step at least, half of the time; options without an order
            change now and then.
    """
    moved = {}
    for path, axis in axes.items():
        value = point.params[path]
        often = STEPS if axis.is_ordered else FLIPS
        if not axis.values or rng.random() < often:
            value = _moved(axis, value, rng, magnitude)
        moved[path] = value
    return Point(point.arm, moved)


def few(point: Point, axes: Axes, rng: np.random.Generator, magnitude: float) -> Point:
    """Return a point in which some parameters are moved and the others are as they were."""
    share = rng.choice((0.1, 0.3, 0.6))
    is_moved = rng.random(len(axes)) < share
    if axes and not is_moved.any():
        is_moved[rng.integers(len(axes))] = True
    moved = {
        path: _moved(axis, point.params[path], rng, magnitude) if moves else point.params[path]
        for (path, axis), moves in zip(axes.items(), is_moved, strict=True)
    }
    return Point(point.arm, moved)


def _moved(axis: Axis, value: Any, rng: np.random.Generator, magnitude: float) -> Any:
    if not axis.is_ordered:
        others = [option for option in axis.values if option != value]
        return others[rng.integers(len(others))]
    start = axis.position(value)
    shift = rng.normal(0, magnitude)
    place = start + shift
    if not 0 <= place <= 1:
        place = start - shift  # off the end: the other way
    if not axis.values:
        return axis.at(place)
    here = axis.values.index(axis.knob.nearest(value)) if value is not None else 0
    there = axis.values.index(axis.at(place))
    if there == here:
        there += 1 if shift > 0 else -1
        there = there if 0 <= there < len(axis.values) else 2 * here - there
    return axis.values[there]

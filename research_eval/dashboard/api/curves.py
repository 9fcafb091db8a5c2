"""Curves: metrics of runs or of groups of runs in buckets, and what came later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from research_eval.dashboard.answers import ProblemError, drawn
from research_eval.dashboard.api.runs import group_runs
from research_eval.dashboard.asking import Ask
from research_eval.dashboard.site import MAX_RUNS, Site
from research_eval.store.curves import Curve, Steps

MAX_METRICS = 12
MAX_DRAWN_GROUPS = 30
MIN_BUCKETS, MAX_BUCKETS, USUAL_BUCKETS = 10, 2000, 400
MAX_STEP = 2**62

Floats = npt.NDArray[np.float64]


def series(site: Site, ask: Ask) -> dict[str, Any]:
    """Return metrics of runs, in buckets; `x` is step, relative, wall, or the name of a metric."""
    runs, names = ask.texts("run", most=MAX_RUNS), _metrics(ask)
    x_axis, buckets, steps = ask.text("x", "step", most=600), _buckets(ask), _steps(ask)
    ask.check()
    if not runs:
        raise ProblemError(400, "run names what to draw, for example run=ID&run=ID")
    places = {} if _is_plain(x_axis) else site.browser.curves(x_axis, runs, max_points=MAX_BUCKETS)
    found = []
    for name in names:
        curves = site.browser.curves(
            name, runs, max_points=buckets, steps=steps, with_times=x_axis in ("relative", "wall")
        )
        shown = [
            _told(run, curve, _places(curve, x_axis, places.get(run)))
            for run, curve in curves.items()
        ]
        found.append({"metric": name, "curves": shown})
    return {"x": x_axis, "metrics": found}


def group_series(site: Site, ask: Ask) -> dict[str, Any]:
    """Return the mean of metrics over the runs of each group, in buckets."""
    condition, by = ask.text("q") or None, ask.text("by")
    names, buckets, steps = _metrics(ask), _buckets(ask), _steps(ask)
    ask.check()
    _, groups = group_runs(site, condition, by, ())
    if len(groups) > MAX_DRAWN_GROUPS:
        raise ProblemError(
            400, f"{len(groups)} groups are too many to draw; at most {MAX_DRAWN_GROUPS} fit"
        )
    members = {str(i): [run.experiment_id for run in runs] for i, (_, runs) in enumerate(groups)}
    found = []
    for name in names:
        curves = site.browser.group_curves(name, members, max_points=buckets, steps=steps)
        told = [_told(group, curve, None) for group, curve in curves.items()]
        found.append({"metric": name, "curves": told})
    return {"x": "step", "keys": [key for key, _ in groups], "metrics": found}


def later(site: Site, ask: Ask) -> dict[str, Any]:
    """Return what came after the cursors of curves: `since=RUN:CURSOR`, once for each run."""
    name, given = ask.text("metric", most=600), ask.texts("since", most=MAX_RUNS)
    ask.check()
    if not name:
        raise ProblemError(400, "metric says of what, for example metric=val_loss")
    cursors = dict(_run_and_cursor(text) for text in given)
    news = site.browser.later(name, cursors)
    return {
        "metric": name,
        "runs": {
            run: {
                "is_delta": found.is_delta,
                "cursor": found.cursor,
                "steps": found.first_steps.tolist(),
                "mean": drawn(found.mean),
                "minimum": drawn(found.minimum),
                "maximum": drawn(found.maximum),
                "counts": found.counts.tolist(),
                "nonfinite": found.nonfinite.tolist(),
            }
            for run, found in news.items()
        },
    }


def _run_and_cursor(text: str) -> tuple[str, str]:
    run, colon, cursor = text.rpartition(":")
    if not colon:
        raise ProblemError(400, f"since is a run and its cursor, as in RUN:1.99.100, not '{text}'")
    return run, cursor


def _metrics(ask: Ask) -> list[str]:
    names = ask.texts("metric", most=MAX_METRICS)
    if not names:
        raise ProblemError(400, "metric says what to draw, for example metric=val_loss")
    return names


def _buckets(ask: Ask) -> int:
    return ask.number("buckets", USUAL_BUCKETS, low=MIN_BUCKETS, high=MAX_BUCKETS)


def _steps(ask: Ask) -> Steps | None:
    first = ask.whole("from", None, low=-MAX_STEP, high=MAX_STEP)
    last = ask.whole("to", None, low=-MAX_STEP, high=MAX_STEP)
    if (first is None) != (last is None) or (
        first is not None and last is not None and first > last
    ):
        raise ProblemError(400, "from and to are the first and the last step, and go together")
    return None if first is None or last is None else (first, last)


def _is_plain(x_axis: str) -> bool:
    return x_axis in ("step", "relative", "wall")


def _places(curve: Curve, x_axis: str, other: Curve | None) -> Floats | None:
    """Return where on another axis than steps each bucket lies; NaN where that is not known."""
    if x_axis == "step":
        return None
    if x_axis == "wall":
        return curve.times
    if x_axis == "relative":
        return curve.times - curve.times[:1]
    if other is None:
        return np.full(len(curve.steps), np.nan)
    before = np.searchsorted(other.steps, curve.steps, side="right") - 1
    found: Floats = np.where(before >= 0, other.maximum[before], np.nan)
    return found


def _told(name: str, curve: Curve, places: Floats | None) -> dict[str, Any]:
    """Return a curve as JSON holds it, without what follows from the rest."""
    told: dict[str, Any] = {
        "id": name,
        "width": curve.width,
        "points": int(curve.counts.sum()),
        "cursor": curve.cursor,
        "steps": curve.steps.tolist(),
        "mean": drawn(curve.mean),
        "nonfinite": _sparse(curve.nonfinite),
    }
    if places is not None:
        told["places"] = places.tolist() if not np.isnan(places).any() else drawn(places)
    is_single = curve.width == 0 and not len(curve.deviation)
    if not is_single:
        told |= {"minimum": drawn(curve.minimum), "maximum": drawn(curve.maximum)}
        told["counts"] = curve.counts.tolist()
    if len(curve.deviation):
        told["deviation"] = drawn(curve.deviation)
    return told


def _sparse(counts: npt.NDArray[np.int64]) -> Sequence[Sequence[int]]:
    """Return place and value of what is not zero."""
    return [[int(place), int(counts[place])] for place in np.flatnonzero(counts)]

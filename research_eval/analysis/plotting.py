"""One metric of several runs as a figure, for a notebook or a script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from research_eval.analysis import style
from research_eval.analysis.evidence import arm_of
from research_eval.analysis.outputs.learning_curves import (
    MAX_POINTS,
    by_step,
    draw_band,
    mean_curve,
)
from research_eval.analysis.words import counted
from research_eval.errors import ConfigError, closest, did_you_mean
from research_eval.filters import parse_fields, value_of
from research_eval.metrics import find_metric
from research_eval.records import RunRecord
from research_eval.store import Store
from research_eval.store.browsing import Browser
from research_eval.store.curves import Curve
from research_eval.store.location import locate

MAX_TOLD = 6
"""Runs that have a colour and a name each; more have those of their architectures."""

MAX_GROUPS = 12
MAX_NAME = 32
"""Characters of a name beside its curve."""

LOG_FROM = 100
"""Positive values that span this factor are drawn on a logarithmic axis."""

Runs = RunRecord | str | Iterable[RunRecord | str] | pd.DataFrame


def plot(
    runs: Runs,
    metric: str,
    *,
    group_by: str | None = None,
    db: str | Path | None = None,
    log: bool | None = None,
) -> Figure:
    """Draw how a metric of several runs went.

    The figure needs neither pyplot nor a display: a notebook shows it, `savefig` writes it. Long
    curves are drawn as the mean of neighbouring steps, with a shade from least to greatest; points
    that are NaN or infinite are crosses at the upper edge. What is left out is said in the title.

    Args:
        runs: Records, what a person calls runs (see `Store`), or a table of `Store.frame`.
        metric: Its name.
        group_by: Fields such as "model_type" or "model_type, model_params.top_k": draws the mean
            over the runs of each group, with Student's 95 % interval of the mean at each step.
        db: The store, by path or URL; by default the one that the commands would use.
        log: Whether the metric has a logarithmic axis; None decides by what the values span.

    Raises:
        ConfigError: If there are no runs, none of them has the metric or the field, or the groups
            are too many to tell apart.
        StoreError: If there is no such store, or no such run in it.
    """
    with Store.open(db or locate(create=False), mode="ro") as store, style.house():
        chosen = _chosen(runs, store)
        curves = Browser(store).curves(metric, list(chosen), max_points=MAX_POINTS)
        if not curves:
            known = {name for run in islice(chosen, 20) for name in store.metric_names(run)}
            asked = f"none of {counted(len(chosen), 'run')} has the metric '{metric}'"
            raise ConfigError(f"{asked}; {did_you_mean(metric, known)}")
        made, (axes,) = style.figure(width=7.0, height=4.0)
        drawn = {run: chosen[run] for run in curves}
        if group_by is None:
            picture = _draw_runs(axes, drawn, curves)
        else:
            picture = _draw_groups(axes, drawn, curves, group_by)
        said = picture.said + _draw_nonfinite(axes, curves, picture.colour)
        if missing := len(chosen) - len(drawn):
            said.append(f"{missing} of {counted(len(chosen), 'run')} without {_short(metric)}")
        axes.set_title("\n".join(said), color=style.MUTED, fontsize=8)
        _set_axes(axes, metric, is_log=_spans_decades(curves) if log is None else log)
        made.draw_without_rendering()  # so that names lie apart on axes of their final height
        style.label_ends(axes, picture.ends, picture.shade)
        return made


class _Drawn(NamedTuple):
    """What was drawn: names at ends of curves, colours of names and of runs, and sentences."""

    ends: list[tuple[str, float, float]]
    shade: dict[str, str]
    colour: dict[str, str]
    said: list[str]


def _chosen(runs: Runs, store: Store) -> dict[str, RunRecord]:
    """Return the runs that are meant, by id."""
    if isinstance(runs, pd.DataFrame):
        table = runs if "experiment_id" in runs.columns else runs.reset_index()
        if "experiment_id" not in table.columns:
            raise ConfigError("a table of runs needs the column or the index experiment_id")
        runs = table["experiment_id"].astype(str).tolist()
    named = [runs] if isinstance(runs, RunRecord | str) else list(runs)
    if not named:
        raise ConfigError("there are no runs to plot: the list is empty")
    for run in named:
        if not isinstance(run, RunRecord | str):
            raise ConfigError(f"a run is a RunRecord or its name, not {type(run).__name__}")
    is_many = sum(isinstance(run, str) for run in named) > MAX_TOLD
    by_id = {run.experiment_id: run for run in store.runs(metrics=())} if is_many else {}
    found = (
        run if isinstance(run, RunRecord) else by_id.get(run) or store.run(run) for run in named
    )
    return {run.experiment_id: run for run in found}


def _draw_runs(axes: Axes, runs: dict[str, RunRecord], curves: dict[str, Curve]) -> _Drawn:
    """Draw each run; the shade of a long one reaches from its least to its greatest value."""
    is_told = len(runs) <= MAX_TOLD
    names = _names(list(runs.values())) if is_told else {i: arm_of(r) for i, r in runs.items()}
    labels = {name: name for name in names.values()}
    if not is_told:
        labels = {name: f"{_short(name)} ({n})" for name, n in Counter(names.values()).items()}
    colour = style.colours(labels)
    ends: dict[str, tuple[str, float, float]] = {}
    for run, curve in curves.items():
        name = names[run]
        table = pd.DataFrame({"step": curve.steps, "value": curve.mean})
        table = table.assign(low=np.nan, high=np.nan)
        if curve.width:
            table = table.assign(low=curve.minimum, high=curve.maximum)
        table = table[~table["step"].duplicated(keep="last") & table["value"].notna()]
        if len(table):
            end = (labels[name], *draw_band(axes, table, colour[name]))
            ends[name] = max(end, ends.get(name, end), key=itemgetter(1))
    if not is_told:
        for line in axes.lines:
            line.set_linewidth(0.8)
    said = [] if is_told else [f"{counted(len(runs), 'run')}; group_by=... draws means"]
    if width := _width(curves):
        said.append(f"long curves: mean of {width:,} steps, shaded from least to greatest")
    if len(ends) > MAX_GROUPS:
        said.append(f"{MAX_GROUPS} of {len(ends)} kinds of runs are named")
    named = {labels[name]: shade for name, shade in colour.items()}
    by_run = {run: colour[name] for run, name in names.items()}
    return _Drawn(list(ends.values())[:MAX_GROUPS], named, by_run, said)


def _draw_groups(
    axes: Axes, runs: dict[str, RunRecord], curves: dict[str, Curve], group_by: str
) -> _Drawn:
    """Draw the mean of each group with its interval, and how many runs are in it."""
    fields = parse_fields(group_by)
    groups: dict[str, list[str]] = {}
    for run, record in runs.items():
        values = [_told(value_of(record, field)) for field in fields]
        groups.setdefault(", ".join(values), []).append(run)
    if all(value_of(record, field) is None for record in runs.values() for field in fields):
        known = {path for record in runs.values() for path in record.params}
        raise ConfigError(f"none of the runs has '{group_by}'; {closest(group_by, known)}".rstrip())
    if len(groups) > MAX_GROUPS:
        told = f"{group_by} makes {len(groups)} groups, and {MAX_GROUPS} can be told apart"
        raise ConfigError(f"{told}; choose fewer runs or another field")
    colour, used = style.colours(groups), Counter[str]()
    ends, named = [], {}
    for group, members in sorted(groups.items()):
        mean = mean_curve(
            group, [by_step(curves[r].steps.astype(float), curves[r].mean) for r in members]
        )
        if mean.empty:
            continue
        few, many = int(mean["seeds"].min()), int(mean["seeds"].max())
        label = f"{_short(group)} (n = {few if few == many else f'{few} to {many}'})"
        line = ("-", "--", ":", "-.")[used[colour[group]] % 4]
        used[colour[group]] += 1
        named[label] = colour[group]
        ends.append((label, *draw_band(axes, mean, colour[group], line)))
    by_run = {run: colour[group] for group, members in groups.items() for run in members}
    said = f"mean of n runs by {_short(group_by)}, with the 95 % t-interval"
    if width := _width(curves):
        said += f"; of long curves the mean of {width:,} steps"
    return _Drawn(ends, named, by_run, [said])


def _draw_nonfinite(axes: Axes, curves: dict[str, Curve], colour: dict[str, str]) -> list[str]:
    """Mark the steps at which a run has a value that is not finite; return what there is to say."""
    total, never = 0, 0
    for run, curve in curves.items():
        steps = curve.steps[curve.nonfinite > 0]
        total += int(curve.nonfinite.sum())
        never += not np.isfinite(curve.mean).any()
        if len(steps):
            axes.plot(
                steps, np.ones(len(steps)), "x", color=colour[run], markersize=6,
                transform=axes.get_xaxis_transform(), clip_on=False,
            )  # fmt: skip
    said = f"x: {counted(total, 'point')} NaN or infinite"
    return [f"{said}; {counted(never, 'run')} never finite" if never else said] if total else []


def _set_axes(axes: Axes, metric: str, *, is_log: bool) -> None:
    known = find_metric(metric) or find_metric(f"final_{metric}")
    unit = f" ({known.unit})" if known and known.unit else ""
    axes.set(xlabel="step", ylabel=_short(metric) + unit)
    if is_log:
        style.log_scale(axes, y=True)
    elif known and known.is_share:
        low, high = axes.get_ylim()  # an interval of few runs may reach beyond
        axes.set_ylim(max(low, -0.02), min(high, 1.02))


def _names(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return a name for each run by its id; equal names are followed by the id."""
    short = {run.experiment_id: _short(run.experiment_name) for run in runs}
    used = Counter(short.values())
    return {run: name if used[name] == 1 else f"{name} {run[:12]}" for run, name in short.items()}


def _told(value: object) -> str:
    if value is None or value == ():
        return "none"
    return "+".join(value) if isinstance(value, tuple) else str(value)


def _short(name: str) -> str:
    line = " ".join(name.split())
    return line if len(line) <= MAX_NAME else f"{line[: MAX_NAME - 1]}…"


def _width(curves: dict[str, Curve]) -> int:
    return max(curve.width for curve in curves.values())


def _spans_decades(curves: dict[str, Curve]) -> bool:
    values = np.concatenate([curve.mean[np.isfinite(curve.mean)] for curve in curves.values()])
    return bool(len(values) and values.min() > 0 and values.max() >= LOG_FROM * values.min())

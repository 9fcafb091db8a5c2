"""Which parameters decide whether a configuration is among the best, by architecture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from research_eval.analysis import style
from research_eval.analysis.arms import by_arm
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import NothingToShowError, Output
from research_eval.analysis.ped_anova import Ints, best_trials, divergence, grid_places
from research_eval.analysis.trials import trials_of
from research_eval.knobs import is_number

MIN_TRIALS = 20
"""Trials below which nothing is said about a parameter."""

BEST_SHARE, MIN_BEST = 0.1, 5
"""The best trials are the best tenth, but at least so many: fewer say little."""

SAMPLES = 200
"""Bootstrap samples of the trials."""

MAX_BARS = 10
"""Parameters that are drawn of each architecture."""

Grid = tuple[Ints, int, bool]


def frame(evidence: Evidence) -> pd.DataFrame:
    """Return the importance of each parameter that was varied within an arm.

    Columns: `arm`, `parameter`; `importance`, its share of the sum over the arm's parameters;
    `low`, `high`, between which 95 % of bootstrap samples of the trials put it; `first`, share of
    the samples in which it is the most important one; `n_trials` in which the parameter has a
    value; `scale`, "linear", "log", "ordered" or "options"; `note`, "insufficient" where there are
    fewer than 20 trials, and then no numbers.

    Raises:
        NothingToShowError: If no arm varied anything that has a declared range.
    """
    trials = trials_of(evidence)
    trials = trials[trials["score"].notna()]
    parts = [_of_arm(arm, own, evidence) for arm, own in by_arm(trials, evidence)]
    found = pd.concat([pd.DataFrame(columns=_COLUMNS), *filter(len, parts)], ignore_index=True)
    if found.empty:
        raise NothingToShowError(
            "no parameter with a declared range was varied in any architecture"
        )
    return found


_COLUMNS = ["arm", "parameter", "importance", "low", "high", "first", "n_trials", "scale", "note"]


def _of_arm(arm: str, trials: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    knobs = _knobs(arm, trials, evidence)
    params = [evidence.runs[run].params for run in trials["run"]]
    rows = []
    for path in knobs:
        is_option = None in knobs[path].get("options", ())
        has_value = np.array(
            [path in each and (is_option or each[path] is not None) for each in params]
        )
        values = [each[path] for each, has in zip(params, has_value, strict=True) if has]
        if len(set(map(str, values))) > 1:
            grid = _on_grid(values, knobs[path])
            quality = evidence.question.sign * trials["score"].to_numpy()[has_value]
            scale = _SCALES[knobs[path]["kind"]] if grid[2] else "options"
            rows.append({"parameter": path, "scale": scale, **_importance(grid, quality)})
    if not rows:
        return pd.DataFrame()
    found = pd.DataFrame(rows).assign(arm=arm)
    return _shares(found).sort_values("importance", ascending=False, kind="stable")


_SCALES = {"LogUniform": "log", "Uniform": "linear", "Choice": "ordered"}


def _knobs(arm: str, trials: pd.DataFrame, evidence: Evidence) -> Mapping[str, Mapping[str, Any]]:
    """Return the range of each parameter: the declared one, or the one that a study was given."""
    knobs = dict(evidence.knobs(arm))
    for study in trials["study"].unique():
        knobs |= evidence.studies.get(study, {}).get("spaces", {}).get(arm, {})
    return knobs


def _on_grid(values: list[Any], knob: Mapping[str, Any]) -> Grid:
    """Return the place of each value, the number of places, and whether they are in order."""
    if not all(map(is_number, values)):
        texts = [json.dumps(value, sort_keys=True) for value in values]
        known = (json.dumps(option, sort_keys=True) for option in knob.get("options", ()))
        options = sorted({*texts, *known})
        return np.array([options.index(text) for text in texts]), len(options), False
    numbers = np.array(values, dtype=float)
    if knob["kind"] == "Choice":
        _, ranks = np.unique(numbers, return_inverse=True)
        return *grid_places(ranks.astype(float)), True
    if knob["kind"] == "LogUniform" and (numbers > 0).all():
        numbers = np.log(numbers)
    elif knob.get("step"):
        numbers = np.round(numbers / knob["step"], 6)
    return *grid_places(numbers), True


def _importance(grid: Grid, quality: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Return the divergence of a parameter over all trials and over bootstrap samples of them."""
    places, size, is_ordered = grid
    number = len(quality)
    told = {"n_trials": number, "importance": np.nan, "samples": None, "note": ""}
    if number < MIN_TRIALS:
        return told | {"note": f"insufficient: {number} of {MIN_TRIALS} trials"}
    drawn = np.random.default_rng(0).integers(0, number, (SAMPLES, number))
    chosen = np.concatenate([np.arange(number)[None], drawn])
    best = best_trials(quality[chosen], max(BEST_SHARE, MIN_BEST / number))
    found = divergence(places[chosen], best, size, is_ordered=is_ordered)
    return told | {"importance": found[0], "samples": found[1:]}


def _shares(found: pd.DataFrame) -> pd.DataFrame:
    """Turn divergences into shares of their sum, over the trials and within each sample."""
    enough = found["samples"].notna()
    if not enough.any():
        return found.assign(low=np.nan, high=np.nan, first=np.nan)[_COLUMNS]
    samples_PB = np.stack(list(found.loc[enough, "samples"]))
    shares_PB = samples_PB / np.maximum(samples_PB.sum(axis=0), 1e-300)
    low, high = np.quantile(shares_PB, [0.025, 0.975], axis=1)
    is_first = shares_PB == shares_PB.max(axis=0)
    found["importance"] /= max(found["importance"].sum(), 1e-300)
    columns = {"low": low, "high": high, "first": (is_first / is_first.sum(axis=0)).mean(axis=1)}
    found.loc[enough, list(columns)] = np.column_stack(list(columns.values()))
    return found[_COLUMNS]


def sentences(frame: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Say what matters most in each architecture, and how sure that is."""
    said = []
    for arm, rows in by_arm(frame, evidence):
        known = rows[rows["importance"].notna()]
        if known.empty:
            most = int(rows["n_trials"].max())
            said.append(
                f"{arm}: insufficient, {most} of the {MIN_TRIALS} trials that a parameter needs; "
                f"more: research-eval hpo --model-type {arm}."
            )
            continue
        top = known.iloc[0]
        said.append(
            f"{arm}: {top['parameter']} decides most ({top['importance']:.0%} of the importance, "
            f"{top['low']:.0%} to {top['high']:.0%} over bootstrap samples; first in "
            f"{top['first']:.0%} of them; {top['n_trials']} trials)."
        )
        weak = [str(row.parameter) for row in rows.itertuples() if row.note]
        if weak:
            said.append(f"{arm}: insufficient trials with {', '.join(weak)}.")
    return said


def draw(frame: pd.DataFrame, evidence: Evidence) -> Figure:
    """Return the most important parameters of each arm with their intervals.

    Raises:
        NothingToShowError: If no arm has enough trials.
    """
    known = frame[frame["importance"].notna()]
    if known.empty:
        raise NothingToShowError(f"no architecture has {MIN_TRIALS} trials of a parameter")
    shown = {arm: rows.head(MAX_BARS)[::-1] for arm, rows in by_arm(known, evidence)}
    columns = min(style.side_by_side(2), len(shown))
    lines = -(-len(shown) // columns)
    tallest = max(map(len, shown.values()))
    made, axes = style.figure(
        width=4.9 * columns,
        height=(0.7 + 0.24 * tallest) * lines + 0.3,
        rows=lines,
        columns=columns,
    )
    colour = style.colours(evidence.arms)
    for panel, (arm, rows) in zip(axes, shown.items(), strict=False):
        panel.barh(rows["parameter"], rows["importance"], color=colour[arm], alpha=0.35, height=0.6)
        place = np.arange(len(rows))
        panel.hlines(place, rows["low"], rows["high"], color=colour[arm], linewidth=1.5)
        panel.plot(rows["importance"], place, "o", color=colour[arm], markersize=4)
        title = f"{style.short(arm)}, {rows['n_trials'].max()} trials"
        panel.set_title(title, color=colour[arm])
        panel.set_xlim(left=0)
        panel.grid(visible=False, axis="y")
    for panel in axes[max(0, len(shown) - columns) : len(shown)]:
        panel.set_xlabel("share of the importance")
    for unused in axes[len(shown) :]:
        unused.remove()
    return made


OUTPUTS = (
    Output(
        name="importance",
        title="Which parameters matter",
        order=60,
        meaning=(
            "PED-ANOVA (Watanabe et al. 2023): how differently a parameter is distributed among "
            "the best tenth of an architecture's trials (5 at least) and among all of them, as a "
            "share of the sum. Lines reach over 95 % of bootstrap samples of the trials. It says "
            "what mattered where the search looked, not beyond."
        ),
        frame=frame,
        draw=draw,
        sentences=sentences,
    ),
)

"""How the deciding metric went during training, over the seeds of each architecture's best."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import stdtrit

from research_eval.analysis import style
from research_eval.analysis.arms import by_arm, choose_all
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import NothingToShowError, Output, require_course
from research_eval.analysis.words import counted, listed
from research_eval.records import RunStatus

MAX_POINTS = 400
"""Steps of a curve that are kept; a longer one is read in buckets."""

MAX_ENDED = 8
"""Pruned runs, and as many diverged ones, that are drawn of each architecture: the latest."""

_ENDED = {RunStatus.PRUNED: "pruned", RunStatus.DIVERGED: "diverged"}

Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def frame(evidence: Evidence) -> pd.DataFrame:
    """Return the mean curve of each arm's chosen configuration, and curves that ended early.

    Columns: `arm`; `kind`, "mean" over seeds, "pruned" or "diverged"; `run`, empty for a mean;
    `step`; `value`; `low` and `high`, 95 % t-interval over seeds, NaN for fewer than two; `seeds`
    that are in the mean at this step.

    Raises:
        NothingToShowError: If the metric has no curve, or no run has points of it.
    """
    metric = evidence.question.history
    if metric is None:
        raise NothingToShowError(f"{evidence.question.metric} has no points during training")
    seeds = {arm: chosen.runs for arm, chosen in choose_all(evidence).items()}
    ended = _ended(evidence, metric)
    wanted = [*(run for runs in seeds.values() for run in runs), *ended]
    curves = _read(evidence, metric, wanted)
    parts = [
        mean_curve(arm, [curves[run] for run in runs if run in curves])
        for arm, runs in seeds.items()
    ]
    parts += [
        pd.DataFrame({"arm": arm, "kind": kind, "run": run, "step": steps, "value": values})
        for run, (arm, kind) in ended.items()
        for steps, values in [curves.get(run, ((), ()))]
    ]
    found = pd.concat([_EMPTY, *(part for part in parts if len(part))], ignore_index=True)
    if found.empty:
        raise NothingToShowError(f"no run recorded {metric} during training")
    return found.astype(dict.fromkeys(("step", "value", "low", "high", "seeds"), float))


_EMPTY = pd.DataFrame(
    columns=["arm", "kind", "run", "step", "value", "low", "high", "seeds"], dtype=object
)


def _ended(evidence: Evidence, metric: str) -> dict[str, tuple[str, str]]:
    """Return arm and kind of the runs that ended early and have a curve, the latest of each."""
    table = evidence.table
    found: dict[str, tuple[str, str]] = {}
    for status, kind in _ENDED.items():
        for arm, runs in table[table["status"] == str(status)].groupby("arm"):
            known = [run for run in runs.index if metric in evidence.runs[run].metrics]
            found |= {run: (str(arm), kind) for run in known[-MAX_ENDED:]}
    return found


def _read(evidence: Evidence, metric: str, runs: Iterable[str]) -> dict[str, Curve]:
    """Return the finite points of each run, one for each step: the last that was recorded."""
    counts = {
        run: summary.count for run in runs if (summary := evidence.runs[run].metrics.get(metric))
    }
    short = [run for run, count in counts.items() if count <= MAX_POINTS]
    curves = {
        run: (history.steps.astype(float), history.values)
        for run, history in evidence.histories(metric, short).items()
    }
    for run in counts.keys() - set(short):
        series = evidence.reader.series(run, metric, max_points=MAX_POINTS)
        curves[run] = (series.last_steps.astype(float), series.mean)
    return {run: by_step(*curve) for run, curve in curves.items()}


def by_step(steps: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> Curve:
    """Return the finite points of a curve; of a repeated step the last."""
    is_last = np.append(steps[1:] != steps[:-1], True) & np.isfinite(values)
    return steps[is_last], values[is_last]


def mean_curve(arm: str, curves: Iterable[Curve]) -> pd.DataFrame:
    """Return mean and interval of curves on the union of their steps; see `frame` for columns.

    Between two points of a run its curve is a straight line; before the first and after the last
    the run is not in the mean.
    """
    known = [curve for curve in curves if len(curve[0])]
    if not known:
        return pd.DataFrame()
    step = np.unique(np.concatenate([steps for steps, _ in known]))
    values_RS = np.stack([np.interp(step, *curve, left=np.nan, right=np.nan) for curve in known])
    seeds = np.isfinite(values_RS).sum(axis=0)
    mean = np.nanmean(values_RS, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = np.sqrt(np.nansum((values_RS - mean) ** 2, axis=0) / (seeds - 1))
        half = np.where(seeds > 1, stdtrit(seeds - 1.0, 0.975) * deviation / np.sqrt(seeds), np.nan)
    return pd.DataFrame(
        {
            "arm": arm,
            "kind": "mean",
            "run": "",
            "step": step,
            "value": mean,
            "low": mean - half,
            "high": mean + half,
            "seeds": seeds,
        }
    )


def sentences(frame: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Say what is drawn of how many, and which curves have no band."""
    said = []
    means = frame[frame["kind"] == "mean"]
    alone = [arm for arm, curve in by_arm(means, evidence) if curve["seeds"].max() < 2]
    if alone:
        said.append(
            f"{listed(alone)}: one seed only, so there is no band; more seeds: research-eval "
            "run cfg.json --seeds 3."
        )
    for status, kind in _ENDED.items():
        total = int((evidence.table["status"] == str(status)).sum())
        shown = frame.loc[frame["kind"] == kind, "run"].nunique()
        if total:
            drawn = "" if shown == total else f", {shown} of them drawn"
            said.append(f"{kind.capitalize()}: {counted(total, 'run')}{drawn}.")
    return said


def draw(frame: pd.DataFrame, evidence: Evidence) -> Figure:
    """Return the mean curves with bands; pruned ones dashed, diverged ones ending in a cross.

    Raises:
        NothingToShowError: If all points are of one step.
    """
    require_course(frame["step"])
    made, (axes,) = style.figure(width=7.0, height=4.0)
    colour = style.colours(evidence.arms)
    low, high = _limits(frame, is_share=evidence.question.is_share)
    for arm, curves in by_arm(frame[frame["kind"] != "mean"], evidence):
        for _, curve in curves.groupby("run", sort=False):
            inside = curve.assign(value=curve["value"].clip(low, high))
            _ended_line(axes, inside, colour[arm])
    ends = []
    for arm, curve in by_arm(frame[frame["kind"] == "mean"], evidence):
        ends.append((arm, *draw_band(axes, curve, colour[arm])))
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel(_label(evidence))
    axes.set_ylim(low, high)
    style.label_ends(axes, ends, colour)
    return made


def draw_band(axes: Axes, curve: pd.DataFrame, colour: str, line: str = "-") -> tuple[float, float]:
    """Draw `value` over `step` and a band from `low` to `high`; return where the line ends."""
    marker = "o" if len(curve) <= 30 else None
    step, value = curve["step"], curve["value"]
    axes.plot(step, value, color=colour, linestyle=line, marker=marker, markersize=3)
    if curve["low"].notna().any():
        axes.fill_between(step, curve["low"], curve["high"], color=colour, alpha=0.2, linewidth=0)
    return float(step.iloc[-1]), float(value.iloc[-1])


def _limits(frame: pd.DataFrame, *, is_share: bool) -> tuple[float, float]:
    """Return the values between which there is something to see: diverged runs go beyond."""
    calm = frame[frame["kind"] != "diverged"]
    values = (frame if calm.empty else calm)[["value", "low", "high"]].to_numpy()
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if is_share:
        low, high = max(low, 0.0), min(high, 1.0)  # an interval of few seeds may reach beyond
    room = 0.04 * (high - low) or 0.04 * abs(high) or 0.04
    return low - room, high + room


def _label(evidence: Evidence) -> str:
    question = evidence.question
    return question.label.replace(question.metric, str(question.history))


def _ended_line(axes: Axes, curve: pd.DataFrame, colour: str) -> None:
    axes.plot(curve["step"], curve["value"], color=colour, linestyle="--", linewidth=0.8, alpha=0.6)
    last = curve.iloc[-1]
    if last["kind"] == "diverged":
        axes.plot(last["step"], last["value"], color=colour, marker="x", markersize=7)


OUTPUTS = (
    Output(
        name="learning_curves",
        title="Learning curves",
        order=70,
        meaning=(
            "The deciding metric on the validation split during training: mean over the seeds of "
            "each architecture's chosen configuration, with the 95 % t-interval at each step. Runs "
            "that were pruned are dashed; a cross ends those that diverged."
        ),
        frame=frame,
        max_rows=8,
        draw=draw,
        sentences=sentences,
    ),
)

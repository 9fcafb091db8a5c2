"""Which configurations no other one beats in quality and cost, for each kind of cost."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from research_eval.analysis import style
from research_eval.analysis.arms import by_arm
from research_eval.analysis.costs import Cost, judge, measured, points
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import NothingToShowError, Output
from research_eval.analysis.words import counted, listed
from research_eval.quantities import number

COSTS = (
    Cost(name="params", metrics=("param_count",), label="parameters"),
    Cost(
        name="active_params",
        metrics=("active_param_count",),
        label="parameters that one token passes",
    ),
    Cost(name="flops", metrics=("flops_per_token",), label="forward FLOPs per token"),
    Cost(
        name="latency",
        metrics=("inference_latency_ms_batch_p50", "inference_latency_ms_batch"),
        label="forward time of a batch",
        unit="ms",
        is_timing=True,
    ),
    Cost(
        name="memory",
        metrics=("peak_memory_mb",),
        label="peak memory",
        unit="MiB",
        is_of_machine=True,
    ),
)

_COLUMNS = [
    *("arm", "run", "status", "quality", "quality_low", "quality_high"),
    *("cost", "cost_low", "cost_high", "n", "condition", "hypervolume"),
    *("reference_quality", "reference_cost", "configuration"),
]

_STATUSES = ["front", "tied", "behind", "dominated"]

_NAMED = ["arm", "run", "quality", "cost"]

MAX_NAMED = 6
"""Configurations of a front that are named in a sentence; the table has all."""

MAX_PANELS = 4
"""Conditions that are drawn: those with the most configurations."""

MAX_CROSSES = 40
"""Points up to which all of them have their intervals drawn; beyond it, those of the front."""


def frame(cost: Cost, evidence: Evidence) -> pd.DataFrame:
    """Return a row for each configuration and condition of measurement.

    Conditions with the most configurations come first, and fronts before what is behind them. What
    the columns are, `costs.points` and `costs.judge` say.

    Raises:
        NothingToShowError: If no run has both the cost and the deciding metric.
    """
    found = points(cost, evidence)
    if found.empty:
        _, contended = measured(cost, evidence)
        if contended:
            raise NothingToShowError(
                f"all {counted(contended, 'timing')} shared the machine with other work; measured "
                "alone: research-eval evaluate ID --latency"
            )
        names = " or ".join(cost.metrics)
        raise NothingToShowError(f"no run recorded {names} beside {evidence.question.metric}")
    conditions = found["condition"].value_counts().index
    judged = [judge(found[found["condition"] == c], evidence.question.sign) for c in conditions]
    ranked = [own.sort_values(["status", "cost"], key=_rank) for own in judged]
    return pd.concat(ranked, ignore_index=True)[_COLUMNS]


def _rank(column: pd.Series[Any]) -> pd.Series[Any]:
    return column.map(_STATUSES.index) if column.name == "status" else column


def sentences(cost: Cost, frame: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Name each front, what is tied with it, its reference point, and what was left out."""
    said = []
    conditions = list(dict.fromkeys(frame["condition"]))
    for condition in conditions[:MAX_PANELS]:
        own = frame[frame["condition"] == condition]
        said += _front(cost, own, f" on {condition}" if condition else "", evidence)
    if len(conditions) > MAX_PANELS:
        more = counted(len(conditions) - MAX_PANELS, "further condition")
        said.append(f"{more} of measurement in the table only.")
    if (frame["n"] < 2).all():
        said.append("No configuration has two seeds here, so nothing is known about noise.")
    _, contended = measured(cost, evidence)
    if contended:
        said.append(f"{counted(contended, 'timing')} left out: other work shared the machine.")
    return said


def _front(cost: Cost, own: pd.DataFrame, where: str, evidence: Evidence) -> list[str]:
    front = own[own["status"] == "front"].sort_values("cost")
    named = [
        f"{arm} {run} ({number(quality)} at {number(spent)})"
        for arm, run, quality, spent in front.head(MAX_NAMED)[_NAMED].itertuples(index=False)
    ]
    more = len(front) - len(named)
    named += [counted(more, "more", "more")] if more > 0 else []
    tied = int((own["status"] == "tied").sum())
    said = (
        f"Nothing beats {listed(named)} in both {evidence.question.metric} and {cost.label}{where}"
    )
    if tied:
        said += f"; {tied} {'is' if tied == 1 else 'are'} behind them only within noise"
    behind = int((own["status"] == "behind").sum())
    if behind:
        others = "the other one is" if behind == 1 else f"the {behind} others are"
        said += f"; whether {others} behind by more than noise is unknown"
    single = int((front["n"] < 2).sum())
    if single and (own["n"] > 1).any():
        said += f"; {single} of the front {'has' if single == 1 else 'have'} one seed only"
    volumes = [f"{arm} {rows['hypervolume'].iloc[0]:.2f}" for arm, rows in by_arm(own, evidence)]
    reference = own.iloc[0]
    if own["hypervolume"].isna().all():
        return [f"{said}."]
    return [
        f"{said}.",
        f"Hypervolume{where} up to the reference point ({number(reference['reference_cost'])}, "
        f"{number(reference['reference_quality'])}), as a share of the box: {listed(volumes)}.",
    ]


def draw(cost: Cost, frame: pd.DataFrame, evidence: Evidence) -> Figure:
    """Return one panel for each condition of measurement."""
    conditions = list(dict.fromkeys(frame["condition"]))[:MAX_PANELS]
    columns = min(style.side_by_side(2), len(conditions))
    rows = -(-len(conditions) // columns)
    made, axes = style.figure(
        width=4.8 * columns if columns > 1 else 6.4,
        height=3.8 * rows,
        rows=rows,
        columns=columns,
        sharey=True,
    )
    for panel, condition in zip(axes, conditions, strict=False):
        _panel(panel, frame[frame["condition"] == condition], evidence)
        panel.set_title(condition)
        panel.set_xlabel(f"{cost.label} ({cost.unit})" if cost.unit else cost.label)
    for panel in axes[::columns]:
        panel.set_ylabel(evidence.question.label)
    for unused in axes[len(conditions) :]:
        unused.remove()
    return made


def _panel(axes: Axes, own: pd.DataFrame, evidence: Evidence) -> None:
    colour = style.colours(evidence.arms)
    markers = dict(zip(evidence.arms, style.MARKERS * len(evidence.arms), strict=False))
    front = own[own["status"] == "front"].sort_values("cost")
    axes.plot(
        front["cost"], front["quality"], color=style.MUTED, linewidth=1, drawstyle="steps-post"
    )
    labels = []
    for arm, mine in by_arm(own, evidence):
        for status in reversed(_STATUSES):
            some, filled = mine[mine["status"] == status], status == "front"
            alpha = 0.3 if status == "dominated" else 1.0
            axes.plot(
                some["cost"],
                some["quality"],
                markers[arm],
                color=colour[arm],
                markerfacecolor=colour[arm] if filled else "white",
                markersize=6 if filled else 5,
                alpha=alpha,
                linestyle="none",
            )
            if status != "dominated" or len(own) <= MAX_CROSSES:
                _crosses(axes, some[some["n"] > 1], to_rgba(colour[arm], 0.7 * alpha))
        best = mine.iloc[(evidence.question.sign * mine["quality"]).argmax()]
        labels.append((arm, float(best["cost"]), float(best["quality"])))
    style.log_scale(axes, x=True)
    style.label_ends(axes, labels, colour)


def _crosses(axes: Axes, some: pd.DataFrame, colour: tuple[float, float, float, float]) -> None:
    axes.hlines(some["quality"], some["cost_low"], some["cost_high"], colour, linewidth=0.9)
    axes.vlines(some["cost"], some["quality_low"], some["quality_high"], colour, linewidth=0.9)


OUTPUTS = tuple(
    Output(
        name=f"pareto_{cost.name}",
        title=f"Quality against {cost.label}",
        order=50 + place,
        meaning=(
            "Each point is a configuration, the mean over its seeds, with 95 % t-intervals as "
            "crosses. Filled ones are on the front: no other configuration is better in both. "
            "Hollow ones are behind it only within noise (Welch), or none has two seeds to tell; "
            "pale ones clearly."
        ),
        frame=partial(frame, cost),
        draw=partial(draw, cost),
        sentences=partial(sentences, cost),
        file=f"{{dataset}}_{{score}}_vs_{cost.name}",
    )
    for place, cost in enumerate(COSTS)
)

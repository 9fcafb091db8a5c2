"""Numbers about experts over training: balance, death, dropped tokens, decisiveness, coupling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from research_eval.analysis import style
from research_eval.analysis.arms import by_arm, choose_all
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import NothingToShowError, Output, require_course
from research_eval.analysis.words import listed
from research_eval.metrics import EXPERT_METRICS, METRICS

DRAWN = (
    "val_load_entropy",
    "val_load_max_violation",
    "val_dead_experts",
    "train_drop_rate",
    "val_fall_through_rate",
    "val_router_entropy",
    "val_specialisation",
    "val_coupling_entropy",
    "val_coupling_asymmetry",
    "val_path_length",
    "val_effective_paths",
    "val_pool_load_entropy",
)
"""What is drawn, as far as it was recorded; the table has all."""

MAX_SEEDS = 10
"""Seeds of an architecture that are looked at: the first."""


MIN_SPAN = 0.05
"""Of an axis, as a share of its largest value: noise shall not look like change."""

SMALL_PANEL = 1.6
"""Inches that a panel needs on paper beside another one: its curves are few and smooth."""

_DROPPED = [metric for metric in METRICS if metric.name.startswith("train_drop_rate")]

_LAYERED = "_layer{layer}"


def frame(evidence: Evidence) -> pd.DataFrame:
    """Return all points of all measures, for the chosen configuration of each arm.

    Columns: `arm`, `run`, `measure`, `layer` (-1 for what is not of a layer), `step`, `value`.

    Raises:
        NothingToShowError: If none of these runs recorded anything about experts.
    """
    arm_of = {
        run: arm for arm, chosen in choose_all(evidence).items() for run in chosen.runs[:MAX_SEEDS]
    }
    recorded = dict.fromkeys(name for run in arm_of for name in evidence.runs[run].metrics)
    parts = []
    for metric in (*EXPERT_METRICS, *_DROPPED):
        measure = metric.name.removesuffix(_LAYERED)
        for name, layer in _of_metric(metric.name, recorded):
            for run, history in evidence.histories(name, arm_of).items():
                where = {"arm": arm_of[run], "run": run, "measure": measure, "layer": layer}
                points = {"step": history.steps, "value": history.values}
                parts.append(pd.DataFrame(where | points))
    if not parts:
        raise NothingToShowError("no chosen run recorded anything about experts")
    return pd.concat(parts, ignore_index=True)


def _of_metric(pattern: str, recorded: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield the recorded names of a metric, and the layer of each."""
    prefix = pattern.removesuffix("{layer}")
    for name in recorded:
        layer = name.removeprefix(prefix)
        if name == pattern:
            yield name, -1
        elif prefix != pattern and name.startswith(prefix) and layer.isdecimal():
            yield name, int(layer)


def sentences(frame: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Say where experts tell domains or labels apart better than chance."""
    last = frame.loc[frame.groupby(["run", "measure", "layer"])["step"].idxmax()]
    said = []
    for arm, own in by_arm(last, evidence):
        means = own.pivot_table(index="layer", columns="measure", values="value")
        if not {"val_specialisation", "val_specialisation_chance"} <= {*means.columns}:
            continue
        above = means["val_specialisation"] > means["val_specialisation_chance"]
        layers = [str(layer) for layer in means.index[above]]
        told = f"in layers {listed(layers)}" if layers else "in no layer"
        said.append(
            f"{arm}: experts tell domains or labels apart better than chance {told} of "
            f"{len(means)} at the end."
        )
    return said


def draw(frame: pd.DataFrame, evidence: Evidence) -> Figure:
    """Return a panel for each measure: a line is the mean over layers and seeds.

    Raises:
        NothingToShowError: If none of the measures that are drawn was recorded, or all at one step.
    """
    shown = [measure for measure in DRAWN if (frame["measure"] == measure).any()]
    if not shown:
        raise NothingToShowError("what was recorded of experts is in the table only")
    require_course(frame.loc[frame["measure"].isin(shown), "step"])
    columns = min(style.side_by_side(3, inches=SMALL_PANEL), len(shown))
    rows = -(-len(shown) // columns)
    made, axes = style.figure(
        width=3.4 * columns, height=2.5 * rows, rows=rows, columns=columns, sharex=True
    )
    for panel, measure in zip(axes, shown, strict=False):
        _panel(panel, frame[frame["measure"] == measure], evidence)
        panel.set_title(measure)
    for unused in axes[len(shown) :]:
        unused.set_visible(False)
    for panel in axes[max(0, len(shown) - columns) : len(shown)]:
        panel.set_xlabel("optimizer steps")
        panel.tick_params(labelbottom=True)
    return made


def _panel(axes: Axes, own: pd.DataFrame, evidence: Evidence) -> None:
    colour = style.colours(evidence.arms)
    ends = []
    for arm, points in by_arm(own, evidence):
        steps = points.groupby("step")["value"].agg(["mean", "min", "max"]).dropna()
        if steps.empty:
            continue
        axes.plot(steps.index, steps["mean"], color=colour[arm])
        axes.fill_between(
            steps.index, steps["min"], steps["max"], color=colour[arm], alpha=0.15, linewidth=0
        )
        ends.append((arm, float(steps.index[-1]), float(steps["mean"].iloc[-1])))
    low, high = axes.get_ylim()
    room = max(0.0, MIN_SPAN * max(abs(low), abs(high)) - (high - low)) / 2
    axes.set_ylim(low - room, high + room)
    style.label_ends(axes, ends, colour)


OUTPUTS = (
    Output(
        name="expert_measures",
        title="Experts over training",
        order=90,
        meaning=(
            "Lines are means over the layers and seeds of each architecture's chosen "
            "configuration, bands reach from the least to the greatest. What a measure means: "
            "research-eval metrics."
        ),
        frame=frame,
        max_rows=8,
        draw=draw,
        sentences=sentences,
    ),
)

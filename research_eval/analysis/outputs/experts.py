"""What experts did: who works how much, for whom, with whom, and how that changed in training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from research_eval.analysis import heatmaps
from research_eval.analysis.arms import by_arm, choose_all
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import NothingToShowError, Output, require_course
from research_eval.analysis.words import counted, listed
from research_eval.records import ExpertStats

MAX_STEPS = 60
"""Evaluations that a heat map over time shows, evenly spread."""

DEAD_SHARE = 0.1
"""As a multiple of an even share: an expert below it counts as dead, as in `metrics`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """A heat map of one recorded array.

    Attributes:
        name: Of the output.
        array: Name under which runs recorded it.
        matrices: Its arrays, by step and layer, to a matrix for each layer.
        rows: What a row is; likewise `columns` and `value`.
        layer: What a layer is called; empty if there is only one map.
    """

    name: str
    array: str
    title: str
    meaning: str
    matrices: Callable[[list[ExpertStats]], dict[int, pd.DataFrame]]
    rows: str
    columns: str
    value: str
    layer: str = "layer"


def _over_time(stats: list[ExpertStats]) -> dict[int, pd.DataFrame]:
    """Return the load of each expert (row) at each step, as a multiple of an even share."""
    found: dict[int, pd.DataFrame] = {}
    for layer in sorted({each.layer for each in stats}):
        own = [each for each in stats if each.layer == layer]
        kept = [own[place] for place in heatmaps.evenly(len(own), MAX_STEPS)]
        loads = {each.step: _floats(each.values) for each in kept}
        found[layer] = pd.DataFrame(loads) * len(own[0].values)
    return found


def _latest(stats: list[ExpertStats]) -> dict[int, pd.DataFrame]:
    """Return the matrix of each layer at its last step."""
    return {each.layer: pd.DataFrame(_floats(each.values)) for each in stats}


def _latest_shares(stats: list[ExpertStats]) -> dict[int, pd.DataFrame]:
    """Return the same with rows that add up to 1."""
    return {
        layer: matrix.div(matrix.sum(axis=1).clip(lower=1e-12), axis=0)
        for layer, matrix in _latest(stats).items()
    }


def _steps_of_path(stats: list[ExpertStats]) -> dict[int, pd.DataFrame]:
    """Return one matrix: how many visit each expert (column) at each step of the path (row)."""
    last = max(each.step for each in stats)
    visits = [_floats(each.values) for each in stats if each.step == last]
    return {0: pd.DataFrame(np.stack(visits), index=range(1, len(visits) + 1))}


def _floats(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    return values.astype(float)


HEATS = (
    Heat(
        name="expert_load",
        array="load_share",
        title="Load of the experts over training",
        meaning="Tokens that each expert worked on, as a multiple of an even share: 1 is even.",
        matrices=_over_time,
        rows="expert",
        columns="step",
        value="load, even = 1",
    ),
    Heat(
        name="expert_groups",
        array="by_group",
        title="Which experts serve which labels or domains",
        meaning="Of what each domain, or else label, was served (row), the share of each expert.",
        matrices=_latest_shares,
        rows="domain or label",
        columns="expert",
        value="share of the group",
    ),
    Heat(
        name="expert_coupling",
        array="coupling",
        title="What experts take from each other",
        meaning="How much of its result an expert (row) takes from each, at the last evaluation.",
        matrices=_latest,
        rows="expert",
        columns="takes from",
        value="weight",
    ),
    Heat(
        name="expert_paths",
        array="path_usage",
        title="Experts visited along the path",
        meaning="Share of all decisions that visit each expert at each step of the path.",
        matrices=_steps_of_path,
        rows="step of the path",
        columns="expert",
        value="share of visits",
        layer="",
    ),
    Heat(
        name="expert_transitions",
        array="transitions",
        title="Where paths go on",
        meaning="Share of an expert's visits (row) that go on to each; what is missing to 1 ends.",
        matrices=_latest,
        rows="from expert",
        columns="to expert",
        value="share of visits",
        layer="",
    ),
)


def frame(heat: Heat, evidence: Evidence) -> pd.DataFrame:
    """Return the matrices of the best run of each arm's chosen configuration.

    Columns: `arm`, `run`, `layer`, `row`, `column`, `value`.

    Raises:
        NothingToShowError: If none of these runs recorded the array.
    """
    parts = []
    for arm, run in best_runs(evidence).items():
        stats = evidence.expert_stats(run, heat.array)
        for layer, matrix in (heat.matrices(stats) if stats else {}).items():
            parts.append(heatmaps.long(matrix).assign(arm=arm, run=run, layer=layer))
    if not parts:
        raise NothingToShowError(f"no chosen run recorded '{heat.array}' of its experts")
    return pd.concat(parts, ignore_index=True)[heatmaps.COLUMNS]


def best_runs(evidence: Evidence) -> dict[str, str]:
    """Return the run with the best score of what stands for each arm."""
    sign = evidence.question.sign
    return {
        arm: chosen.runs[int((sign * chosen.values).argmax())]
        for arm, chosen in choose_all(evidence).items()
        if chosen.runs
    }


def sentences(heat: Heat, frame: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Say which runs are shown, and what of them is left to the table."""
    runs = [f"{arm} {own['run'].iloc[0]}" for arm, own in by_arm(frame, evidence)]
    said = [f"Shown is the best run of each: {listed(runs)}."]
    if len(runs) > heatmaps.MAX_ARMS:
        said.append(f"{len(runs) - heatmaps.MAX_ARMS} more architectures in the table only.")
    for arm, own in by_arm(frame, evidence):
        layers, drawn = own["layer"].nunique(), heatmaps.shown_layers(own)
        if layers > len(drawn):
            said.append(f"{arm}: layers {listed(map(str, drawn))} of {layers} are drawn.")
    return said + (_dead(frame, evidence) if heat.name == "expert_load" else [])


def _dead(frame: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Say which experts do next to nothing at the last evaluation."""
    said = []
    for arm, own in by_arm(frame, evidence):
        last = own[own["column"] == own.groupby("layer")["column"].transform("max")]
        dead = int((last["value"] < DEAD_SHARE).sum())
        if dead:
            said.append(
                f"{arm}: {dead} of {counted(len(last), 'expert')} have less than a tenth of an "
                "even share at the end."
            )
    return said


def draw(heat: Heat, frame: pd.DataFrame, evidence: Evidence) -> Figure:
    """Return the heat maps.

    Raises:
        NothingToShowError: If load over training is asked for, and was recorded once; or if all
            of another map is 0, as where paths of one step go on.
    """
    if heat.columns == "step":
        require_course(frame["column"])
    elif not frame["value"].any():
        raise NothingToShowError("every value is 0")
    return heatmaps.draw(
        frame,
        evidence,
        rows=heat.rows,
        columns=heat.columns,
        value=heat.value,
        layer=heat.layer,
    )


OUTPUTS = tuple(
    Output(
        name=heat.name,
        title=heat.title,
        order=85 + place,
        meaning=heat.meaning,
        frame=partial(frame, heat),
        max_rows=8,
        draw=partial(draw, heat),
        sentences=partial(sentences, heat),
    )
    for place, heat in enumerate(HEATS)
)

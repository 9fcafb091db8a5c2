"""Quality by label, by domain and by length, of what `research-eval evaluate` predicted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from research_eval.analysis import style
from research_eval.analysis.arms import by_arm, choose_all
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import NothingToShowError, Output
from research_eval.analysis.statistics import t_interval
from research_eval.analysis.words import counted, listed
from research_eval.breakdown import COLUMNS, by_domain, by_label, by_length, read_predictions
from research_eval.errors import DataError
from research_eval.metrics import GROUP_SCORES
from research_eval.quantities import number
from research_eval.records import RunRecord

GROUPS = {"label": by_label, "domain": by_domain, "length": by_length}

MAX_NAMES = 16
"""Labels, or domains, that are drawn: those with the most rows."""

MIN_SPAN = 0.05
"""Of the axis of scores: noise shall not look like a difference."""

_READ = [name for name in COLUMNS if name != "experts"]  # large, and not needed here


def frame(evidence: Evidence) -> pd.DataFrame:
    """Return the quality of each arm's chosen configuration by group.

    All arms are compared on one split of the same data, with the same kind of weights: those with
    which most arms were evaluated. Of repeated evaluations the newest counts.

    Columns: `arm`; `split`; `weights` ("selected", or which others); `by` ("label", "domain" or
    "length"); `name` of the group; `rows`; `score` (its name), `value` (mean over evaluated runs),
    `low` and `high` (95 % t-interval over them, NaN for one), `runs`.

    Raises:
        NothingToShowError: If no chosen run was evaluated, or the predictions cannot be read.
    """
    evaluations = _comparable(evidence)
    parts, problems = [], []
    for arm, evaluation in evaluations:
        try:
            parts += [part.assign(arm=arm) for part in _of_evaluation(evaluation, evidence)]
        except DataError as error:
            problems.append(str(error))
    if not parts:
        if problems:
            raise NothingToShowError(problems[0])
        raise NothingToShowError(
            "the predictions have neither labels nor domains, and all rows are equally long"
        )
    split, weights, _ = _place(evaluations[0][1], evidence)
    values = _over_runs(pd.concat(parts, ignore_index=True))
    found = values.assign(split=split, weights=weights)[_COLUMNS]
    found.attrs["problems"] = problems
    return found


_COLUMNS = [
    "arm",
    "split",
    "weights",
    "by",
    "name",
    "rows",
    "score",
    "value",
    "low",
    "high",
    "runs",
]


def _comparable(evidence: Evidence) -> list[tuple[str, RunRecord]]:
    """Return the evaluations of chosen runs that can be compared, with their arm."""
    arm_of = {run: arm for arm, chosen in choose_all(evidence).items() for run in chosen.runs}
    newest = {
        (str(run.parent), _place(run, evidence)): run
        for run in evidence.evaluations
        if run.parent in arm_of and run.params.get("routing") == "learned"
    }
    if not newest:
        example = next(iter(arm_of), "ID")
        raise NothingToShowError(
            f"no chosen run was evaluated; to do so: research-eval evaluate {example} --split test"
        )
    runs = Counter(place for _, place in newest)
    arms = Counter(place for _, place in {(arm_of[run], place) for run, place in newest})
    most = max(runs, key=lambda place: (arms[place], place[0] == "test", runs[place]))
    return [(arm_of[run], each) for (run, place), each in newest.items() if place == most]


def _place(evaluation: RunRecord, evidence: Evidence) -> tuple[str, str, str | None]:
    """Return what evaluations must share to be compared: split, kind of weights, and data."""
    asked = evaluation.params
    selected = evidence.runs[str(evaluation.parent)].params.get("training_params.select")
    weights = asked.get("weights", selected)
    named = "selected" if weights in (selected, None) else str(weights)
    return asked["split"], named, evaluation.data_hash


def _of_evaluation(evaluation: RunRecord, evidence: Evidence) -> Iterator[pd.DataFrame]:
    """Yield the quality by each kind of group that the rows have.

    Raises:
        DataError: If the predictions cannot be read.
    """
    files = evidence.artifacts(evaluation.experiment_id)
    paths = [path for artifact, path in files if artifact.kind == "predictions"]
    predictions = read_predictions(paths[0], _READ) if paths else pd.DataFrame()
    for by, breakdown in GROUPS.items() if len(predictions) else ():
        table = breakdown(predictions)
        if table.empty:
            continue
        if by == "length":
            ends = zip(table["shortest"], table["longest"], strict=True)
            table["length"] = [f"{a} tokens" if a == b else f"{a} to {b} tokens" for a, b in ends]
        scores = [score for score in GROUP_SCORES[by] if score in table and score != "rows"]
        table = table.rename(columns={by: "name"}).assign(by=by)
        yield table.melt(["by", "name", "rows"], scores, var_name="score")


def _over_runs(values: pd.DataFrame) -> pd.DataFrame:
    keys = ["arm", "by", "name", "rows", "score"]
    grouped = values.groupby(keys, sort=False)["value"]
    found = grouped.agg(value="mean", runs="count").reset_index()
    ends = [t_interval(own.dropna()) for _, own in grouped]
    return found.assign(low=[float(low) for low, _ in ends], high=[float(high) for _, high in ends])


def sentences(frame: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Say on which groups each arm does worst, and how many rows that is."""
    split, weights = frame[["split", "weights"]].iloc[0]
    others = "" if weights == "selected" else f" with the {weights} weights"
    said = [f"Evaluated on the {split} split{others}."]
    problems = frame.attrs.get("problems", [])
    said += [f"An evaluation is left out: {problem}." for problem in problems]
    for by in dict.fromkeys(frame["by"]):
        drawn = _drawn(frame, by).dropna(subset="value")
        if drawn["name"].nunique() > 1:
            said.append(f"By {by}, {_weakest(drawn, evidence)}.")
    missing = [arm for arm in evidence.arms if arm not in set(frame["arm"])]
    chosen = choose_all(evidence)
    option = f" --weights {weights}" if others else ""
    return said + [
        f"{arm} has no predictions of that: research-eval evaluate {chosen[arm].runs[0]} --split "
        f"{split}{option}."
        for arm in missing
        if arm in chosen and chosen[arm].runs
    ]


def _weakest(drawn: pd.DataFrame, evidence: Evidence) -> str:
    """Say where each arm does worst, arms that do so at the same group together."""
    score = str(drawn["score"].iloc[0])
    arms: dict[str, list[str]] = {}
    for arm, own in by_arm(drawn, evidence):
        worst = own.iloc[int((own["value"] * (1 if score == "loss" else -1)).argmax())]
        where = f"{worst['name']} ({counted(int(worst['rows']), 'row')})"
        arms.setdefault(where, []).append(f"{arm} ({score} {number(worst['value'])})")
    return "; ".join(f"the weakest is {where} for {listed(of)}" for where, of in arms.items())


def _drawn(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return the rows of one kind of group with the score that is drawn: F1, or else loss."""
    own = frame[frame["by"] == by]
    return own[own["score"] == ("f1" if (own["score"] == "f1").any() else "loss")]


def draw(frame: pd.DataFrame, evidence: Evidence) -> Figure:
    """Return a panel for each kind of group."""
    kinds = list(dict.fromkeys(frame["by"]))
    names = {by: _names(_drawn(frame, by), by) for by in kinds}
    tallest = max(map(len, names.values()))
    columns = style.side_by_side(len(kinds))
    rows = -(-len(kinds) // columns)
    made, axes = style.figure(
        width=1.0 + 4.2 * columns,
        height=0.4 + (0.8 + 0.4 * tallest) * rows,
        rows=rows,
        columns=columns,
    )
    for unused in axes[len(kinds) :]:
        unused.remove()
    for panel, by in zip(axes, kinds, strict=False):
        _panel(panel, _drawn(frame, by), names[by], evidence)
        panel.set_title(f"by {by}")
    colour = style.colours(evidence.arms)
    shown = {arm: style.short(arm) for arm, _ in by_arm(frame, evidence)}
    handles = [
        Line2D([], [], color=colour[arm], marker=_marker(arm, evidence), ls="none", label=name)
        for arm, name in shown.items()
    ]
    inches = 0.6 + 0.07 * max(map(len, shown.values()))  # of an entry, about
    columns = max(1, min(6, int(made.get_figwidth() / inches)))
    made.legend(handles=handles, loc="outside upper center", ncols=columns)
    return made


def _names(drawn: pd.DataFrame, by: str) -> list[str]:
    """Return the groups that are drawn; lengths stay in their order, others go by their rows."""
    rows = drawn.groupby("name", sort=False)["rows"].max()
    if by != "length":
        rows = rows.sort_values(ascending=False, kind="stable")
    return [str(name) for name in rows.index[:MAX_NAMES]]


def _panel(axes: Axes, drawn: pd.DataFrame, names: list[str], evidence: Evidence) -> None:
    """Draw a line of dots for each group, one for each arm, slightly apart."""
    colour = style.colours(evidence.arms)
    arms = list(by_arm(drawn, evidence))
    rows = drawn.groupby("name", sort=False)["rows"].max()
    for place, (arm, own) in enumerate(arms):
        own = own.set_index("name").reindex(names)
        y = np.arange(len(names)) + 0.8 * ((place + 0.5) / len(arms) - 0.5)
        axes.hlines(y, own["low"], own["high"], colour[arm], linewidth=1)
        axes.plot(own["value"], y, _marker(arm, evidence), color=colour[arm], markersize=5)
    axes.set_yticks(range(len(names)), [f"{name} ({int(rows[name]):,})" for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    low, high = axes.get_xlim()
    room = max(0.0, MIN_SPAN - (high - low)) / 2
    axes.set_xlim(low - room, high + room)
    axes.set_xlabel("F1" if (drawn["score"] == "f1").all() else "loss (nats)")


def _marker(arm: str, evidence: Evidence) -> str:
    return style.MARKERS[evidence.arms.index(arm) % len(style.MARKERS)]


OUTPUTS = (
    Output(
        name="quality",
        title="Quality by label, domain and length",
        order=80,
        meaning=(
            "Scores of the groups of rows that research-eval evaluate predicted, with the "
            "number of rows in brackets: means over the evaluated seeds of what was chosen for "
            "each architecture, with 95 % t-intervals where there are two or more."
        ),
        frame=frame,
        draw=draw,
        sentences=sentences,
    ),
)

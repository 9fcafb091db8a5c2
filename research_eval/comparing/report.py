"""What a comparison shows beside its verdict: the arms, what they cost, and what was as planned."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from research_eval.analysis import Report
from research_eval.analysis.arms import Chosen, choose_all
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import NothingToShowError, Output, find_outputs
from research_eval.analysis.report import cell
from research_eval.analysis.statistics import t_interval
from research_eval.comparing.judging import VERDICTS
from research_eval.comparing.plan import Plan

AS_PLANNED = "Everything went as planned."

_REPLACED = ("contrasts", "matched")
"""Outputs of the analysis that the verdict stands for."""

_COSTS = ("param_count", "active_param_count", "flops_per_token")


def outputs_of(plan: Plan, departures: Sequence[str]) -> list[Output]:
    """Return what the report of a comparison shows, in its order."""
    arms = Output(
        name="arms",
        title="Arms and plan",
        order=1,
        meaning=(
            "What was compared. Each arm was tuned with as many trials, every trial scaled to one "
            "cost; its winner was run on fresh seeds, and only these runs saw the test split. The "
            "score is that of the fresh seeds, with its 95 % interval."
        ),
        frame=partial(_frame, plan),
        sentences=lambda _table, _evidence: [*_planned(plan), *(departures or [AS_PLANNED])],
    )
    others = [each for each in find_outputs() if each.name not in _REPLACED]
    return [VERDICTS, arms, *others]


def _frame(plan: Plan, evidence: Evidence) -> pd.DataFrame:
    """Return a row for each arm that has a score."""
    chosen = choose_all(evidence)
    rows = [_row(plan, evidence, label, chosen[label]) for label in _arms(plan) if label in chosen]
    if not rows:
        raise NothingToShowError("no run of any arm came to a score")
    return pd.DataFrame(rows)


def _arms(plan: Plan) -> dict[str, Any]:
    found: dict[str, Any] = plan.question["arms"]
    return found


def _row(plan: Plan, evidence: Evidence, label: str, chosen: Chosen) -> dict[str, Any]:
    metric, test = evidence.question.metric, evidence.question.test_metric
    low, high = t_interval(chosen.values)
    row = {
        "arm": label,
        "model": _arms(plan)[label]["model_type"],
        "trials": chosen.tried,
        "searched": len(_arms(plan)[label]["searched"]),
        "seeds": len(chosen.values),
        metric: chosen.values.mean(),
        "low": float(low),
        "high": float(high),
    }
    if test is not None:
        row[test] = _middle(evidence, chosen, test, np.mean)
    return row | {name: _middle(evidence, chosen, name, median) for name in _COSTS}


def _middle(evidence: Evidence, chosen: Chosen, metric: str, middle: Any) -> float:
    values = (evidence.runs[run].value(metric) for run in chosen.runs)
    known = [value for value in values if value is not None]
    return float(middle(known)) if known else np.nan


def _planned(plan: Plan) -> list[str]:
    asked = plan.question
    arms = len(asked["arms"])
    return [
        f"Planned on {plan.written}, before the first run: {arms} arms, "
        f"{asked['trials_of_each_arm']} trials of each, {len(asked['confirmation_seeds'])} fresh "
        f"seeds of each winner, {len(asked['contrasts'])} contrasts, "
        f"decided by {asked['objective']}."
    ]


def as_markdown(plan: Plan, report: Report) -> str:
    """Return verdict, arms, and what departed from the plan, as a page of Markdown."""
    lines = [f"# {plan.name}", ""]
    for name in (VERDICTS.name, "arms"):
        section = report.section(name)
        if section is None:
            continue
        lines += [f"## {section.output.title}", ""]
        lines += [f"- {each}" for each in section.sentences]
        lines += ["", *_table(section.output, section.table), "", section.output.meaning, ""]
    return "\n".join(lines)


def _table(output: Output, table: pd.DataFrame | None) -> list[str]:
    if table is None:
        return ["No run of any arm came to a score."]
    names = [name for name in output.shown or table.columns if name in table.columns]
    shown = table[names].replace("", None).dropna(axis="columns", how="all")
    rows = [[cell(str(n), v) for n, v in row.items()] for row in shown.to_dict("records")]
    head = [str(name).replace("_", " ") for name in shown.columns]
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(each)} |" for each in lines]

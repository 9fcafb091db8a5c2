"""Tables of the report for a paper: results, contrasts, what was matched, and ablations.

An arm is bold only if its mean is the best of the table, the contrasts are planned, and the one
with each other arm of the table is decided in its favour: p_Holm at most 0.05, see `verdict`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from research_eval.analysis import equal_costs, words
from research_eval.analysis.arms import Chosen, choose_all
from research_eval.analysis.comparing import Plan, plan
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import file_name
from research_eval.analysis.paper.latex import Row, maths, tabular, text
from research_eval.analysis.question import Question
from research_eval.analysis.section import Section
from research_eval.analysis.statistics import t_interval
from research_eval.quantities import amount, number

NONE = "--"
BOLD = (
    "bold: the best mean, if the planned contrast with every other row is decided in its favour "
    "(p_Holm <= 0.05)"
)
NO_BOLD = "nothing is bold: no candidate was named, so no contrast is planned"


def tables(sections: Iterable[Section], evidence: Evidence) -> Mapping[str, str | None]:
    """Return the text of each table by the name of its file; None where there is none."""
    found = {each.output.name: each.table for each in sections}
    contrasts, matched, ablation = (found.get(n) for n in ("contrasts", "matched", "ablation"))
    question = evidence.question
    made = {
        "results": _results(evidence, contrasts),
        "contrasts": None if contrasts is None else _contrasts(contrasts, question),
        "matched": None if matched is None else _matched(evidence, matched),
        "ablation": None if ablation is None else _ablation(ablation, question),
    }
    return {f"{file_name(evidence.dataset)}_{name}.tex": each for name, each in made.items()}


# ------------------------------------------------------------------------------------- results


@dataclass(frozen=True, slots=True)
class _Line:
    """A row of results: what stands for an arm, and whether it is bold."""

    arm: str
    chosen: Chosen | None
    is_bold: bool


def winner(contrasts: pd.DataFrame, means: Mapping[str, float], sign: int) -> str | None:
    """Return the arm whose lead is established; None if none is.

    Args:
        contrasts: As the report has them.
        means: Of the arms of the table that have a score.
        sign: 1 if higher is better.
    """
    if not means or (contrasts["kind"] != "planned").any():
        return None
    best = max(means, key=lambda arm: sign * means[arm])
    arms, beaten = set(), set()
    for row in contrasts.to_dict("records"):
        arms |= {row["first"], row["second"]}
        won = {"better": row["first"], "worse": row["second"]}.get(row["verdict"])
        beaten |= {row["first"], row["second"]} if won == best else set()
    return best if arms == beaten | {best} else None


def _lines(family: Plan, contrasts: pd.DataFrame, sign: int) -> list[_Line]:
    arms = dict.fromkeys(arm for pair in family.pairs for arm in pair)
    means = {arm: float(each.values.mean()) for arm, each in family.chosen.items()}
    bold = winner(contrasts, means, sign)
    return [_Line(arm, family.chosen.get(arm), arm == bold) for arm in arms]


def _results(evidence: Evidence, contrasts: pd.DataFrame | None) -> str | None:
    """Return what stands for each arm of the contrasts; of one arm alone if there is no other."""
    notes = _notes(evidence)
    if contrasts is None:
        lines = [_Line(arm, chosen, False) for arm, chosen in choose_all(evidence).items()]
        return _table_of_results([(evidence, None, lines)], notes) if lines else None
    family = plan(evidence)
    lines = _lines(family, contrasts, evidence.question.sign)
    notes.append(BOLD if family.is_planned else NO_BOLD)
    if family.limit is not None:
        tried = words.counted(family.limit, "configuration")
        notes.append(f"tuning budgets differed: each stands by its best of the first {tried}")
    return _table_of_results([(evidence, None, lines)], notes)


def _matched(evidence: Evidence, table: pd.DataFrame) -> str:
    groups: list[Group] = []
    start = 0
    for group in equal_costs.matched(evidence):
        family = plan(group.evidence)
        own = table.iloc[start : start + len(family.pairs)]
        groups.append((group.evidence, f"at {group}", _lines(family, own, evidence.question.sign)))
        start += len(own)
    notes = [*_notes(evidence), "each group was made to cost the same on one axis"]
    notes += [BOLD if evidence.question.candidate else NO_BOLD, *_equality(table)]
    return _table_of_results(groups, notes)


def _equality(table: pd.DataFrame) -> Iterator[str]:
    """Yield, of each contrast, in which costs its arms are equal."""
    for row in table.to_dict("records"):
        ratio = {axis.column: row[axis.column] for axis in equal_costs.AXES}
        who = f"{row['first']} over {row['second']}"
        yield f"at {row['group']}, {who}: {equal_costs.in_words(ratio)}"


def _notes(evidence: Evidence) -> list[str]:
    question = evidence.question
    better = "higher" if question.is_max else "lower"
    return [
        f"{evidence.dataset}: {question.metric} ({better} is better), mean over n seeds "
        "+- half of Student's 95 % interval of the mean; one seed, or seeds that are all equal, "
        "have no interval"
    ]


def _remarks(evidence: Evidence, lines: Iterable[_Line]) -> Iterator[str]:
    """Yield, of each row, what its mean does not say by itself."""
    for line in lines:
        if line.chosen is None:
            continue
        runs = [*line.chosen.runs]
        failed = int((evidence.table.loc[runs, "outcome"] == "failed").sum())
        if failed:
            yield f"{line.arm}: {failed} of n failed, with the worst score of all in the mean"
        tested = len(_test_values(evidence, line))
        if 0 < tested < len(runs):
            yield f"{line.arm}: {tested} of n have a test score"
        if line.chosen.phase == "search":
            tried = words.counted(line.chosen.tried, "configuration")
            yield f"{line.arm}: chosen among {tried} by these very scores, which flatter it"


Group = tuple[Evidence, str | None, Sequence[_Line]]


def _table_of_results(groups: Sequence[Group], notes: Iterable[str]) -> str:
    """Return a table with a row for each arm, and a line above each group that has a name."""
    question = groups[0][0].question
    remarks = [
        f"{name}, {remark}" if name else remark
        for evidence, name, lines in groups
        for remark in _remarks(evidence, lines)
    ]
    everything = [(evidence, line) for evidence, _, lines in groups for line in lines]
    has_test = any(np.isfinite(_test_values(each, line)).any() for each, line in everything)
    axes = [
        axis
        for axis in equal_costs.AXES
        if not axis.is_timing and any(_cost(each, line, axis.metric) for each, line in everything)
    ]
    head = ["", text(question.metric)]
    head += [text(question.test_metric or "")] if has_test else []
    head += ["$n$", *(axis.label for axis in axes)]
    body: list[Row] = []
    for evidence, name, lines in groups:
        body += [(text(name),)] if name else []
        for line in lines:
            scores = [_mean(_values(line), is_bold=line.is_bold)]
            scores += [_mean(_test_values(evidence, line))] if has_test else []
            costs = [_cost(evidence, line, axis.metric) or NONE for axis in axes]
            body.append([text(line.arm), *scores, _seeds(line), *costs])
    return tabular([*notes, *remarks], f"l{'r' * (len(head) - 1)}", head, body)


def _values(line: _Line) -> npt.NDArray[np.float64]:
    return np.array([]) if line.chosen is None else line.chosen.values


def _test_values(evidence: Evidence, line: _Line) -> npt.NDArray[np.float64]:
    runs = [] if line.chosen is None else [*line.chosen.runs]
    return evidence.table.loc[runs, "test_value"].dropna().to_numpy(float)


def _mean(values: npt.NDArray[np.float64], *, is_bold: bool = False) -> str:
    if not len(values):
        return NONE
    low, high = t_interval(values)
    return maths(words.plus_minus(values.mean(), float(high - low) / 2), is_bold=is_bold)


def _seeds(line: _Line) -> str:
    return "0" if line.chosen is None else words.ok_of(len(line.chosen.values), line.chosen.started)


def _cost(evidence: Evidence, line: _Line, metric: str) -> str:
    runs = [] if line.chosen is None else line.chosen.runs
    known = [value for run in runs if (value := evidence.runs[run].value(metric)) is not None]
    return amount(median(known)).replace(" ", r"\,") if known else ""


# ----------------------------------------------------------------------------------- contrasts


def _contrasts(table: pd.DataFrame, question: Question) -> str:
    kinds = words.listed(dict.fromkeys(table["kind"]))
    rows = [
        [text(f"{row['first']} vs {row['second']}"), *_difference(row, question), row["verdict"]]
        for row in table.to_dict("records")
    ]
    obstacles = [
        f"{row['first']} and {row['second']}: no verdict, since {row['obstacle']}"
        for row in table.to_dict("records")
        if row["obstacle"]
    ]
    notes = [f"{kinds} contrasts, first minus second; Welch's test, p adjusted by Holm", *obstacles]
    head = ["", f"difference in {text(words.unit(question))}", r"95\,\% interval"]
    return tabular(notes, "lrrrl", [*head, r"$p_{\mathrm{Holm}}$", "verdict"], rows)


def _ablation(table: pd.DataFrame, question: Question) -> str:
    rows = [
        [
            text(f"{row['change']} (vs {row['base']}, {row['arm']})"),
            *_difference(row, question),
            words.listed([words.ok_of(row["n"], row["n_started"]), f"{row['n_base']}"]),
        ]
        for row in table.to_dict("records")
    ]
    head = ["", f"change in {text(words.unit(question))}", r"95\,\% interval"]
    notes = ["variant minus its base; Welch's test, p adjusted by Holm; n of both"]
    return tabular(notes, "lrrrr", [*head, r"$p_{\mathrm{Holm}}$", "$n$"], rows)


def _difference(row: Mapping[Any, Any], question: Question) -> list[str]:
    """Return the cells of a difference: it, its interval, and its p."""
    factor = words.scale(question)
    delta, low, high, p = (row.get(name, np.nan) for name in ("delta", "low", "high", "p_holm"))
    if not np.isfinite(delta):
        return [NONE] * 3
    if not np.isfinite(high - low):
        return [maths(number(delta * factor)), NONE, NONE]
    half = (high - low) / 2 * factor
    found = maths(words.plus_minus(delta * factor, half))
    shown = maths(words.probability(p).removeprefix("= ")) if np.isfinite(p) else NONE
    return [found, maths(words.interval(low * factor, high * factor)), shown]

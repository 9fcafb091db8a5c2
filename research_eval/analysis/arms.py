"""What stands for an architecture: the configuration that its tuning chose, and what that cost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from research_eval.analysis.evidence import Evidence

EQUAL_BUDGET = 0.1
"""Budgets count as equal if they differ by at most this share, or by one configuration.

Of exchangeable arms, one with a tenth more configurations has the best one in 52 % of cases.
"""


@dataclass(frozen=True, slots=True)
class Budget:
    """What the tuning of an arm was given.

    Attributes:
        configurations: How many were tried, failed and pruned ones included.
        runs: How many runs that took.
        seconds: Wall time of these runs, of those that recorded it.
    """

    configurations: int
    runs: int
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The configuration that stands for an arm.

    Attributes:
        phase: "confirm" if its runs have seeds that the choice did not see, "search" if they are
            the ones by which it was chosen, "" if there was no choice between configurations.
        runs: Ids of the runs that have a value, oldest first.
        started: How many were begun, failed and unfinished ones included.
        values: float64 [runs], their scores.
        seeds: Of the runs; None where a run has none.
        tried: How many configurations it was chosen from.
        overtaken_by: A run of the configuration that did best by the scores of the choice, where
            another one is confirmed; empty if it is the same or nothing is confirmed.
    """

    arm: str
    configuration: str
    phase: Literal["confirm", "search", ""]
    runs: tuple[str, ...]
    started: int
    values: npt.NDArray[np.float64]
    seeds: tuple[int | None, ...]
    tried: int
    overtaken_by: str = ""


def budgets(evidence: Evidence) -> dict[str, Budget]:
    """Return what the tuning of each arm was given; confirmations are not tuning."""
    tuning = evidence.table[evidence.table["phase"] != "confirm"]
    return {
        str(arm): Budget(
            configurations=runs["configuration"].nunique(),
            runs=len(runs),
            seconds=float(runs["seconds"].sum()),
        )
        for arm, runs in tuning.groupby("arm")
    }


def are_equal(budgets: Iterable[int]) -> bool:
    """Return whether numbers of tried configurations are close enough for a verdict."""
    found = list(budgets)
    return max(found) - min(found) <= max(1, EQUAL_BUDGET * max(found))


class _Run(NamedTuple):
    id: str
    configuration: str
    phase: str
    study: str
    seed: float
    value: float


def choose(evidence: Evidence, arm: str, *, limit: int | None = None) -> Chosen | None:
    """Return what stands for an arm: the best by its mean score, confirmed runs if there are any.

    Confirmed is what a study confirmed, or the winner of a study that ran on fresh seeds. Fresh
    seeds of any other configuration say how good that one is, and do not put it in the winner's
    place.

    Args:
        evidence: The runs.
        arm: Which arm.
        limit: Choose only from so many configurations that were tried first.

    Returns:
        None if the arm has no run with a value.
    """
    runs = _runs_of(evidence, arm)
    tuning = [run for run in runs if run.phase != "confirm"]
    tried = [*dict.fromkeys(run.configuration for run in tuning)][:limit]
    winners = _winners(tuning, evidence.question.sign)
    confirmed = [
        run
        for run in runs
        if run.phase == "confirm"
        and limit is None
        and (evidence.runs[run.id].phase == "confirm" or run.configuration in winners)
    ]
    known = [run.configuration for run in confirmed if np.isfinite(run.value)]
    best = _best(tuning, known or tried, evidence.question.sign)
    if known:
        found = _chosen(arm, best or known[-1], "confirm", confirmed, len(tried))
        leader = _best(tuning, tried, evidence.question.sign)
        if best is None or leader == best:
            return found
        return replace(found, overtaken_by=_last_of(tuning, leader))
    if best is None:
        return None
    return _chosen(arm, best, "search" if len(tried) > 1 else "", tuning, len(tried))


def _runs_of(evidence: Evidence, arm: str) -> list[_Run]:
    table = evidence.table
    ids = table.index[table["arm"] == arm]
    columns = (table.loc[ids, name] for name in _Run._fields[1:])
    return [*map(_Run, ids, *columns)]


def _winners(tuning: Iterable[_Run], sign: int) -> set[str | None]:
    """Return the best configuration of each study."""
    studies: dict[str, list[_Run]] = {}
    for run in tuning:
        if run.phase == "search":
            studies.setdefault(run.study, []).append(run)
    return {_best(runs, {run.configuration for run in runs}, sign) for runs in studies.values()}


def _best(runs: Iterable[_Run], options: Collection[str], sign: int) -> str | None:
    """Return the option with the best mean score, of equals the one that was tried first."""
    scores: dict[str, list[float]] = {}
    for run in runs:
        if run.configuration in options and np.isfinite(run.value):
            scores.setdefault(run.configuration, []).append(sign * run.value)
    return max(scores, key=lambda each: fmean(scores[each]), default=None)


def _last_of(runs: Iterable[_Run], configuration: str | None) -> str:
    scored = [r.id for r in runs if r.configuration == configuration and np.isfinite(r.value)]
    return scored[-1]


def _chosen(
    arm: str,
    configuration: str,
    phase: Literal["confirm", "search", ""],
    runs: Iterable[_Run],
    tried: int,
) -> Chosen:
    begun = [run for run in runs if run.configuration == configuration]
    scored = [run for run in begun if np.isfinite(run.value)]
    return Chosen(
        arm=arm,
        configuration=configuration,
        phase=phase,
        runs=tuple(run.id for run in scored),
        started=len(begun),
        values=np.array([run.value for run in scored]),
        seeds=tuple(None if np.isnan(run.seed) else int(run.seed) for run in scored),
        tried=tried,
    )


def choose_all(evidence: Evidence) -> dict[str, Chosen]:
    """Return what stands for each arm that has a run with a value, in the order of the arms."""
    found = {arm: choose(evidence, arm) for arm in evidence.arms}
    return {arm: chosen for arm, chosen in found.items() if chosen is not None}


def by_arm(frame: pd.DataFrame, evidence: Evidence) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the rows of each arm that a table has, in the order of the arms."""
    for arm in evidence.arms:
        rows = frame[frame["arm"] == arm]
        if len(rows):
            yield arm, rows

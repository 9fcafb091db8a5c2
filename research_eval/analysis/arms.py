"""What stands for an architecture: the configuration that its tuning chose, and what that cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

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
    """

    arm: str
    configuration: str
    phase: Literal["confirm", "search", ""]
    runs: tuple[str, ...]
    started: int
    values: npt.NDArray[np.float64]
    seeds: tuple[int | None, ...]
    tried: int


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


def choose(evidence: Evidence, arm: str, *, limit: int | None = None) -> Chosen | None:
    """Return what stands for an arm: the best by its mean score, confirmed runs if there are any.

    Args:
        evidence: The runs.
        arm: Which arm.
        limit: Choose only from so many configurations that were tried first.

    Returns:
        None if the arm has no run with a value.
    """
    runs = evidence.table[evidence.table["arm"] == arm]
    tuning, confirmed = runs[runs["phase"] != "confirm"], runs[runs["phase"] == "confirm"]
    tried = tuning["configuration"].unique()[:limit]
    scored = tuning[tuning["configuration"].isin(tried)].dropna(subset="value")
    known = confirmed.dropna(subset="value")["configuration"].unique()
    if len(known) and limit is None:
        options = scored[scored["configuration"].isin(known)]
        best = _best(options, evidence) if len(options) else str(known[-1])
        return _chosen(arm, confirmed[confirmed["configuration"] == best], "confirm", len(tried))
    if not len(scored):
        return None
    best = _best(scored, evidence)
    phase: Literal["search", ""] = "search" if len(tried) > 1 else ""
    return _chosen(arm, tuning[tuning["configuration"] == best], phase, len(tried))


def _best(runs: pd.DataFrame, evidence: Evidence) -> str:
    """Return the configuration with the best mean; of equals the one that was tried first."""
    means = evidence.question.sign * runs.groupby("configuration", sort=False)["value"].mean()
    return str(means.idxmax())


def _chosen(
    arm: str, runs: pd.DataFrame, phase: Literal["confirm", "search", ""], tried: int
) -> Chosen:
    scored = runs.dropna(subset="value")
    seeds = (None if pd.isna(seed) else int(seed) for seed in scored["seed"])
    return Chosen(
        arm=arm,
        configuration=str(runs["configuration"].iloc[0]),
        phase=phase,
        runs=tuple(map(str, scored.index)),
        started=len(runs),
        values=scored["value"].to_numpy(float),
        seeds=tuple(seeds),
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

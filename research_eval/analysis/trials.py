"""What was tried: one row for each configuration that cost budget, in the order of starting."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd

from research_eval.analysis.evidence import Evidence

INDEPENDENT_SAMPLERS = frozenset({"random", "qmc"})
"""Samplers that draw each trial without looking at the others."""


def trials_of(evidence: Evidence) -> pd.DataFrame:
    """Return a row for each trial of the search: confirmation and open runs are no part of it.

    A trial is the runs of one trial of a study, or of one configuration outside of any study.
    One that failed has the worst score of its arm, since it cost budget and found nothing; one
    that was pruned has the last score of its curve.

    Returns:
        Columns: `arm`, `study` ("" for none), `run` (the first of its runs), `score` (mean over
        its runs, NaN if no trial of the arm has any), `seconds`, `has_score`, `contended`,
        `hardware`. Oldest first.
    """
    table = evidence.table[(evidence.table["phase"] != "confirm")]
    table = table[table["outcome"] != "open"].sort_values("started", kind="stable")
    table = table.assign(
        run=table.index,
        key=[_key(row) for row in table.itertuples()],
        score=_scores(table, evidence),
        seconds=_seconds(table, evidence),
    )
    trials = table.groupby(["arm", "study", "key"], sort=False).agg(
        run=("run", "first"),
        score=("score", lambda scores: scores.mean(skipna=False)),
        seconds=("seconds", "sum"),
        contended=("contended", "any"),
        hardware=("hardware", "first"),
    )
    trials = trials.reset_index().drop(columns="key")
    trials["has_score"] = trials["score"].notna()
    by_arm = trials.groupby("arm")["score"]
    worst = by_arm.transform("min" if evidence.question.is_max else "max")
    return trials.assign(score=trials["score"].fillna(worst))


def _key(row: object) -> str:
    study, trial = row.study, row.trial  # type: ignore[attr-defined]  # a named tuple of pandas
    in_study = study and trial is not None and not pd.isna(trial)
    return f"trial {int(trial)}" if in_study else str(row.configuration)  # type: ignore[attr-defined]


def _scores(table: pd.DataFrame, evidence: Evidence) -> list[float]:
    history = evidence.question.history
    found = []
    for run, value, outcome in zip(table.index, table["value"], table["outcome"], strict=True):
        last = evidence.runs[run].value(history) if outcome == "pruned" and history else value
        found.append(last if last is not None and np.isfinite(last) else np.nan)
    return found


def _seconds(table: pd.DataFrame, evidence: Evidence) -> list[float]:
    """Return training times; of a run that did not get as far as recording one, its life."""
    found = []
    for run, seconds in zip(table.index, table["seconds"], strict=True):
        record = evidence.runs[run]
        if np.isnan(seconds) and record.ended is not None:
            seconds = (record.ended - record.timestamp).total_seconds()
        found.append(seconds)
    return found


def are_independent(trials: pd.DataFrame, evidence: Evidence) -> bool:
    """Return whether the trials of one arm are draws from one distribution.

    Only of such may the best of n be expected: all belong to studies with a random or
    quasi-random sampler and the same ranges.
    """
    studies = [evidence.studies.get(name, {}) for name in trials["study"].unique()]
    arm = trials["arm"].iloc[0]
    spaces = [study.get("spaces", {}).get(arm) for study in studies]
    return all(
        study.get("asked", {}).get("sampler") in INDEPENDENT_SAMPLERS and space == spaces[0]
        for study, space in zip(studies, spaces, strict=True)
    )


def origins(trials: pd.DataFrame, evidence: Evidence) -> str:
    """Return how many trials came from which sampler, as in "20 random, 1 by hand"."""
    asked = [evidence.studies.get(name, {}).get("asked", {}) for name in trials["study"]]
    samplers = Counter(each.get("sampler", "by hand") for each in asked)
    return ", ".join(f"{count} {sampler}" for sampler, count in samplers.most_common())


def joint_studies(trials: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Return the studies whose arms shared one budget, so that no arm had its own."""
    return [
        name
        for name in trials["study"].unique()
        if evidence.studies.get(name, {}).get("asked", {}).get("share_budget")
    ]

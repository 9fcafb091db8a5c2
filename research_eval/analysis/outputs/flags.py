"""Warnings that must stand beside scores: experts that died, promises that were waived."""

from __future__ import annotations

import pandas as pd

from research_eval.analysis.arms import choose_all
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import NothingToShowError, Output


def frame(evidence: Evidence) -> pd.DataFrame:
    """Return a row for each flag of each run, those of what stands for an arm first."""
    standing = {run for chosen in choose_all(evidence).values() for run in chosen.runs}
    scores = evidence.table["value"]
    rows = [
        {
            "arm": evidence.table.at[run, "arm"],
            "run": run,
            "name": record.experiment_name,
            "seed": record.seed,
            "is_chosen": run in standing,
            evidence.question.metric: scores[run],
            "flag": flag,
            "reason": reason,
        }
        for run, record in evidence.runs.items()
        for flag, reason in record.flags.items()
    ]
    if not rows:
        raise NothingToShowError("no run carries a flag: no collapse, and no promise waived")
    table = pd.DataFrame(rows)
    order = table.sort_values(["is_chosen", "arm", "flag"], ascending=[False, True, True])
    return order.reset_index(drop=True)


def sentences(table: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Say how many of the runs that stand for an arm carry each flag."""
    told = []
    chosen = choose_all(evidence)
    flagged = table[table["is_chosen"]]
    for (arm, flag), runs in flagged.groupby(["arm", "flag"], sort=False):
        of = f"{len(runs)} of {len(chosen[str(arm)].runs)} runs that stand for {arm}"
        told.append(f"{of}: {str(flag).replace('_', ' ')}, {runs['reason'].iloc[0]}.")
    if not told:
        told.append("None of the runs that stand for an architecture carries a flag.")
    return told


OUTPUTS = (
    Output(
        name="flags",
        title="Flags and waivers",
        order=100,
        meaning=(
            "What was noticed about runs while they trained, or what their model does not promise. "
            "A flagged score may still be right, but not without this remark."
        ),
        frame=frame,
        sentences=sentences,
    ),
)

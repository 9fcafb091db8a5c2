"""Arms that were made to cost the same, compared with each other and with nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from research_eval.analysis import equal_costs
from research_eval.analysis.comparing import plan
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import NothingToShowError, Output
from research_eval.analysis.outputs.contrasts import contrast_rows, sentence

MAX_TOLD = 12
"""Contrasts that are told in sentences; the table has all."""


def frame(evidence: Evidence) -> pd.DataFrame:
    """Return a row for each contrast within each group of runs that were matched.

    Columns: `group`, in words; `axis` and `target` of the match; `equal`, `unequal` and `unknown`
    costs; the others as in the contrasts. p_Holm is adjusted for the contrasts of all groups.
    """
    groups = list(equal_costs.matched(evidence))
    if not groups:
        raise NothingToShowError(
            "no runs of two architectures were matched to one cost: research-eval match cfg.json "
            "--to MODEL --on AXIS, or hpo --match AXIS=AMOUNT"
        )
    families = [(group.evidence, plan(group.evidence)) for group in groups]
    rows: list[dict[str, Any]] = []
    for group, found in zip(groups, contrast_rows(families), strict=True):
        told = {"group": str(group), "axis": group.axis, "target": group.target}
        rows += [told | _costs(row) | row for row in found]
    return pd.DataFrame(rows)


def _costs(row: dict[str, Any]) -> dict[str, str]:
    known = {axis.column: row.get(axis.column, np.nan) for axis in equal_costs.AXES}
    kinds = zip(("equal", "unequal", "unknown"), equal_costs.split(known), strict=True)
    return {kind: ", ".join(axis.name for axis in axes) for kind, axes in kinds}


def sentences(table: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Say of each pair who is better, and in which costs it is equal."""
    told = []
    for _, row in table.head(MAX_TOLD).iterrows():
        said = f"At {row['group']}: {sentence(row, evidence, with_costs=False)}"
        known = {axis.column: row[axis.column] for axis in equal_costs.AXES}
        costs = equal_costs.in_words(known)
        told.append(f"{said} Cost of {row['first']} over {row['second']}: {costs}.")
    if len(table) > MAX_TOLD:
        told.append(f"{len(table) - MAX_TOLD} more contrasts in the table.")
    return told


OUTPUTS = (
    Output(
        name="matched",
        title="At equal cost",
        order=32,
        meaning=(
            "Runs that were made to cost the same (match, hpo --match), compared among themselves; "
            "the best of each architecture here may be another one than among all runs. Counted "
            "costs are called equal within 1 %, the time of a step within 5 %; p_Holm is adjusted "
            "for all contrasts of this table."
        ),
        frame=frame,
        shown=(
            "group",
            "first",
            "second",
            "kind",
            "n_first",
            "n_second",
            "delta",
            "low",
            "high",
            "p_holm",
            "verdict",
            "obstacle",
            *(axis.column for axis in equal_costs.AXES),
            "equal",
            "unequal",
        ),
        sentences=sentences,
    ),
)

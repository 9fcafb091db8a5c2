"""Where the numbers come from: code, data, machines, seeds, and what tuning was given."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import pandas as pd

from research_eval.analysis import words
from research_eval.analysis.arms import are_equal, budgets
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import Output
from research_eval.quantities import duration

SHOWN_PACKAGES = ("research-eval", "torch", "numpy", "transformers", "datasets")


def frame(evidence: Evidence) -> pd.DataFrame:
    """Return a row for each arm; several values of one kind stand with `; ` between."""
    spent, uncommitted = budgets(evidence), evidence.reader.uncommitted()
    rows = []
    for arm in evidence.arms:
        ids = evidence.table.index[evidence.table["arm"] == arm]
        runs = [evidence.runs[run] for run in ids]
        facts = [json.loads(run.env_details_json) for run in runs]
        packages = [fact.get("packages") or {} for fact in facts]
        seeds = sorted({run.seed for run in runs if run.seed is not None})
        rows.append(
            {
                "arm": arm,
                "runs": len(runs),
                "configurations_tried": spent[arm].configurations if arm in spent else 0,
                "tuning_runs": spent[arm].runs if arm in spent else 0,
                "tuning_seconds": spent[arm].seconds if arm in spent else 0.0,
                "studies": _all(run.study for run in runs),
                "searched": len(evidence.knobs(arm)),
                "seeds": " ".join(map(str, seeds)),
                "git_commit": _all(_short(run.git_commit or "") for run in runs),
                "uncommitted_runs": sum(run in uncommitted for run in ids),
                "code": _all(run.code_hash and run.code_hash[:12] for run in runs),
                "code_versions": evidence.code_versions(arm),
                "data": _all(run.data_hash and run.data_hash[:12] for run in runs),
                "data_source": _all(fact.get("data_source") for fact in facts),
                "hardware": _all(run.hardware for run in runs),
                "contended_runs": sum(run.contended for run in runs),
                "python": _all(fact.get("python") for fact in facts),
                **{name: _all(each.get(name) for each in packages) for name in SHOWN_PACKAGES},
                "projects": _all(run.project for run in runs),
                "first_run": min(run.timestamp for run in runs),
                "last_run": max(run.timestamp for run in runs),
            }
        )
    return pd.DataFrame(rows)


def _short(commit: str) -> str:
    """Return the first digits of a hash; what stands in its place, without names, as it is."""
    return commit[:12] if re.fullmatch("[0-9a-f]+", commit) else commit


def _all(values: Iterable[Any]) -> str:
    return "; ".join(dict.fromkeys(str(value) for value in values if value))


def sentences(table: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Say what was left out, and in what the arms were not treated alike."""
    told = [f"{each}." for each in evidence.left_out]
    if len(table) > 1 and not are_equal(table["configurations_tried"]):
        tried = [
            f"{arm} with {words.counted(count, 'configuration')} ({duration(seconds)})"
            for arm, count, seconds in zip(
                table["arm"], table["configurations_tried"], table["tuning_seconds"], strict=True
            )
        ]
        told.append(f"Tuning was not equal: {words.listed(tried)}.")
    for arm, versions in zip(table["arm"], table["code_versions"], strict=True):
        if versions > 1:
            told.append(
                f"Configurations of {arm} were made by {versions} versions of its code; only "
                "seeds of one configuration are all of one."
            )
    changed = int(table["uncommitted_runs"].sum())
    if changed:
        told.append(f"{words.counted(changed, 'run')} had uncommitted changes (runs show ID).")
    for column, what in (
        ("git_commit", "at several commits"),
        ("torch", "with several versions of torch"),
        ("hardware", "on several kinds of hardware, between which times are not compared"),
    ):
        values = {each for cell in table[column] for each in str(cell).split("; ") if each}
        if len(values) > 1:
            told.append(f"Runs were made {what}: {words.listed(sorted(values))}.")
    return told


OUTPUTS = (
    Output(
        name="provenance",
        title="Provenance",
        order=110,
        meaning="What a reviewer asks for: code, data, versions, hardware, seeds, tuning budget.",
        frame=frame,
        shown=(
            "arm",
            "runs",
            "configurations_tried",
            "tuning_seconds",
            "studies",
            "seeds",
            "git_commit",
            "uncommitted_runs",
            "code_versions",
            "data",
            "hardware",
            "contended_runs",
            "research-eval",
            "torch",
        ),
        sentences=sentences,
    ),
)

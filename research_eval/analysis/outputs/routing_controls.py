"""What it costs to replace what a router learned: whether it learned anything."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from research_eval.analysis.arms import by_arm
from research_eval.analysis.evidence import Evidence, arm_of
from research_eval.analysis.output import NothingToShowError, Output
from research_eval.analysis.words import rounded

_COST = "eval_routing_cost_"


def frame(evidence: Evidence) -> pd.DataFrame:
    """Return a row for each evaluation whose routing was replaced.

    Columns: `arm`, `run` (the evaluated one), `split`, `routing` (what it was replaced by),
    `score`, `cost` (by how much it is worse), `low` and `high` (95 %, paired over rows).

    Raises:
        NothingToShowError: If there is none.
    """
    rows = []
    for evaluation in evidence.evaluations:
        asked = json.loads(evaluation.full_config_json)
        run = evidence.runs.get(str(evaluation.parent))
        if run is None:
            continue
        for score in ("f1", "loss"):
            cost = evaluation.value(_COST + score)
            if cost is not None and np.isfinite(cost):
                ends = [evaluation.value(f"{_COST}{score}_{end}") for end in ("low", "high")]
                told = (arm_of(run), run.experiment_id, asked.get("split"), asked.get("routing"))
                rows.append((*told, score, cost, *ends))
    if not rows:
        raise NothingToShowError(
            "no run was evaluated with its routing replaced: research-eval evaluate ID --routing "
            "random"
        )
    found = pd.DataFrame(rows, columns=_COLUMNS)
    keys = ["arm", "run", "split", "routing", "score"]
    return found.drop_duplicates(keys).sort_values(keys, ignore_index=True)


_COLUMNS = ["arm", "run", "split", "routing", "score", "cost", "low", "high"]


def sentences(frame: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Say of each run what its routing is worth."""
    said = []
    has_f1 = (frame["score"] == "f1").any()
    for arm, own in by_arm(frame[frame["score"] == ("f1" if has_f1 else "loss")], evidence):
        for row in own.to_dict("records"):
            unit = "F1" if has_f1 else "nats of loss"
            learned = "what it learned matters" if row["low"] > 0 else "no difference shown"
            said.append(
                f"{row['routing']} routing costs {arm} {row['run']} {rounded(row['cost'])} {unit} "
                f"({rounded(row['low'])} to {rounded(row['high'])}, {row['split']}): {learned}."
            )
    return [text[0].upper() + text[1:] for text in said]


OUTPUTS = (
    Output(
        name="routing_controls",
        title="What learned routing is worth",
        order=84,
        meaning=(
            "The same weights, with the router's decisions replaced. A cost above zero says that "
            "the router learned something that the task needs; intervals are paired over rows."
        ),
        frame=frame,
        sentences=sentences,
    ),
)

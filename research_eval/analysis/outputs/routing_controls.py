"""What it costs to replace what a router learned: whether it learned anything."""

from __future__ import annotations

import numpy as np
import pandas as pd

from research_eval.analysis.arms import by_arm
from research_eval.analysis.evidence import Evidence, arm_of
from research_eval.analysis.output import NothingToShowError, Output
from research_eval.evaluation.comparing import recorded_costs, verdict

_KEYS = ["arm", "run", "split", "weights", "routing"]


def frame(evidence: Evidence) -> pd.DataFrame:
    """Return a row for each score of each evaluation whose routing was replaced.

    Of evaluations that asked the same, the newest counts.

    Columns: `arm`, `run` (the evaluated one), `split`, `weights`, `routing` (what it was replaced
    by), `score`, `cost` (by how much it is worse), `low` and `high` (95 %, paired over rows), and
    `verdict` on all scores of the evaluation, in words.

    Raises:
        NothingToShowError: If there is none.
    """
    rows = []
    for evaluation in evidence.evaluations:
        run = evidence.runs.get(str(evaluation.parent))
        costs = [cost for cost in recorded_costs(evaluation) if np.isfinite(cost.value)]
        if run is None or not costs:
            continue
        asked = evaluation.params
        told = [arm_of(run), run.experiment_id, *(asked.get(name) or "" for name in _KEYS[2:])]
        learned = asked.get("learned_part", "what it learned")
        said = verdict(costs, told[-1], learned, int(evaluation.value("eval_rows") or 0))
        rows += [(*told, cost.score, cost.value, cost.low, cost.high, said) for cost in costs]
    if not rows:
        raise NothingToShowError(
            "no run was evaluated with its routing replaced: research-eval evaluate ID --routing "
            "random"
        )
    found = pd.DataFrame(rows, columns=_COLUMNS)
    keys = [*_KEYS, "score"]
    return found.drop_duplicates(keys, keep="last").sort_values(keys, ignore_index=True)


_COLUMNS = [*_KEYS, "score", "cost", "low", "high", "verdict"]


def sentences(frame: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Say of each run what its routing is worth."""
    return [
        f"{arm} {row['run']} on the {row['split']} split: {row['verdict']}."
        for arm, own in by_arm(frame.drop_duplicates(_KEYS), evidence)
        for row in own.to_dict("records")
    ]


OUTPUTS = (
    Output(
        name="routing_controls",
        title="What learned routing is worth",
        order=84,
        meaning=(
            "The same weights, with the router's decisions replaced. A cost above zero says that "
            "the router learned something that the task needs, one below zero that it does harm; "
            "intervals are paired over rows."
        ),
        frame=frame,
        shown=tuple(_COLUMNS[:-1]),
        sentences=sentences,
    ),
)

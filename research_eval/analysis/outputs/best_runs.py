"""The best run of each architecture, with what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from research_eval.analysis import words
from research_eval.analysis.arms import budgets, choose_all
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import NothingToShowError, Output

TIMINGS = ("inference_latency_ms_batch_p50", "inference_latency_ms_batch_p95")
COSTS = (
    "param_count",
    "active_param_count",
    "flops_per_token",
    *TIMINGS,
    "total_training_time_seconds",
    "peak_memory_mb",
)


def frame(evidence: Evidence) -> pd.DataFrame:
    """Return a row for each arm: the best run of what stands for it.

    The test score is that of the weights that validation selected; it chose nothing. Latencies that
    were taken while other work shared the machine are left out.
    """
    sign, test = evidence.question.sign, evidence.question.test_metric
    spent, rows = budgets(evidence), []
    for arm, chosen in choose_all(evidence).items():
        place = int((sign * chosen.values).argmax())
        run = evidence.runs.get(chosen.runs[place]) if chosen.runs else None
        if run is None:
            continue
        rows.append(
            {
                "arm": arm,
                "run": run.experiment_id,
                "name": run.experiment_name,
                "configuration": chosen.configuration,
                "seed": chosen.seeds[place],
                "phase": chosen.phase,
                evidence.question.metric: chosen.values[place],
                **({test: run.value(test)} if test else {}),
                "flags": _flags(evidence, chosen.runs),
                **{
                    cost: None if run.contended and cost in TIMINGS else run.value(cost)
                    for cost in COSTS
                },
                "hardware": run.hardware,
                "contended": run.contended,
                "tried": chosen.tried,
                "tuning_runs": spent[arm].runs if arm in spent else 0,
                "tuning_seconds": spent[arm].seconds if arm in spent else 0.0,
            }
        )
    if not rows:
        raise NothingToShowError(f"no run came to a finite {evidence.question.metric}")
    best_first = pd.DataFrame(rows).sort_values(
        evidence.question.metric, ascending=not evidence.question.is_max, kind="stable"
    )
    return best_first.reset_index(drop=True)


def _flags(evidence: Evidence, runs: Sequence[str]) -> str:
    """Return which flags the runs carry that stand for an arm, and how many of them."""
    counts = Counter(flag for run in runs for flag in evidence.runs[run].flags)
    named = (f"{flag.replace('_', ' ')} in {n} of {len(runs)}" for flag, n in counts.items())
    return ", ".join(named)


def sentences(table: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Say what is not confirmed, which latencies are left out, and that projects are mixed."""
    told = [*_projects(evidence), *_overtaken(evidence)]
    contended = table[table["contended"]]
    if not contended.empty:
        told.append(
            f"Latencies of {words.listed(contended['arm'])} are left out, since other work shared "
            "the machine; measured alone: research-eval evaluate "
            f"{contended['run'].iloc[0]} --latency."
        )
    return told


def _overtaken(evidence: Evidence) -> list[str]:
    return [
        f"{arm} stands by what was confirmed; {chosen.overtaken_by} did better by the scores of "
        "the search and is not confirmed: research-eval hpo --confirm 5."
        for arm, chosen in choose_all(evidence).items()
        if chosen.overtaken_by
    ]


def _projects(evidence: Evidence) -> list[str]:
    counts = Counter(run.project or "no project" for run in evidence.runs.values())
    if len(counts) < 2:
        return []
    told = words.listed(f"{name} ({count})" for name, count in sorted(counts.items()))
    return [f"Runs of several projects count together: {told}; of one alone: --project NAME."]


OUTPUTS = (
    Output(
        name="best_runs",
        title="Best runs",
        order=10,
        meaning=(
            "The best run of the configuration that stands for each architecture. The test score "
            "is that of the weights that validation selected. Flags are those of all runs that "
            "stand for the architecture."
        ),
        frame=frame,
        sentences=sentences,
        file="{dataset}_summary_table_best_{metric}",
    ),
)

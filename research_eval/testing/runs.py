"""Runs for the contract of stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime

from sqlalchemy import update

from research_eval.records import MetricSummary, NewRun, RunRecord, RunStatus
from research_eval.store import Store
from research_eval.store.schema import experiments


def new_run(experiment_id: str = "run-1", **changes: object) -> NewRun:
    """Return a run with every required field filled in."""
    plain = NewRun(
        experiment_id=experiment_id,
        run_type="json",
        experiment_name="a run",
        full_config_json='{"model_type": "moe", "model_params": {"top_k": 2, "bias": true}}',
        env_details_json='{"python": "3.11"}',
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # names are the caller's care


def ended_run(
    experiment_id: str, status: RunStatus, metrics: Mapping[str, float], **changes: object
) -> RunRecord:
    """Return the record of a run that has ended, with one point of each metric."""
    now = datetime.now(UTC)
    plain = {field.name: getattr(new_run(), field.name) for field in fields(NewRun)}
    summaries = {
        name: MetricSummary(value, 1, value, 1, value, 1, 1, 0) for name, value in metrics.items()
    }
    told = plain | {"experiment_id": experiment_id, "status": status, "metrics": summaries}
    return RunRecord(**told | {"id": 1, "attempt": 1, "timestamp": now, "ended": now} | changes)


def record(store: Store, experiment_id: str, metrics: dict[str, float], **changes: object) -> None:
    """Record a COMPLETED run with one point of each metric."""
    writer = store.start(new_run(experiment_id, **changes))
    writer.log(metrics, step=1)
    writer.finish(RunStatus.COMPLETED)


def set_columns(store: Store, experiment_id: str, **values: object) -> None:
    """Change a run behind its writer's back."""
    of_run = experiments.c.experiment_id == experiment_id
    with store._writing() as connection:
        connection.execute(update(experiments).where(of_run).values(**values))

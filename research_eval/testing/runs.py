"""Runs for the contract of stores."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import update

from research_eval.records import NewRun, RunStatus
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

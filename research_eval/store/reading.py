"""Everything that a store is asked, answered with records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, select, text

from research_eval.errors import StoreError
from research_eval.records import (
    Artifact,
    ExpertStats,
    MetricHistory,
    RunRecord,
    RunStatus,
    StoreInfo,
)
from research_eval.store import queries
from research_eval.store.creation import LATEST
from research_eval.store.engine import Address, store_errors
from research_eval.store.naming import best_run, last_run, named_run, run_key
from research_eval.store.schema import experiments, metrics, schemas


class Reader:
    """The reading half of a `Store`.

    Attributes:
        url: Where it is, as a SQLAlchemy URL without password.
        path: The file of a SQLite database, None for a server.
    """

    def __init__(self, engine: Engine, address: Address) -> None:
        self._engine = engine
        self._address = address
        self.url = address.shown_url
        self.path = address.path

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with store_errors(self._address), self._engine.connect() as connection:
            yield connection

    def run(self, name: str, *, by: str | None = None) -> RunRecord:
        """Return one run with all its metrics.

        Args:
            name: Its id, a unique beginning of its id, its name if no other run is called so,
                "last", or "best".
            by: For "best": metric and direction, as in "final_val_f1:max". Only COMPLETED runs
                and finite values count.

        Raises:
            StoreError: If no run or more than one is meant.
        """
        with self._reading() as connection:
            if name == "last":
                experiment_id = last_run(connection, self._address)
            elif name == "best":
                experiment_id = best_run(connection, self._address, by)
            else:
                experiment_id = named_run(connection, self._address, name)
            is_meant = experiments.c.experiment_id == experiment_id
            return queries.read_runs(connection, [is_meant], is_detailed=True)[0]

    def runs(
        self,
        *,
        project: str | None = None,
        model_type: str | None = None,
        dataset_name: str | None = None,
        status: RunStatus | None = None,
        limit: int | None = None,
        metrics: Sequence[str] | None = None,
    ) -> list[RunRecord]:
        """Return runs, newest first, without `git_diff` and `config_schema_json`.

        Args:
            project: Only runs of this project; likewise `model_type`, `dataset_name`, `status`.
            model_type: See `project`.
            dataset_name: See `project`.
            status: See `project`.
            limit: At most so many.
            metrics: Names of the metrics to read; None reads all, () none.
        """
        asked = {"project": project, "model_type": model_type, "dataset_name": dataset_name}
        with self._reading() as connection:
            return queries.read_runs(
                connection, _equal(asked), status=status, limit=limit, metric_names=metrics
            )

    def find(
        self,
        *,
        config_hash: str | None = None,
        code_hash: str | None = None,
        data_hash: str | None = None,
        seed: int | None = None,
    ) -> list[RunRecord]:
        """Return the runs with this identity, newest first, as `runs` does; None matches any."""
        asked = {
            "config_hash": config_hash,
            "code_hash": code_hash,
            "data_hash": data_hash,
            "seed": seed,
        }
        with self._reading() as connection:
            return queries.read_runs(connection, _equal(asked))

    def history(self, experiment_id: str, metric: str) -> MetricHistory:
        """Return all points of a metric, but for those that a resume superseded.

        Raises:
            StoreError: If there is no such run, or it has no such metric.
        """
        with self._reading() as connection:
            run_id = run_key(connection, self._address, experiment_id)
            history = queries.read_history(connection, run_id, metric)
        if not len(history.steps):
            raise StoreError(f"run {experiment_id} has no metric '{metric}'")
        return history

    def metric_names(self, experiment_id: str) -> list[str]:
        """Return the names of all metrics of a run, sorted.

        Raises:
            StoreError: If there is no such run.
        """
        of_run = metrics.c.experiment_id == experiment_id
        with self._reading() as connection:
            run_key(connection, self._address, experiment_id)
            return sorted(connection.scalars(select(metrics.c.metric_name).where(of_run)))

    def expert_stats(self, experiment_id: str, name: str) -> list[ExpertStats]:
        """Return the arrays recorded under a name, by step and layer; empty if there are none.

        Raises:
            StoreError: If there is no such run.
        """
        with self._reading() as connection:
            run_id = run_key(connection, self._address, experiment_id)
            return queries.read_expert_stats(connection, run_id, name)

    def artifacts(self, experiment_id: str) -> list[Artifact]:
        """Return the files of a run, by path.

        Raises:
            StoreError: If there is no such run.
        """
        with self._reading() as connection:
            run_key(connection, self._address, experiment_id)
            return queries.read_artifacts(connection, experiment_id)

    def config_schema(self, experiment_id: str) -> dict[str, Any]:
        """Return the JSON Schema of the run's configuration, as it was when the run was made.

        Raises:
            StoreError: If there is no such run, or it was recorded without one.
        """
        query = select(schemas.c.schema_json).join(
            experiments, experiments.c.schema_hash == schemas.c.hash
        )
        with self._reading() as connection:
            run_key(connection, self._address, experiment_id)
            found = connection.scalars(
                query.where(experiments.c.experiment_id == experiment_id)
            ).one_or_none()
        if found is None:
            raise StoreError(f"run {experiment_id} was recorded without a schema")
        schema: dict[str, Any] = json.loads(found)
        return schema

    def info(self) -> StoreInfo:
        """Return what the store holds, in numbers."""
        with self._reading() as connection:
            runs = queries.count_by_status(connection)
            if self.path is None:
                size = connection.scalar(text("SELECT pg_database_size(current_database())"))
            else:
                pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
                size = pages * connection.exec_driver_sql("PRAGMA page_size").scalar_one()
        return StoreInfo(str(self._address), LATEST, int(size), runs)


def _equal(asked: dict[str, Any]) -> list[ColumnElement[bool]]:
    return [experiments.c[name] == value for name, value in asked.items() if value is not None]

"""The store as others see it: opened, written to through runs, and read as records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from sqlalchemy import ColumnElement, Connection, Engine, select, text

from research_eval.errors import StoreError
from research_eval.records import (
    Artifact,
    ExpertStats,
    MetricHistory,
    NewRun,
    RunRecord,
    RunStatus,
    StoreInfo,
)
from research_eval.store import queries
from research_eval.store.batch import RunKey
from research_eval.store.creation import LATEST, ensure_current
from research_eval.store.engine import (
    Address,
    open_engine,
    parse_address,
    store_errors,
    use_write_ahead_log,
)
from research_eval.store.naming import best_run, last_run, named_run, run_key
from research_eval.store.schema import experiments, metrics, schemas
from research_eval.store.starting import continue_run, insert_run
from research_eval.store.summary import RunningSummary
from research_eval.store.writer import RunWriter

BUSY_TIMEOUT_S = 30.0


class Store:
    """All runs of a database. Open one with `Store.open`; it is a context manager.

    It may be used from several threads. Reading never changes the database, and shows a run whose
    process died as LOST.

    Attributes:
        url: Where it is, as a SQLAlchemy URL without password.
        path: The file of a SQLite database, None for a server.
        artifact_dir: Folder of the runs' files, one folder for each run.
    """

    def __init__(self, engine: Engine, address: Address, *, is_writable: bool) -> None:
        self._engine = engine
        self._address = address
        self._is_writable = is_writable
        self._writers: list[RunWriter] = []
        self.url = address.shown_url
        self.path = address.path
        base = address.path or Path.cwd() / str(address.url.database)
        self.artifact_dir = base.with_name(f"{base.name}.artifacts")

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        mode: Literal["rw", "ro"] = "rw",
        create: bool = False,
        busy_timeout: float = BUSY_TIMEOUT_S,
    ) -> Self:
        """Open a store.

        Args:
            url: A path, or a SQLAlchemy URL of SQLite or PostgreSQL.
            mode: "ro" cannot change anything, not even by mistake.
            create: Whether to make a store where there is nothing; only with mode "rw".
            busy_timeout: Seconds to wait for a lock that another process holds.

        Raises:
            StoreError: If it cannot be opened, or is not a store of this version.
        """
        if create and mode == "ro":
            raise ValueError("a store that is opened read-only cannot be created")
        address = parse_address(url)
        if address.path is not None and not create and not address.path.exists():
            raise StoreError(
                f"there is no database {address}; record a run first (research-eval run "
                "cfg.json), or name another one with --db"
            )
        engine = open_engine(address, "rwc" if create else mode, busy_timeout)
        try:
            ensure_current(engine, address, create=create)
            if mode == "rw":
                use_write_ahead_log(address, busy_timeout)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, address, is_writable=mode == "rw")

    def close(self) -> None:
        """Write what unfinished runs still hold and end their threads.

        Raises:
            StoreError: If that could not be written.
        """
        try:
            while self._writers:
                self._writers.pop().close()
        finally:
            self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with store_errors(self._address), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        if not self._is_writable:
            raise StoreError(f"{self._address} was opened read-only")
        with (
            store_errors(self._address),
            self._engine.connect().execution_options(writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    # -------------------------------------------------------------------------------- writing

    def start(self, new: NewRun) -> RunWriter:
        """Record a run that starts now, in this process.

        Host and process are filled in where `new` leaves them open.

        Raises:
            StoreError: If its id is taken, or the store cannot be written.
        """
        with self._writing() as connection:
            key = insert_run(connection, new)
            self._make_folder(key)
        return self._writer(key, {})

    def resume(self, experiment_id: str, *, step: int) -> RunWriter:
        """Continue an INTERRUPTED or LOST run as a new attempt.

        Points after `step` stay in the database, marked as superseded, and are left out of
        summaries and histories.

        Args:
            experiment_id: The run.
            step: Step of the resume point that it continues from.

        Raises:
            StoreError: If there is no such run, it has another status, or the store cannot be
                written.
        """
        with self._writing() as connection:
            key, summaries = continue_run(connection, experiment_id, step)
            self._make_folder(key)
        return self._writer(key, summaries)

    def _make_folder(self, key: RunKey) -> None:
        folder = self.artifact_dir / key.experiment_id
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make the folder {folder}: {error.strerror}") from error

    def _writer(self, key: RunKey, summaries: dict[str, RunningSummary]) -> RunWriter:
        with store_errors(self._address):
            writer = RunWriter(self._engine, self._address, key, self.artifact_dir, summaries)
        self._writers = [*(w for w in self._writers if w.is_open), writer]
        return writer

    # -------------------------------------------------------------------------------- reading

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

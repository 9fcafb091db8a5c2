"""Everything that a store is asked, answered with records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Engine, func, select, text

from research_eval.comparison import Comparison, compare
from research_eval.errors import StoreError
from research_eval.filters import (
    Field,
    Metric,
    fields_of,
    parse_fields,
    parse_filter,
    parse_sort,
)
from research_eval.records import (
    Artifact,
    ExpertStats,
    MetricHistory,
    MetricSeries,
    RunRecord,
    RunStatus,
    StoreInfo,
)
from research_eval.store import points, queries
from research_eval.store.conditions import meets, ordering, true_status, unknown_names
from research_eval.store.creation import LATEST
from research_eval.store.engine import Address, store_errors
from research_eval.store.naming import best_run, last_run, named_run, run_key
from research_eval.store.schema import (
    experiments,
    metric_points,
    metrics,
    of_current_attempts,
    schemas,
)
from research_eval.store.studies import StudyRecord, read_attempts, read_studies

if TYPE_CHECKING:
    import pandas as pd


class Reader:
    """The reading half of a `Store`.

    Wherever a run is asked for by `name`, that is its id, a unique beginning of its id, its name
    if no other run is called so, "last", or "best". Runs in the trash are not found, but where
    `deleted` asks for them.

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

    # ----------------------------------------------------------------------------------- runs

    def run(self, name: str, *, by: str | None = None, deleted: bool = False) -> RunRecord:
        """Return one run with all its metrics.

        Args:
            name: See the class.
            by: For "best": metric and direction, as in "final_val_f1:max". Only COMPLETED runs
                and finite values count.
            deleted: Look in the trash, where "last" and "best" mean nothing.

        Raises:
            StoreError: If no run or more than one is meant.
        """
        with self._reading() as connection:
            if name == "last" and not deleted:
                experiment_id = last_run(connection, self._address)
            elif name == "best" and not deleted:
                experiment_id = best_run(connection, self._address, by)
            else:
                experiment_id = named_run(connection, self._address, name, deleted=deleted)
            is_meant = experiments.c.experiment_id == experiment_id
            return queries.read_runs(connection, [is_meant], is_detailed=True)[0]

    def runs(
        self,
        *,
        filter: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        metrics: Sequence[str] | None = None,
        deleted: bool = False,
        project: str | None = None,
        model_type: str | None = None,
        dataset_name: str | None = None,
        status: RunStatus | None = None,
    ) -> list[RunRecord]:
        """Return runs, without `git_diff` and `config_schema_json`.

        Args:
            filter: A condition in the language of `research_eval.filters`, for example
                `metrics.final_val_f1.max > 0.9 and tag == "paper"`.
            sort: Fields of that language with commas between, `-` before one for descending.
                Runs without a value come last, equals and unsorted runs newest first.
            limit: At most so many.
            offset: Leave out so many of the first.
            metrics: Names of the metrics to read; None reads all, () none.
            deleted: Only the runs in the trash, instead of only the others.
            project: Only runs of this project; likewise `model_type`, `dataset_name`, `status`.
            model_type: See `project`.
            dataset_name: See `project`.
            status: See `project`.

        Raises:
            FilterError: If `filter` or `sort` cannot be read.
        """
        asked = {"project": project, "model_type": model_type, "dataset_name": dataset_name}
        condition = None if filter is None else parse_filter(filter)
        keys = () if sort is None else parse_sort(sort)
        named = [*(fields_of(condition) if condition else ()), *(key.field for key in keys)]
        is_status_asked = status is not None or "status" in map(str, named)
        with self._reading() as connection:
            shown_status = true_status(queries.lost_runs(connection) if is_status_asked else ())
            conditions = [_is_in_trash(deleted), *_equal(asked)]
            conditions += [] if condition is None else [meets(condition, shown_status)]
            conditions += [] if status is None else [shown_status == status]
            return queries.read_runs(
                connection,
                conditions,
                order=ordering(keys, shown_status),
                limit=limit,
                offset=offset,
                metric_names=metrics,
            )

    def unknown_names(
        self,
        filter: str | None = None,
        sort: str | None = None,
        columns: str | None = None,
    ) -> list[str]:
        """Return a sentence for each metric or parameter that is named and no run has.

        Naming one is no error, since a run may come that has it.

        Args:
            filter: As in `runs`.
            sort: As in `runs`.
            columns: Fields with commas between.

        Raises:
            FilterError: If one of them cannot be read.
        """
        named: list[Field] = [] if filter is None else [*fields_of(parse_filter(filter))]
        named += [] if sort is None else [key.field for key in parse_sort(sort)]
        named += [] if columns is None else parse_fields(columns)
        with self._reading() as connection:
            return list(unknown_names(connection, named))

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
            return queries.read_runs(connection, [_is_in_trash(False), *_equal(asked)])

    def frame(
        self,
        columns: str | None = None,
        *,
        filter: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> pd.DataFrame:
        """Return runs as a table with a row for each, indexed by `experiment_id`.

        Args:
            columns: Fields with commas between; by default the columns of the run that any run
                fills, all parameters, and the last value of all metrics.
            filter: See `runs`; likewise `sort` and `limit`.
            sort: See `runs`.
            limit: See `runs`.

        Raises:
            FilterError: If `columns`, `filter` or `sort` cannot be read.
        """
        from research_eval.store.frames import runs_frame  # noqa: PLC0415 - pandas takes 0.3 s

        fields = None if columns is None else parse_fields(columns)
        wanted = None if fields is None else [f.name for f in fields if isinstance(f, Metric)]
        records = self.runs(filter=filter, sort=sort, limit=limit, metrics=wanted)
        return runs_frame(records, fields)

    def diff(self, *names: str, metrics: Sequence[str] | None = None) -> Comparison:
        """Return in what the configurations of runs differ, and their metrics side by side.

        Args:
            names: Two runs or more; see the class.
            metrics: Which metrics; None takes all that any of them has.

        Raises:
            StoreError: If a name means no run or more than one.
        """
        return compare([self.run(name) for name in names], metrics)

    def uncommitted(self) -> frozenset[str]:
        """Return the ids of the runs that were made from a checkout with uncommitted changes."""
        query = select(experiments.c.experiment_id).where(experiments.c.git_diff.is_not(None))
        with self._reading() as connection:
            return frozenset(connection.scalars(query))

    # -------------------------------------------------------------------------------- of a study

    def studies(self, name: str | None = None) -> list[StudyRecord]:
        """Return the studies, newest first; only the one of this name if it is given."""
        with self._reading() as connection:
            return read_studies(connection, name)

    def study_runs(self, study: str, *, trial: int | None = None) -> list[RunRecord]:
        """Return the runs of a study, or of one of its trials, oldest first, as `runs` does."""
        asked = {"study": study, "trial": trial}
        with self._reading() as connection:
            conditions = [_is_in_trash(False), *_equal(asked)]
            return queries.read_runs(connection, conditions, order=[experiments.c.id])

    # --------------------------------------------------------------------------------- of a run

    def attempts(self, experiment_id: str) -> list[RunStatus]:
        """Return what became of each attempt of a run, in their order.

        Raises:
            StoreError: If there is no such run.
        """
        with self._reading() as connection:
            run_key(connection, self._address, experiment_id)
            return read_attempts(connection, experiment_id)

    def history(self, experiment_id: str, metric: str) -> MetricHistory:
        """Return all points of a metric, but for those that a resume superseded.

        Raises:
            StoreError: If there is no such run, or it has no such metric.
        """
        with self._reading() as connection:
            run_id = run_key(connection, self._address, experiment_id)
            history = points.read_history(connection, run_id, metric)
        if not len(history.steps):
            raise StoreError(f"run {experiment_id} has no metric '{metric}'")
        return history

    def histories(self, metric: str, experiment_ids: Sequence[str]) -> dict[str, MetricHistory]:
        """Return what `history` does for many runs at once; runs without the metric are missing."""
        with self._reading() as connection:
            return points.read_histories(connection, metric, experiment_ids)

    def series(
        self,
        experiment_id: str,
        metric: str,
        *,
        max_points: int = 1000,
        since: str | None = None,
    ) -> MetricSeries:
        """Return a metric as few enough buckets to draw; those that a resume superseded are out.

        Args:
            experiment_id: The run.
            metric: Its name.
            max_points: At most so many buckets, 10 or more.
            since: The `cursor` of an earlier series: only points that came later. That costs
                next to nothing if none came.

        Raises:
            StoreError: If there is no such run, it has no such metric, or `since` is no cursor.
        """
        if max_points < points.MIN_BUCKETS:
            raise StoreError(f"a series has {points.MIN_BUCKETS} buckets or more, not {max_points}")
        cursor = None if since is None else points.Cursor.parse(since)
        with self._reading() as connection:
            run_id = run_key(connection, self._address, experiment_id)
            series = points.read_series(connection, run_id, metric, max_points, cursor)
        if series is None:
            raise StoreError(f"run {experiment_id} has no metric '{metric}'")
        return series

    def last_step(self, experiment_id: str) -> int | None:
        """Return the highest step that a run has recorded, None if it has no points.

        Raises:
            StoreError: If there is no such run.
        """
        with self._reading() as connection:
            run_id = run_key(connection, self._address, experiment_id)
            query = of_current_attempts(metric_points, func.max(metric_points.c.step))
            found: int | None = connection.scalar(query.where(metric_points.c.run_id == run_id))
            return found

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
        """Return what the store holds, in numbers; runs in the trash are not counted."""
        with self._reading() as connection:
            runs = queries.count_by_status(connection)
            if self.path is None:
                size = connection.scalar(text("SELECT pg_database_size(current_database())"))
            else:
                pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
                size = pages * connection.exec_driver_sql("PRAGMA page_size").scalar_one()
        return StoreInfo(str(self._address), LATEST, int(size), runs)


def _is_in_trash(asked: bool) -> ColumnElement[bool]:
    column = experiments.c.deleted
    return column.is_not(None) if asked else column.is_(None)


def _equal(asked: dict[str, Any]) -> list[ColumnElement[bool]]:
    return [experiments.c[name] == value for name, value in asked.items() if value is not None]

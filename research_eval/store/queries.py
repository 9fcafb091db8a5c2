"""Reading: rows become frozen records here and go no further."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from functools import cache
from itertools import groupby
from math import nan
from typing import Any, cast

import numpy as np
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    CursorResult,
    Row,
    Select,
    Table,
    Text,
    bindparam,
    func,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import ScalarSelect

from research_eval.records import (
    Artifact,
    ExpertStats,
    MetricSummary,
    Note,
    RunRecord,
    RunStatus,
)
from research_eval.store.conditions import newest_first, run_column
from research_eval.store.process import is_gone
from research_eval.store.schema import (
    artifacts,
    experiments,
    expert_stats,
    flags,
    metric_points,
    metrics,
    names,
    notes,
    of_current_attempts,
    schemas,
    tags,
    utc_now,
)
from research_eval.store.summary import RunningSummary, null_as_nan

LOST_AFTER_S = 60.0

_ELSEWHERE = {"metrics", "flags", "tags", "notes"}
_DETAILS = ("git_diff", "config_schema_json")
_COLUMNS = [f.name for f in fields(RunRecord) if f.name not in _ELSEWHERE | {*_DETAILS}]
_TIMES = ("timestamp", "heartbeat", "ended", "deleted", "stop_requested")


class _elements(FunctionElement[str]):  # noqa: N801 - like a function of SQL
    """The texts in a JSON list: one value to bind for any number of them, and no limit."""

    type = Text()
    inherit_cache = True


@compiles(_elements, "sqlite")
def _elements_sqlite(element: _elements, compiler: Any, **kw: Any) -> str:
    return f"(SELECT value FROM json_each({compiler.process(element.clauses, **kw)}))"


@compiles(_elements, "postgresql")
def _elements_postgresql(element: _elements, compiler: Any, **kw: Any) -> str:
    given = compiler.process(element.clauses, **kw)
    return f"(SELECT jsonb_array_elements_text(CAST({given} AS jsonb)))"


def is_one_of(column: ColumnElement[str], texts: Iterable[str]) -> ColumnElement[bool]:
    """Return the condition that a column holds one of any number of texts."""
    return _is_in(column, json.dumps([*texts]))


def _is_in(column: ColumnElement[str], texts: str | BindParameter[str]) -> ColumnElement[bool]:
    return column.op("IN", is_comparison=True)(_elements(texts))


@cache
def _all_of_runs(table: Table) -> Select[Any]:
    """Return the query for the rows of some runs: made anew each time it costs twice as much."""
    return select(table).where(_is_in(table.c.experiment_id, bindparam("runs")))


def status_now(run: Row[Any]) -> RunStatus:
    """Return the true status of a row of `status_columns`: RUNNING may turn out to be LOST."""
    return _true_status(run.status, run.heartbeat, run.pid, run.process, run.now)


def _true_status(status: str, heartbeat: str, pid: int, process: str, now: str) -> RunStatus:
    stored = RunStatus(status)
    if stored is not RunStatus.RUNNING:
        return stored
    age = parse_time(now) - parse_time(heartbeat)
    is_lost = age.total_seconds() > LOST_AFTER_S or is_gone(pid, process)
    return RunStatus.LOST if is_lost else stored


def status_columns() -> list[ColumnElement[Any]]:
    """Return the columns that `status_now` needs."""
    columns = experiments.c
    return [
        columns.status,
        columns.heartbeat,
        columns.pid,
        columns.process,
        utc_now().label("now"),
    ]


def lost_runs(connection: Connection) -> list[int]:
    """Return the keys of the runs that are stored as RUNNING and are LOST."""
    query = select(experiments.c.id, *status_columns())
    is_open = experiments.c.status == RunStatus.RUNNING
    rows = connection.execute(query.where(is_open))
    return [row.id for row in rows if status_now(row) is RunStatus.LOST]


def parse_time(text: str) -> datetime:
    """Read a time as the database writes it."""
    return datetime.fromisoformat(text)


def raw_rows(result: CursorResult[Any]) -> Iterable[tuple[Any, ...]]:
    """Return the driver's own rows, which cost a third of those that SQLAlchemy makes of them."""
    return cast("Iterable[tuple[Any, ...]]", result.cursor)


def read_runs(
    connection: Connection,
    conditions: Sequence[ColumnElement[bool]],
    *,
    order: Sequence[ColumnElement[Any]] | None = None,
    limit: int | None = None,
    offset: int = 0,
    metric_names: Collection[str] | None = None,
    is_detailed: bool = False,
) -> list[RunRecord]:
    """Return the runs that meet all conditions, in five queries however many.

    Args:
        connection: Its transaction makes the queries see one state.
        conditions: On the table `experiments`.
        order: Newest first by default.
        limit: At most so many.
        offset: Leave out so many first ones.
        metric_names: Metrics to read; None reads all.
        is_detailed: Whether to read `git_diff` and `config_schema_json`, which are large.
    """
    keys = [*_COLUMNS, "process", "now", *(_DETAILS if is_detailed else ())]
    query = (
        _every_run(is_detailed)
        .where(*conditions)
        .order_by(*(newest_first() if order is None else order))
    )
    rows = raw_rows(connection.execute(query.limit(limit).offset(offset or None)))
    found = [dict(zip(keys, row, strict=True)) for row in rows]
    _attach(connection, {run["experiment_id"]: run for run in found}, metric_names)
    return [_record(run) for run in found]


@cache
def _every_run(is_detailed: bool) -> Select[Any]:
    query = select(
        *(run_column(name) for name in _COLUMNS), experiments.c.process, utc_now().label("now")
    )
    if is_detailed:
        query = query.add_columns(experiments.c.git_diff, schemas.c.schema_json)
        query = query.outerjoin_from(experiments, schemas)
    return query


def _attach(
    connection: Connection,
    runs: Mapping[str, dict[str, Any]],
    wanted: Collection[str] | None,
) -> None:
    """Give each run its metrics, flags, tags and notes."""
    for run in runs.values():
        run["metrics"], run["flags"], run["tags"], run["notes"] = {}, {}, (), ()
    summaries = {run_id: run["metrics"] for run_id, run in runs.items()}
    is_metric = [] if wanted is None else [metrics.c.metric_name.in_(wanted)]
    for row in _of_runs(connection, metrics, runs, *is_metric):
        # MetricSummary(*...) and _make take twice as long, and there are 20 of these per run.
        summary = tuple.__new__(MetricSummary, row[2:])
        summaries[row[0]][row[1]] = summary if row[2] is not None else summary._replace(value=nan)
    for run_id, name, reason in _of_runs(connection, flags, runs):
        runs[run_id]["flags"][name] = reason
    for run_id, tag in sorted(_of_runs(connection, tags, runs)):
        runs[run_id]["tags"] += (tag,)
    for _, run_id, timestamp, text in sorted(_of_runs(connection, notes, runs)):
        runs[run_id]["notes"] += (Note(parse_time(timestamp), text),)


def _of_runs(
    connection: Connection,
    table: Table,
    runs: Collection[str],
    *conditions: ColumnElement[bool],
) -> Iterable[tuple[Any, ...]]:
    """Return the rows of a table that belong to some runs, in no order."""
    query = _all_of_runs(table).where(*conditions) if conditions else _all_of_runs(table)
    return raw_rows(connection.execute(query, {"runs": json.dumps([*runs])}))


def _record(values: dict[str, Any]) -> RunRecord:
    now, process = values.pop("now"), values.pop("process")
    status, heartbeat = values["status"], values["heartbeat"]
    values["status"] = _true_status(status, heartbeat, values["pid"], process, now)
    values["contended"] = bool(values["contended"])
    for name in _TIMES:
        if values[name] is not None:
            values[name] = parse_time(values[name])
    return RunRecord(**values)


def count_by_status(connection: Connection) -> dict[RunStatus, int]:
    """Return the number of runs by their true status, without those in the trash."""
    stored = experiments.c.status
    is_open = stored == RunStatus.RUNNING
    is_kept = experiments.c.deleted.is_(None)
    open_runs = connection.execute(select(*status_columns()).where(is_open, is_kept))
    counted = Counter(status_now(run) for run in open_runs)
    settled = select(stored, func.count()).where(~is_open, is_kept).group_by(stored)
    for status, number in connection.execute(settled):
        counted[RunStatus(status)] += number
    return dict(counted)


def _name_id(name: str) -> ScalarSelect[int]:
    return select(names.c.id).where(names.c.name == name).scalar_subquery()


def summarize(connection: Connection, run_id: int) -> dict[str, RunningSummary]:
    """Return the summaries of a run, folded anew from the points that are not superseded."""
    points = metric_points.c
    query = (
        of_current_attempts(metric_points, names.c.name, points.step, points.value)
        .where(points.run_id == run_id)
        .order_by(points.attempt, points.seq)
    )
    summaries: dict[str, RunningSummary] = {}
    for name, step, value in connection.execute(query.execution_options(yield_per=10_000)):
        summaries.setdefault(name, RunningSummary()).add(step, null_as_nan(value))
    return summaries


def read_expert_stats(
    connection: Connection, run_id: int, name: str, *conditions: ColumnElement[bool]
) -> list[ExpertStats]:
    """Return the arrays of a name by step and layer; of one step the last attempt's."""
    stats = expert_stats.c
    query = (
        of_current_attempts(
            expert_stats, stats.step, stats.layer, stats.dtype, stats.shape, stats.data
        )
        .where(stats.run_id == run_id, stats.name_id == _name_id(name), *conditions)
        .order_by(stats.step, stats.layer, stats.attempt)
    )
    found = []
    for (step, layer), rows in groupby(connection.execute(query), lambda row: (row[0], row[1])):
        *_, last = rows
        values = np.frombuffer(last.data, dtype=last.dtype).reshape(json.loads(last.shape))
        found.append(ExpertStats(step, layer, values))
    return found


def read_artifacts(connection: Connection, experiment_id: str) -> list[Artifact]:
    """Return the files of a run by path."""
    columns = artifacts.c
    query = (
        select(columns.kind, columns.path, columns.sha256, columns.bytes)
        .where(columns.experiment_id == experiment_id)
        .order_by(columns.path)
    )
    return [Artifact(*row) for row in connection.execute(query)]

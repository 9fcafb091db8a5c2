"""Reading: rows become frozen records here and go no further."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import fields
from datetime import datetime
from itertools import groupby
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Row, Select, func, select
from sqlalchemy.sql.selectable import ScalarSelect

from research_eval.records import (
    Artifact,
    ExpertStats,
    MetricHistory,
    MetricSummary,
    NewRun,
    RunRecord,
    RunStatus,
)
from research_eval.store.process import is_gone
from research_eval.store.schema import (
    artifacts,
    experiments,
    expert_stats,
    flags,
    metric_points,
    metrics,
    names,
    of_current_attempts,
    schemas,
    tags,
    utc_now,
)
from research_eval.store.summary import null_as_nan

LOST_AFTER_S = 60.0

_LARGE = {"git_diff", "config_schema_json"}
_PLAIN = [f.name for f in fields(NewRun) if f.name not in {"group", "tags"} | _LARGE]


def status_now(run: Row[Any]) -> RunStatus:
    """Return the true status of a row of `status_columns`: RUNNING may turn out to be LOST."""
    status = RunStatus(run.status)
    if status is not RunStatus.RUNNING:
        return status
    age = parse_time(run.now) - parse_time(run.heartbeat)
    is_lost = age.total_seconds() > LOST_AFTER_S or is_gone(run.pid, run.process)
    return RunStatus.LOST if is_lost else status


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


def parse_time(text: str) -> datetime:
    """Read a time as the database writes it."""
    return datetime.fromisoformat(text)


def read_runs(
    connection: Connection,
    conditions: Sequence[ColumnElement[bool]],
    *,
    status: RunStatus | None = None,
    limit: int | None = None,
    metric_names: Collection[str] | None = None,
    is_detailed: bool = False,
) -> list[RunRecord]:
    """Return the runs that meet all conditions, newest first, in four queries however many.

    Args:
        connection: Its transaction makes the four queries see one state.
        conditions: On the table `experiments`.
        status: Only runs whose true status is this.
        limit: At most so many.
        metric_names: Metrics to read; None reads all.
        is_detailed: Whether to read `git_diff` and `config_schema_json`, which are large.
    """
    chosen = select(experiments.c.experiment_id).where(*conditions)
    if status in (RunStatus.RUNNING, RunStatus.LOST):
        # Only `status_now` can tell these apart.
        chosen = chosen.where(experiments.c.status.in_([RunStatus.RUNNING, RunStatus.LOST]))
    else:
        if status is not None:
            chosen = chosen.where(experiments.c.status == status)
        chosen = chosen.order_by(*_newest_first()).limit(limit)
    rows = connection.execute(_runs_query(chosen, is_detailed=is_detailed)).all()
    summaries = _summaries(connection, chosen, metric_names)
    reasons = _pairs(connection, chosen, flags.c.experiment_id, flags.c.name, flags.c.reason)
    labels = _pairs(connection, chosen, tags.c.experiment_id, tags.c.tag, tags.c.tag)
    found = [
        _record(
            row,
            summaries.get(row.experiment_id, {}),
            reasons.get(row.experiment_id, {}),
            tuple(labels.get(row.experiment_id, {})),
        )
        for row in rows
    ]
    return [run for run in found if status in (None, run.status)][:limit]


def count_by_status(connection: Connection) -> dict[RunStatus, int]:
    """Return the number of runs by their true status."""
    stored = experiments.c.status
    is_open = stored == RunStatus.RUNNING
    open_runs = connection.execute(select(*status_columns()).where(is_open))
    counted = Counter(status_now(run) for run in open_runs)
    settled = select(stored, func.count()).where(~is_open).group_by(stored)
    for status, number in connection.execute(settled):
        counted[RunStatus(status)] += number
    return dict(counted)


def _newest_first() -> tuple[ColumnElement[Any], ...]:
    return experiments.c.timestamp.desc(), experiments.c.id.desc()


def _runs_query(chosen: Select[tuple[str]], *, is_detailed: bool) -> Select[Any]:
    columns = experiments.c
    query = select(
        *(columns[name] for name in _PLAIN if name != "pid"),
        columns.id,
        columns.group_name,
        columns.attempt,
        columns.timestamp,
        columns.ended,
        columns.error,
        columns.contended,
        *status_columns(),
    )
    if is_detailed:
        query = query.add_columns(
            columns.git_diff, schemas.c.schema_json.label("config_schema_json")
        ).outerjoin_from(experiments, schemas)
    return query.where(columns.experiment_id.in_(chosen)).order_by(*_newest_first())


def _summaries(
    connection: Connection, chosen: Select[tuple[str]], wanted: Collection[str] | None
) -> dict[str, dict[str, MetricSummary]]:
    query = select(metrics).where(metrics.c.experiment_id.in_(chosen))
    if wanted is not None:
        query = query.where(metrics.c.metric_name.in_(wanted))
    found: dict[str, dict[str, MetricSummary]] = {}
    for run, name, value, *rest in connection.execute(query).all():
        found.setdefault(run, {})[name] = MetricSummary(null_as_nan(value), *rest)
    return found


def _pairs(
    connection: Connection,
    chosen: Select[tuple[str]],
    run: ColumnElement[str],
    key: ColumnElement[str],
    value: ColumnElement[str],
) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    query = select(run, key, value).where(run.in_(chosen)).order_by(run, key)
    for run_id, name, text in connection.execute(query):
        found.setdefault(run_id, {})[name] = text
    return found


def _record(
    row: Row[Any],
    summaries: dict[str, MetricSummary],
    reasons: dict[str, str],
    labels: tuple[str, ...],
) -> RunRecord:
    values = row._mapping
    return RunRecord(
        **{name: values[name] for name in _PLAIN},
        **{name: values[name] for name in _LARGE if name in values},
        id=row.id,
        group=row.group_name,
        status=status_now(row),
        attempt=row.attempt,
        timestamp=parse_time(row.timestamp),
        heartbeat=parse_time(row.heartbeat),
        ended=None if row.ended is None else parse_time(row.ended),
        error=row.error,
        contended=row.contended,
        flags=reasons,
        metrics=summaries,
        tags=labels,
    )


def read_history(connection: Connection, run_id: int, metric: str) -> MetricHistory:
    """Return the points of a metric that no later attempt superseded; none give empty arrays."""
    points = metric_points.c
    query = (
        of_current_attempts(metric_points, points.step, points.value, points.time)
        .where(points.run_id == run_id, points.name_id == _name_id(metric))
        .order_by(points.step, points.attempt, points.seq)
    )
    rows = connection.execute(query).all()
    steps, values, times = zip(*rows, strict=True) if rows else ((), (), ())
    return MetricHistory(
        np.array(steps, dtype=np.int64),
        np.array(values, dtype=np.float64),  # NULL, that is None, becomes NaN
        np.array(times, dtype=np.float64),
    )


def _name_id(name: str) -> ScalarSelect[int]:
    return select(names.c.id).where(names.c.name == name).scalar_subquery()


def recorded_points(connection: Connection, run_id: int) -> Iterator[tuple[str, int, float]]:
    """Yield (metric, step, value) of a run in the order of recording, without superseded ones."""
    points = metric_points.c
    query = (
        of_current_attempts(metric_points, names.c.name, points.step, points.value)
        .where(points.run_id == run_id)
        .order_by(points.attempt, points.seq)
    )
    for name, step, value in connection.execute(query):
        yield name, step, null_as_nan(value)


def read_expert_stats(connection: Connection, run_id: int, name: str) -> list[ExpertStats]:
    """Return the arrays of a name by step and layer; of one step the last attempt's."""
    stats = expert_stats.c
    query = (
        of_current_attempts(
            expert_stats, stats.step, stats.layer, stats.dtype, stats.shape, stats.data
        )
        .where(stats.run_id == run_id, stats.name_id == _name_id(name))
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

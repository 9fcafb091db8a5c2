"""The history of a metric: whole, or in buckets that are computed by the database."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Row,
    Select,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
)

from research_eval.errors import StoreError
from research_eval.records import MetricHistory, MetricSeries
from research_eval.store.queries import is_one_of, raw_rows
from research_eval.store.schema import (
    attempts,
    experiments,
    metric_points,
    metrics,
    names,
    of_current_attempts,
)

MIN_BUCKETS = 10

_POINT = metric_points.c
_IN_ORDER = (_POINT.step, _POINT.attempt, _POINT.seq)
_ROW = np.dtype([("step", np.int64), ("value", np.float64), ("time", np.float64)])

_BUCKET = {
    "first_steps": np.int64,
    "last_steps": np.int64,
    "minimum": np.float64,
    "maximum": np.float64,
    "mean": np.float64,
    "counts": np.int64,
    "nonfinite": np.int64,
}

# PostgreSQL refuses a sum that overflows, and a product that underflows. So values from here on
# are summed up apart from the others, scaled by a power of two, which is exact.
_LARGE = 1e200
_SCALE = 2.0**-64


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to which point a series was read.

    Attributes:
        attempt: The run's attempt at that time.
        seq: The last point of that attempt; -1 for none.
        count: How many points there were, over all attempts.
    """

    attempt: int
    seq: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read what `str` made.

        Raises:
            StoreError: If it is something else.
        """
        if not re.fullmatch(r"[0-9]{1,18}\.(-1|[0-9]{1,18})\.[0-9]{1,18}", text):
            raise StoreError(f"'{text}' is no cursor; give what an earlier series returned")
        return cls(*map(int, text.split(".")))

    @property
    def place(self) -> tuple[int, int]:
        """What a run has, attempt and number of points, if nothing came after."""
        return self.attempt, self.count

    def __str__(self) -> str:
        return f"{self.attempt}.{self.seq}.{self.count}"


def read_history(connection: Connection, run_id: int, metric: str) -> MetricHistory:
    """Return the points of a metric that no later attempt superseded; none give empty arrays."""
    query = select(_POINT.step, _POINT.value, _POINT.time).where(
        *_current_points(connection, run_id, metric)
    )
    return _history(raw_rows(connection.execute(query.order_by(*_IN_ORDER))))


def read_histories(
    connection: Connection, metric: str, experiment_ids: Iterable[str]
) -> dict[str, MetricHistory]:
    """Return what `read_history` does, by run, for those that have the metric; in one query."""
    run = experiments.c.experiment_id
    query = of_current_attempts(metric_points, run, _POINT.step, _POINT.value, _POINT.time)
    query = query.where(is_one_of(run, experiment_ids), names.c.name == metric)
    rows = raw_rows(connection.execute(query.order_by(experiments.c.id, *_IN_ORDER)))
    return {
        found: _history(row[1:] for row in points)
        for found, points in groupby(rows, key=itemgetter(0))
    }


def _history(rows: Iterable[tuple[Any, ...]]) -> MetricHistory:
    points = np.fromiter(rows, _ROW)  # NULL, that is None, becomes NaN
    return MetricHistory(*(np.ascontiguousarray(points[name]) for name in _ROW.names or ()))


def _current_points(connection: Connection, run_id: int, metric: str) -> list[ColumnElement[bool]]:
    """Return conditions for the points of a metric that no later attempt superseded.

    What is superseded is looked up first: a join for every point takes four times as long.
    """
    cut = select(attempts.c.attempt, attempts.c.valid_to_step).where(
        attempts.c.run_id == run_id, attempts.c.valid_to_step.is_not(None)
    )
    name_id = select(names.c.id).where(names.c.name == metric).scalar_subquery()
    return [
        _POINT.run_id == run_id,
        _POINT.name_id == name_id,
        *(
            or_(_POINT.attempt != attempt, _POINT.step <= last)
            for attempt, last in connection.execute(cut)
        ),
    ]


def read_series(
    connection: Connection, run_id: int, metric: str, max_points: int, since: Cursor | None
) -> MetricSeries | None:
    """Return a metric in at most `max_points` buckets; None if the run has no such metric.

    Args:
        connection: In a transaction that sees one state.
        run_id: Key of the run.
        metric: Name of the metric.
        max_points: At least `MIN_BUCKETS`.
        since: Leave out what came up to here.
    """
    found = connection.execute(
        select(experiments.c.attempt, metrics.c.num_points)
        .join(metrics, metrics.c.experiment_id == experiments.c.experiment_id)
        .where(experiments.c.id == run_id, metrics.c.metric_name == metric)
    ).one_or_none()
    if found is None:
        return None
    attempt, count = found
    is_delta = since is not None and since.attempt == attempt and since.count <= count
    before = since if since is not None and is_delta else Cursor(attempt, -1, 0)
    points = _current_points(connection, run_id, metric)
    num_new = count - before.count
    if num_new > max_points:
        buckets, seq = _buckets(connection, [*points, *_after(before)], max_points, attempt)
    elif num_new:
        buckets, seq = single_points(connection, latest_points(points), before, count=num_new)
    else:
        buckets, seq = _columns([]), before.seq
    cursor = str(Cursor(attempt, max(seq, before.seq), count))
    return MetricSeries(**buckets, cursor=cursor, is_delta=is_delta)


def _after(cursor: Cursor) -> list[ColumnElement[bool]]:
    if not cursor.count:
        return []
    return [_POINT.attempt == cursor.attempt, _POINT.seq > cursor.seq]


def latest_points(points: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """Return a query for the last `count` points by step, backwards; `count` is a parameter.

    Steps mostly grow, so what came last is mostly at the greatest steps, which the primary key
    finds without a look at the others.
    """
    query = select(_POINT.step, _POINT.value, _POINT.attempt, _POINT.seq).where(*points)
    backwards = [column.desc() for column in _IN_ORDER]
    return query.order_by(*backwards).limit(bindparam("count", type_=Integer))


def single_points(
    connection: Connection, latest: Select[Any], before: Cursor, **parameters: int
) -> tuple[dict[str, npt.NDArray[Any]], int]:
    """Return the points that came after a cursor as buckets of one, and the last one's `seq`.

    Args:
        connection: To read with.
        latest: From `latest_points`.
        before: The cursor.
        parameters: Of the query; `count` is how many points came.
    """
    rows = connection.execute(latest, parameters).all()[::-1]
    if before.count and any((row.attempt, row.seq) <= (before.attempt, before.seq) for row in rows):
        every = latest.limit(None).order_by(None).where(*_after(before)).order_by(*_IN_ORDER)
        rows = connection.execute(every, parameters).all()
    buckets = []
    for row in rows:
        finite = _finite_or_none(row.value)
        buckets.append((row.step, row.step, finite, finite, finite, 1, int(finite is None)))
    seq = max((row.seq for row in rows if row.attempt == before.attempt), default=-1)
    return _columns(buckets), seq


def _finite_or_none(value: float | None) -> float | None:
    return None if value is None or abs(value) > sys.float_info.max else value


def _buckets(
    connection: Connection, points: Sequence[ColumnElement[bool]], max_points: int, attempt: int
) -> tuple[dict[str, npt.NDArray[Any]], int]:
    """Return points in buckets, and the greatest `seq` of an attempt."""
    edge = select(_POINT.step).where(*points).limit(1)
    first = connection.execute(edge.order_by(_POINT.step)).scalar_one()
    last = connection.execute(edge.order_by(_POINT.step.desc())).scalar_one()
    # The first and the last step take a bucket each, and equal parts of the steps the others.
    # Buckets begin at multiples of their width, so that they stay the same while a run goes on.
    width = max(1, -(-(last - first) // (max_points - 3)))
    place = case((_POINT.step == first, 0), (_POINT.step == last, 2), else_=1)
    query = (
        select(
            func.min(_POINT.step).label("first_step"),
            func.max(_POINT.step),
            *sums_of_values(),
            func.max(case((_POINT.attempt == attempt, _POINT.seq))),
        )
        .where(*points)
        .group_by(place, _POINT.step // width)
        .order_by("first_step")
    )
    buckets, last_seq = [], -1
    for *ends, low, high, usual, large, count, num_finite, seq in connection.execute(query):
        mean = mean_of(usual, large, num_finite)
        buckets.append((*ends, low, high, mean, count, count - num_finite))
        last_seq = max(last_seq, -1 if seq is None else seq)
    return _columns(buckets), last_seq


def sums_of_values(*, is_tame: bool = False) -> list[ColumnElement[Any]]:
    """Return what sums up points: least and greatest finite value, two sums, two counts.

    The sums are those of usual and of large values, for `mean_of`; the counts those of all points
    and of the finite ones.

    Args:
        is_tame: Whether all values are known to be finite and not large, which halves the cost.
    """
    value = _POINT.value
    if is_tame:
        sums = [func.sum(value), literal(0.0)]
        return [func.min(value), func.max(value), *sums, func.count(), func.count(value)]
    limit = sys.float_info.max
    finite = case((value.between(-limit, limit), value))
    usual = case((value.between(-_LARGE, _LARGE), value), else_=0.0)
    large = case((value.between(-_LARGE, _LARGE), 0.0), else_=finite * _SCALE)
    sums = [func.sum(usual), func.sum(large)]
    return [func.min(finite), func.max(finite), *sums, func.count(), func.count(finite)]


def are_tame(summary: Row[Any]) -> bool:
    """Return whether a metric's least and greatest value, and counts, promise tame values."""
    low, high = summary.min_value, summary.max_value
    return not summary.num_nonfinite and low is not None and -_LARGE < low <= high < _LARGE


def mean_of(usual: float, large: float, num_finite: int) -> float | None:
    """Return the mean of finite values from their sums; None if there are none."""
    return usual / num_finite + large / num_finite / _SCALE if num_finite else None


def _columns(rows: Sequence[tuple[Any, ...]]) -> dict[str, npt.NDArray[Any]]:
    columns = zip(*rows, strict=True) if rows else ((),) * len(_BUCKET)
    return {
        name: np.array(column, kind)
        for (name, kind), column in zip(_BUCKET.items(), columns, strict=True)
    }

"""A metric of several runs in buckets on one grid of steps, computed by the database.

B buckets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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

from research_eval.records import MetricSeries
from research_eval.store.points import (
    Cursor,
    are_tame,
    latest_points,
    mean_of,
    read_series,
    single_points,
    sums_of_values,
)
from research_eval.store.queries import is_one_of, raw_rows
from research_eval.store.schema import attempts, experiments, metric_points, metrics, names

Steps = tuple[int, int]
"""First and last step of a part, both included."""

Floats = npt.NDArray[np.float64]

_POINT = metric_points.c
_SQUARABLE = 1e150
"""Values up to here have a square."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A metric of one run, or of a group of runs, in buckets of steps.

    Arrays hold one entry for each bucket, by step; NaN stands where nothing finite is.

    Attributes:
        steps: int64 [B]; where the bucket begins. A run with few points has one in each.
        times: float64 [B]; Unix seconds of the first point. Empty if nobody asked, and for a group.
        minimum: float64 [B], over finite values; likewise `maximum` and `mean`. Of a group the
            extremes over runs and the mean over the runs' values at a step.
        counts: int64 [B]; number of points. Of a group the number of runs at a step.
        nonfinite: int64 [B]; how many points were NaN or infinite.
        deviation: float64 [B]; of a group the standard deviation between runs, else empty.
        width: Steps in a bucket; 0 if every point stands for itself.
        cursor: Asks `Browser.later` for what came after this; empty for a part of the steps.
    """

    steps: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    minimum: npt.NDArray[np.float64]
    maximum: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    nonfinite: npt.NDArray[np.int64]
    deviation: npt.NDArray[np.float64]
    width: int
    cursor: str


def runs_with(connection: Connection, metric: str, experiment_ids: Sequence[str]) -> list[Row[Any]]:
    """Return of each run that has a metric its key, its id, its attempt and the summary."""
    query = (
        select(
            experiments.c.id,
            experiments.c.experiment_id,
            experiments.c.attempt,
            metrics.c.num_points,
            metrics.c.num_nonfinite,
            metrics.c.min_value,
            metrics.c.max_value,
        )
        .join(metrics, metrics.c.experiment_id == experiments.c.experiment_id)
        .where(is_one_of(experiments.c.experiment_id, experiment_ids))
        .where(metrics.c.metric_name == metric)
    )
    return [*connection.execute(query)]


def read_curves(
    connection: Connection,
    metric: str,
    experiment_ids: Sequence[str],
    max_points: int,
    steps: Steps | None,
    *,
    with_times: bool,
) -> dict[str, Curve]:
    """Return the curve of each run that has the metric; see `Browser.curves`."""
    runs = runs_with(connection, metric, experiment_ids)
    if not runs:
        return {}
    points = _PointsOf(connection, metric, runs)
    ends = steps or points.ends()
    few = [run for run in runs if run.num_points <= max_points]
    found = points.single(few, ends) if few else {}
    for is_tame in (True, False):
        many = [run for run in runs if run not in few and are_tame(run) == is_tame]
        if many:
            found |= points.bucketed(many, ends, max_points, is_tame=is_tame, with_times=with_times)
    left_out: dict[str, Any] = {} if with_times else {"times": np.array([])}
    if steps is not None:
        left_out["cursor"] = ""
    return {name: replace(found[name], **left_out) for name in experiment_ids if name in found}


def read_group_curves(
    connection: Connection,
    metric: str,
    groups: Mapping[str, Sequence[str]],
    max_points: int,
    steps: Steps | None,
) -> dict[str, Curve]:
    """Return the mean curve of each group with a run that has it; see `Browser.group_curves`."""
    runs = runs_with(connection, metric, [run for members in groups.values() for run in members])
    if not runs:
        return {}
    points = _PointsOf(connection, metric, runs)
    ends = steps or points.ends()
    found = {}
    for name, members in groups.items():
        chosen = set(members)
        of_group = [run for run in runs if run.experiment_id in chosen]
        if of_group:
            found[name] = points.averaged(of_group, ends, max_points)
    return found


def read_news(
    connection: Connection, metric: str, cursors: Mapping[str, Cursor], max_points: int
) -> dict[str, MetricSeries]:
    """Return what came after each cursor, of the runs that have anything; see `Browser.later`."""
    runs = [
        run
        for run in runs_with(connection, metric, list(cursors))
        if (run.attempt, run.num_points) != cursors[run.experiment_id].place
    ]
    points = _PointsOf(connection, metric, runs)
    found = {
        run.experiment_id: points.after(run, cursors[run.experiment_id], max_points) for run in runs
    }
    return {name: news for name, news in found.items() if news is not None}


class _PointsOf:
    """The points of one metric of some runs, without those that a later attempt superseded."""

    def __init__(self, connection: Connection, metric: str, runs: Sequence[Row[Any]]) -> None:
        self._connection = connection
        self._metric = metric
        self._runs = runs
        name_id = select(names.c.id).where(names.c.name == metric).scalar_subquery()
        cuts = select(attempts.c.run_id, attempts.c.attempt, attempts.c.valid_to_step).where(
            attempts.c.run_id.in_([run.id for run in runs]), attempts.c.valid_to_step.is_not(None)
        )
        self._is_of_metric = _POINT.name_id == name_id
        self._is_current = [
            or_(_POINT.run_id != run, _POINT.attempt != attempt, _POINT.step <= last)
            for run, attempt, last in connection.execute(cuts)
        ]

    @cached_property
    def _latest(self) -> Select[Any]:
        """For the run that is its parameter; built once, since that takes longer than it runs."""
        is_of_run = _POINT.run_id == bindparam("run", type_=Integer)
        return latest_points([is_of_run, self._is_of_metric, *self._is_current])

    def _are_of(self, runs: Sequence[Row[Any]], ends: Steps) -> list[ColumnElement[bool]]:
        return [
            _POINT.run_id.in_([run.id for run in runs]),
            self._is_of_metric,
            _POINT.step.between(*ends),
            *self._is_current,
        ]

    def ends(self) -> Steps:
        """Return the least and the greatest step; two look-ups in the key for each run."""
        edge = select(_POINT.step).where(_POINT.run_id == experiments.c.id, self._is_of_metric)
        edge = edge.where(*self._is_current).limit(1).correlate(experiments)
        first = edge.order_by(_POINT.step).scalar_subquery()
        last = edge.order_by(_POINT.step.desc()).scalar_subquery()
        runs = experiments.c.id.in_([run.id for run in self._runs])
        found = self._connection.execute(select(first, last).where(runs)).all()
        return min(row[0] for row in found), max(row[1] for row in found)

    def after(self, run: Row[Any], before: Cursor, max_points: int) -> MetricSeries | None:
        """Return what came after a cursor, with the run's whole series where it must be."""
        num_new = run.num_points - before.count
        if run.attempt != before.attempt or not 0 < num_new <= max_points:
            return read_series(self._connection, run.id, self._metric, max_points, before)
        buckets, seq = single_points(
            self._connection, self._latest, before, count=num_new, run=run.id
        )
        cursor = str(Cursor(run.attempt, max(seq, before.seq), run.num_points))
        return MetricSeries(**buckets, cursor=cursor, is_delta=True)

    def single(self, runs: Sequence[Row[Any]], ends: Steps) -> dict[str, Curve]:
        """Return every point as a bucket of its own."""
        query = select(
            _POINT.run_id, _POINT.step, _POINT.time, _POINT.value, _POINT.attempt, _POINT.seq
        ).where(*self._are_of(runs, ends))
        in_order = (_POINT.run_id, _POINT.step, _POINT.attempt, _POINT.seq)
        rows = raw_rows(self._connection.execute(query.order_by(*in_order)))
        by_id = {run.id: run for run in runs}
        found = {}
        for run_id, of_run in groupby(rows, key=itemgetter(0)):
            run = by_id[run_id]
            found[run.experiment_id] = _single_points(run, list(of_run))
        return found

    def bucketed(
        self,
        runs: Sequence[Row[Any]],
        ends: Steps,
        max_points: int,
        *,
        is_tame: bool,
        with_times: bool,
    ) -> dict[str, Curve]:
        """Return points summed up in buckets, which begin at multiples of their width."""
        width = _width(ends, max_points)
        bucket = _POINT.step // width
        seq: ColumnElement[Any] = _POINT.seq
        if any(run.attempt > 1 for run in runs):
            current = case({run.id: run.attempt for run in runs}, value=_POINT.run_id)
            seq = case((_POINT.attempt == current, seq))
        query = (
            select(
                _POINT.run_id,
                bucket,
                func.min(_POINT.time) if with_times else literal(0.0),
                *sums_of_values(is_tame=is_tame),
                func.max(seq),
            )
            .where(*self._are_of(runs, ends))
            .group_by(_POINT.run_id, bucket)
            .order_by(_POINT.run_id, bucket)
        )
        rows = raw_rows(self._connection.execute(query))
        by_id = {run.id: run for run in runs}
        return {
            by_id[run_id].experiment_id: _summed_up(by_id[run_id], list(of_run), width)
            for run_id, of_run in groupby(rows, key=itemgetter(0))
        }

    def averaged(self, runs: Sequence[Row[Any]], ends: Steps, max_points: int) -> Curve:
        """Return the mean of runs at each step, averaged over the steps of a bucket."""
        width = _width(ends, max_points)
        is_tame = all(map(are_tame, runs))
        sums = sums_of_values(is_tame=is_tame)
        is_small = _POINT.value.between(-_SQUARABLE, _SQUARABLE)
        squares = func.sum(case((is_small, _POINT.value * _POINT.value), else_=0.0))
        query = select(_POINT.step, *sums, squares, func.count(_POINT.run_id.distinct()))
        query = query.where(*self._are_of(runs, ends)).group_by(_POINT.step).order_by(_POINT.step)
        return _averaged(list(raw_rows(self._connection.execute(query))), width)


def _width(ends: Steps, max_points: int) -> int:
    return max(1, -(-(ends[1] - ends[0] + 1) // max_points))


def _single_points(run: Row[Any], rows: Sequence[tuple[Any, ...]]) -> Curve:
    _, steps, times, values, attempts_, seqs = zip(*rows, strict=True)
    value_B = np.array(values, np.float64)
    is_finite_B = np.isfinite(value_B)
    shown_B = np.where(is_finite_B, value_B, np.nan)
    of_attempt = [seq for seq, a in zip(seqs, attempts_, strict=True) if a == run.attempt]
    return Curve(
        steps=np.array(steps, np.int64),
        times=np.array(times, np.float64),
        minimum=shown_B,
        maximum=shown_B,
        mean=shown_B,
        counts=np.ones(len(steps), np.int64),
        nonfinite=(~is_finite_B).astype(np.int64),
        deviation=np.array([]),
        width=0,
        cursor=str(Cursor(run.attempt, max(of_attempt, default=-1), run.num_points)),
    )


def _summed_up(run: Row[Any], rows: Sequence[tuple[Any, ...]], width: int) -> Curve:
    _, bucket, times, low, high, usual, large, counts, finite, seqs = zip(*rows, strict=True)
    last = max((seq for seq in seqs if seq is not None), default=-1)
    return Curve(
        steps=np.array(bucket, np.int64) * width,
        times=np.array(times, np.float64),
        minimum=np.array(low, np.float64),
        maximum=np.array(high, np.float64),
        mean=np.array(list(map(mean_of, usual, large, finite)), np.float64),
        counts=np.array(counts, np.int64),
        nonfinite=np.array(counts, np.int64) - np.array(finite, np.int64),
        deviation=np.array([]),
        width=width,
        cursor=str(Cursor(run.attempt, last, run.num_points)),
    )


def _averaged(rows: Sequence[tuple[Any, ...]], width: int) -> Curve:
    """Return rows of one step each as buckets: means and variances are averaged over steps."""
    step_S, low_S, high_S, usual_S, large_S, count_S, finite_S, square_S, runs_S = (
        np.array(column, np.float64) for column in (zip(*rows, strict=True) if rows else ((),) * 9)
    )
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean_S = np.array(list(map(mean_of, usual_S, large_S, finite_S)), np.float64)
        variance_S = np.maximum(square_S - finite_S * mean_S**2, 0) / (finite_S - 1)
    starts_B, first_B = np.unique(step_S.astype(np.int64) // width * width, return_index=True)
    size_B = np.diff([*first_B, len(step_S)])
    return Curve(
        steps=starts_B,
        times=np.array([]),
        minimum=_reduced(np.fmin, low_S, first_B),
        maximum=_reduced(np.fmax, high_S, first_B),
        mean=_mean_of_known(mean_S, first_B),
        counts=_reduced(np.fmax, runs_S, first_B).astype(np.int64),
        nonfinite=_reduced(np.add, count_S - finite_S, first_B).astype(np.int64),
        deviation=np.sqrt(_mean_of_known(variance_S, first_B)),
        width=0 if (size_B == 1).all() else width,
        cursor="",
    )


def _reduced(how: np.ufunc, values_S: Floats, first_B: npt.NDArray[np.intp]) -> Floats:
    reduced: Floats = how.reduceat(values_S, first_B) if len(values_S) else values_S
    return reduced


def _mean_of_known(values_S: Floats, first_B: npt.NDArray[np.intp]) -> Floats:
    is_known_S = np.isfinite(values_S)
    known_B = _reduced(np.add, is_known_S.astype(np.float64), first_B)
    with np.errstate(invalid="ignore"):
        mean: Floats = _reduced(np.add, np.where(is_known_S, values_S, 0.0), first_B) / known_B
    return mean

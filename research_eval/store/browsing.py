"""What pages ask that show many runs: each answer takes a few queries, however many they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sqlalchemy import func, select, text

from research_eval.filters import parse_filter
from research_eval.records import MetricSeries
from research_eval.store import curves, points, queries
from research_eval.store.conditions import meets, true_status
from research_eval.store.curves import Curve, Steps
from research_eval.store.naming import run_key
from research_eval.store.reading import Reader
from research_eval.store.schema import (
    experiments,
    expert_stats,
    metrics,
    names,
    of_current_attempts,
    params,
)

MOST_NEWS = 2000
"""Points of a run that `Browser.later` returns one by one; of more it returns buckets."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a filter, a column or an axis may name.

    Attributes:
        params: Number of runs that have each parameter, by dotted path.
        metrics: Number of runs that have each metric.
        curves: Metrics of which some run has more than one point.
        arms: Architectures.
    """

    params: Mapping[str, int]
    metrics: Mapping[str, int]
    curves: Sequence[str]
    arms: Sequence[str]


@dataclass(frozen=True, slots=True)
class ExpertArrays:
    """Which arrays of one name a run has.

    Attributes:
        layers: In order.
        steps: In order.
        shape: Sizes of the last one.
    """

    layers: tuple[int, ...]
    steps: tuple[int, ...]
    shape: tuple[int, ...]


class Browser:
    """Reads what pages show of many runs.

    Args:
        reader: The store.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def state(self) -> str:
        """Return a text that changes when others have changed the database."""
        path = self._reader.path
        if path is not None:
            return " ".join(map(_state_of_file, (path, path.with_name(f"{path.name}-wal"))))
        with self._reader._reading() as connection:
            return str(connection.scalar(text("SELECT CAST(pg_current_snapshot() AS text)")))

    def count(self, filter: str | None = None) -> int:
        """Return how many runs meet a condition; those in the trash are not counted.

        Raises:
            FilterError: If it cannot be read.
        """
        query = select(func.count()).select_from(experiments).where(experiments.c.deleted.is_(None))
        with self._reader._reading() as connection:
            if filter is not None:
                status = true_status(queries.lost_runs(connection))
                query = query.where(meets(parse_filter(filter), status))
            return int(connection.execute(query).scalar_one())

    def vocabulary(self) -> Vocabulary:
        """Return the names of all parameters and metrics."""
        param, metric = params.c.param_name, metrics.c.metric_name
        with self._reader._reading() as connection:
            known = connection.execute(select(param, func.count()).group_by(param).order_by(param))
            found = connection.execute(
                select(metric, func.count(), func.max(metrics.c.num_points))
                .group_by(metric)
                .order_by(metric)
            ).all()
            arms = connection.scalars(select(experiments.c.model_type).distinct())
            return Vocabulary(
                {row[0]: row[1] for row in known},
                {name: count for name, count, _ in found},
                [name for name, _, most in found if most > 1],
                sorted(arm for arm in arms if arm),
            )

    # -------------------------------------------------------------------------------- curves

    def curves(
        self,
        metric: str,
        experiment_ids: Sequence[str],
        *,
        max_points: int = 500,
        steps: Steps | None = None,
        with_times: bool = False,
    ) -> dict[str, Curve]:
        """Return a metric of several runs on one grid of steps; runs without it are left out.

        Args:
            metric: Its name.
            experiment_ids: The runs.
            max_points: At most so many buckets. A run with fewer points keeps every one.
            steps: Only these.
            with_times: Whether `Curve.times` is wanted, which costs a tenth more.
        """
        with self._reader._reading() as connection:
            return curves.read_curves(
                connection, metric, experiment_ids, max_points, steps, with_times=with_times
            )

    def group_curves(
        self,
        metric: str,
        groups: Mapping[str, Sequence[str]],
        *,
        max_points: int = 500,
        steps: Steps | None = None,
    ) -> dict[str, Curve]:
        """Return the mean of a metric over the runs of each group, and its spread.

        Runs are averaged at every step first, and steps into buckets after that.

        Args:
            metric: Its name.
            groups: Ids of runs by the name of their group.
            max_points: At most so many buckets.
            steps: Only these.
        """
        with self._reader._reading() as connection:
            return curves.read_group_curves(connection, metric, groups, max_points, steps)

    def later(self, metric: str, cursors: Mapping[str, str]) -> dict[str, MetricSeries]:
        """Return what came after the cursors of earlier curves, by run; runs without news are out.

        Args:
            metric: Its name.
            cursors: By the id of the run.

        Raises:
            StoreError: If a cursor is none.
        """
        since = {run: points.Cursor.parse(cursor) for run, cursor in cursors.items()}
        with self._reader._reading() as connection:
            return curves.read_news(connection, metric, since, MOST_NEWS)

    # -------------------------------------------------------------------------------- experts

    def expert_arrays(self, experiment_id: str) -> dict[str, ExpertArrays]:
        """Return which arrays a run has, by name.

        Raises:
            StoreError: If there is no such run.
        """
        stats = expert_stats.c
        columns = (names.c.name, stats.layer, stats.step, stats.shape)
        with self._reader._reading() as connection:
            run_id = run_key(connection, self._reader._address, experiment_id)
            query = of_current_attempts(expert_stats, *columns).where(stats.run_id == run_id)
            rows = connection.execute(query.order_by(names.c.name, stats.step)).all()
        found = {}
        for name, of_name in groupby(rows, key=itemgetter(0)):
            listed = list(of_name)
            layers = tuple(sorted({row.layer for row in listed}))
            steps = tuple(sorted({row.step for row in listed}))
            found[name] = ExpertArrays(layers, steps, tuple(json.loads(listed[-1].shape)))
        return found

    def expert_array(
        self, experiment_id: str, name: str, steps: Sequence[int]
    ) -> dict[int, dict[int, npt.NDArray[np.generic]]]:
        """Return the arrays of one name at some steps, by step and layer.

        Raises:
            StoreError: If there is no such run.
        """
        with self._reader._reading() as connection:
            run_id = run_key(connection, self._reader._address, experiment_id)
            at = expert_stats.c.step.in_(list(steps))
            found: dict[int, dict[int, npt.NDArray[np.generic]]] = {}
            for stats in queries.read_expert_stats(connection, run_id, name, at):
                found.setdefault(stats.step, {})[stats.layer] = stats.values
        return found


def _state_of_file(path: Path) -> str:
    try:
        facts = path.stat()
    except OSError:
        return "-"
    return f"{facts.st_size}.{facts.st_mtime_ns}"

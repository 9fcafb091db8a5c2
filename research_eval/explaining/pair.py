"""Two sides, and by how much one is ahead."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from research_eval.analysis.evidence import configuration_of
from research_eval.analysis.statistics import Difference, welch
from research_eval.explaining.side import Floats, Side, difference
from research_eval.metrics import Direction, find_metric
from research_eval.records import MetricHistory, RunRecord, RunStatus

if TYPE_CHECKING:
    from research_eval.store.reading import Reader


@dataclass(frozen=True, eq=False)
class Pair:
    """What is compared, by what, and the evidence about both.

    Attributes:
        metric: That decides: of the finished runs, or its curve where a side has none.
        direction: Which way is better.
        values: Of each run of a side that has one, by the side's label.
        step: Where curves are compared, if a side has no finished run; else None.
        reader: The store.
    """

    a: Side
    b: Side
    metric: str
    direction: Direction
    values: Mapping[str, Floats]
    step: int | None
    reader: Reader

    @property
    def sign(self) -> int:
        """1 if higher is better, else -1."""
        return 1 if self.direction == "max" else -1

    @property
    def is_final(self) -> bool:
        """Whether both sides have finished runs."""
        return self.step is None and all(map(len, self.values.values()))

    @property
    def history(self) -> str:
        """The curve of the metric."""
        known = find_metric(self.metric)
        return (known.history if known else None) or self.metric

    # ------------------------------------------------------------------------- the difference

    @cached_property
    def gap(self) -> float:
        """By how much the one is ahead, 0 or more; NaN if a side has no value."""
        return abs(difference(self.values[self.a.label], self.values[self.b.label])[0])

    @cached_property
    def half(self) -> float:
        """Half the 95 % interval of the difference; NaN if seeds do not tell."""
        return difference(self.values[self.a.label], self.values[self.b.label])[1]

    @property
    def is_shown(self) -> bool | None:
        """Whether the difference is larger than the seed noise; None if that is not known."""
        return None if math.isnan(self.half) else bool(self.gap > self.half)

    @cached_property
    def test(self) -> Difference | None:
        """Welch's test; None with fewer than two seeds on either side."""
        one, two = (self.values[side.label] for side in (self.a, self.b))
        return welch(one, two) if min(len(one), len(two)) > 1 else None

    @cached_property
    def behind(self) -> Side | None:
        """The side with the worse mean, or the one without a value; None if neither is."""
        one, two = (self.values[side.label] for side in (self.a, self.b))
        if len(one) and len(two):
            delta = self.sign * float(one.mean() - two.mean())
            return self.a if delta < 0 else self.b if delta > 0 else None
        if len(one) or len(two):
            return self.b if len(one) else self.a
        return None

    def other(self, side: Side) -> Side:
        """Return the other side."""
        return self.b if side is self.a else self.a

    @cached_property
    def is_one_configuration(self) -> bool:
        """Whether the sides differ in nothing but seeds."""
        return _identity(self.a.run) == _identity(self.b.run)

    # ------------------------------------------------------------------------------- evidence

    @cached_property
    def _curves(self) -> dict[str, dict[str, MetricHistory]]:
        return {}

    def curve(self, run: RunRecord, metric: str) -> tuple[Floats, Floats]:
        """Return steps and values of the finite points of a metric; those of all runs are read."""
        if metric not in self._curves:
            runs = [each.experiment_id for each in (*self.a.runs, *self.b.runs)]
            self._curves[metric] = self.reader.histories(metric, runs)
        found = self._curves[metric].get(run.experiment_id)
        if found is None:
            return np.array([]), np.array([])
        finite = np.isfinite(found.values)
        return found.steps[finite].astype(float), found.values[finite]

    def score_curve(self, run: RunRecord) -> tuple[Floats, Floats]:
        """Return the curve of the metric: of the best so far, if the best weights are kept."""
        steps, values = self.curve(run, self.history)
        if len(values) and run.params.get("training_params.select", "best") == "best":
            values = self.sign * np.maximum.accumulate(self.sign * values)
        return steps, values

    def score_when(self, side: Side, metric: str, amount: float) -> Floats:
        """Return the scores that a side's runs had when a growing metric came to an amount.

        Runs that had not been evaluated by then are left out.
        """
        found = []
        for run in side.runs:
            steps, values = self.score_curve(run)
            grown_steps, grown = self.curve(run, metric)
            if not len(values) or not len(grown):
                continue
            step = np.interp(amount, [0.0, *grown], [0.0, *grown_steps])
            if step >= steps[0]:
                found.append(float(np.interp(step, steps, values)))
        return np.array(found)

    def tried(self, side: Side) -> list[RunRecord]:
        """Return the trainings of a side's model on its data, with the metric, oldest first."""
        return self._tried[side.label]

    @cached_property
    def _tried(self) -> dict[str, list[RunRecord]]:
        return {side.label: self._read_tried(side) for side in (self.a, self.b)}

    def _read_tried(self, side: Side) -> list[RunRecord]:
        run = side.run
        found = self.reader.runs(
            model_type=run.model_type,
            dataset_name=run.dataset_name,
            filter='run_type != "evaluation"',
            sort="timestamp",
            metrics=(self.metric,),
        )
        return [each for each in found if each.data_hash == run.data_hash]

    @cached_property
    def studies(self) -> dict[str, dict[str, Any]]:
        """What each study was asked, by its name."""
        return {each.name: json.loads(each.spec_json) for each in self.reader.studies()}

    def scores(self, runs: list[RunRecord]) -> dict[str, Floats]:
        """Return the finite scores of COMPLETED runs by configuration, in the order of trying."""
        found: dict[str, list[float]] = {}
        for run in runs:
            value = run.value(self.metric)
            if run.status is RunStatus.COMPLETED and value is not None and math.isfinite(value):
                found.setdefault(configuration_of(run), []).append(value)
        return {each: np.array(values) for each, values in found.items()}


def _identity(run: RunRecord) -> tuple[str, str | None, str | None]:
    return configuration_of(run), run.code_hash, run.data_hash

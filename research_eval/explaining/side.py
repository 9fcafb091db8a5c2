"""One side of an explanation: runs that differ in nothing but the seed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from research_eval.analysis.evidence import FAILED
from research_eval.analysis.statistics import ALPHA, t_interval, welch
from research_eval.analysis.words import plus_minus
from research_eval.quantities import number
from research_eval.records import RunRecord

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Side:
    """Runs of one configuration, code and data.

    Attributes:
        label: What it was called, or the name of its runs.
        runs: Those whose numbers count, oldest first; at least one.
        others: Begun too, but without a score.
        evaluations: What `research-eval evaluate` recorded of `runs`, oldest first.
        schema: JSON Schema of the configuration, as recorded; empty if there is none.
        notes: What is to be said about the choice of its runs.
    """

    label: str
    runs: tuple[RunRecord, ...]
    others: tuple[RunRecord, ...]
    evaluations: tuple[RunRecord, ...]
    schema: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def run(self) -> RunRecord:
        """One of its runs, for what all of them share."""
        return self.runs[-1]

    @property
    def is_ours(self) -> bool:
        """Whether `research-eval run` made it, so that it can be run again."""
        return self.run.config_hash is not None

    @cached_property
    def params(self) -> dict[str, Any]:
        """The configuration by dotted path."""
        return self.run.params

    @property
    def failed(self) -> list[RunRecord]:
        """Runs that ended without what was wanted of them."""
        return [run for run in (*self.runs, *self.others) if run.status in FAILED]

    def values(self, metric: str) -> Floats:
        """Return the last finite value of a metric of each run that has one."""
        found = (run.value(metric) for run in self.runs)
        return np.array([v for v in found if v is not None and math.isfinite(v)])

    def by_layer(self, prefix: str) -> Floats:
        """Return for each run the mean over layers of the metrics that begin so."""
        return self._layers(prefix, fmean)

    def over_layers(self, prefix: str) -> Floats:
        """Return for each run the sum over layers of the metrics that begin so."""
        return self._layers(prefix, math.fsum)

    def _layers(self, prefix: str, summed: Any) -> Floats:
        rows = [
            [m.value for name, m in run.metrics.items() if name.startswith(prefix)]
            for run in self.runs
        ]
        finite = [[value for value in row if math.isfinite(value)] for row in rows]
        return np.array([summed(row) for row in finite if row])

    def has(self, prefix: str) -> bool:
        """Return whether any run recorded a metric that begins so."""
        return any(name.startswith(prefix) for run in self.runs for name in run.metrics)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs, those without a score included."""
        return tuple(sorted({run.seed or 0 for run in (*self.runs, *self.others)}))

    def component(self, path: str) -> str:
        """Return a component such as `model_type`, a plug-in file as seen from here."""
        name = str(self.params.get(path))
        file, separator, attribute = name.rpartition(":")
        if not separator or not file.endswith(".py"):
            return name
        base_dir = Path(json.loads(self.run.env_details_json).get("base_dir", "."))
        return f"{os.path.relpath((base_dir / Path(file).expanduser()).resolve())}:{attribute}"


def difference(first: Floats, second: Floats) -> tuple[float, float]:
    """Return the difference of two means, and half its 95 % interval; NaN where it is not known.

    Welch's, or with a single value on one side the interval of a new value of the other one, which
    supposes that both spread alike. One value on either side, or no spread, gives no interval.
    """
    if not len(first) or not len(second):
        return math.nan, math.nan
    delta = float(first.mean() - second.mean())
    if min(len(first), len(second)) > 1:
        return delta, float(delta - welch(first, second).low)
    more = first if len(first) > 1 else second
    if len(more) < 2:
        return delta, math.nan
    low, _ = t_interval(more)
    half = float(more.mean() - low) * math.sqrt(len(more) + 1)
    return delta, half if half > 0 else math.nan


def exceeds(first: Floats, second: Floats, by: float) -> bool:
    """Return whether a mean is larger by so much, and by more than seeds differ if known."""
    delta, half = difference(first, second)
    return delta > 0 and delta >= by and not delta <= half


def is_more_frequent(count: int, total: int, other: int, of: int) -> bool:
    """Return whether something befell more runs of one side, and by more than chance if known.

    Fisher's exact test, one-sided; a side with a single run has no chance that could be known.
    """
    if count * of <= other * total:
        return False
    if min(total, of) < 2:
        return True
    hits = count + other
    ways = sum(
        math.comb(total, k) * math.comb(of, hits - k) for k in range(count, min(hits, total) + 1)
    )
    return ways / math.comb(total + of, hits) <= ALPHA


def told(values: Floats, show: Any = number) -> str:
    """Return the mean, with half its 95 % interval where there is one."""
    if not len(values):
        return "-"
    mean = float(values.mean())
    low, _ = t_interval(values)
    half = mean - float(low)
    return plus_minus(mean, half) if half > 1e-12 * abs(mean) else show(mean)

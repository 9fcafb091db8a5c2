"""Quality against cost: one point for each configuration and circumstance of measurement.

Coordinates are costs, both of them: log cost, and the deciding metric with its sign turned so
that less is better.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from research_eval.analysis.evidence import Evidence
from research_eval.analysis.fronts import Floats, clearly_dominated, hypervolume, non_dominated
from research_eval.records import RunRecord

_ALONE = re.compile(r"eval_latency_ms_p50_batch(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Something that a configuration costs; less is better.

    Attributes:
        name: In names of files.
        metrics: Names of recorded values; the first that any run has counts.
        label: In words, and its `unit` if it has one.
        is_of_machine: Whether values are compared only within one kind of machine.
        is_timing: Whether it is the time of a batch: compared only for batches of one size, and
            left out where other work shared the machine.
    """

    name: str
    metrics: tuple[str, ...]
    label: str
    unit: str = ""
    is_of_machine: bool = False
    is_timing: bool = False


def measured(cost: Cost, evidence: Evidence) -> tuple[pd.DataFrame, int]:
    """Return what was measured of a cost, and how many timings were left out as contended.

    Returns:
        Columns `run`, `condition` ("" where the cost depends on nothing else) and `cost`: one row
        for each run and condition, its newest measurement that counts.
    """
    values = [evidence.metric(name) for name in cost.metrics]
    recorded = next((value for value in values if value.notna().any()), values[0])
    rows: list[tuple[str | None, str, float, bool]] = [
        (run, _condition(cost, record, record.batch_size), value, record.contended)
        for (run, record), value in zip(evidence.runs.items(), recorded, strict=True)
    ]
    if cost.is_timing:
        rows += _measured_alone(cost, evidence)
    table = pd.DataFrame(rows, columns=["run", "condition", "cost", "contended"])
    table = table[(table["cost"] > 0) & (table["cost"] < np.inf)]
    is_out = table["contended"].astype(bool) & cost.is_timing
    newest = table[~is_out].drop_duplicates(["run", "condition"], keep="last")
    return newest[["run", "condition", "cost"]], int(is_out.sum())


def _condition(cost: Cost, record: RunRecord, batch_size: object) -> str:
    if cost.is_timing:
        size = "unknown size" if batch_size is None else str(batch_size)
        return f"{record.hardware or 'unknown machine'}, batch of {size}"
    return (record.hardware or "unknown machine") if cost.is_of_machine else ""


def _measured_alone(cost: Cost, evidence: Evidence) -> list[tuple[str | None, str, float, bool]]:
    """Return the latencies that `research-eval evaluate --latency` measured."""
    return [
        (run.parent, _condition(cost, run, found[1]), summary.value, run.contended)
        for run in evidence.evaluations
        for name, summary in run.metrics.items()
        if (found := _ALONE.fullmatch(name)) and run.parent in evidence.runs
    ]


def points(cost: Cost, evidence: Evidence) -> pd.DataFrame:
    """Return a row for each configuration and condition, with means over its runs.

    Where a configuration was confirmed on fresh seeds, only these runs count: the score by which
    it was chosen flatters it.

    Returns:
        Columns `condition`, `arm`, `configuration`, `run` (the first of its runs), `n`, then mean,
        standard error of the mean, and ends of the 95 % t-interval of `cost` and `quality`, as
        `cost`, `cost_error`, `cost_low`, `cost_high` and likewise for `quality`.
    """
    known = evidence.table[evidence.table["value"].notna()]
    confirmed = known.loc[known["phase"] == "confirm", "configuration"]
    known = known[(known["phase"] == "confirm") | ~known["configuration"].isin(confirmed)]
    runs = known.reset_index()[["run", "arm", "configuration", "value"]]
    joined = measured(cost, evidence)[0].merge(runs, on="run")
    if joined.empty:
        return pd.DataFrame()
    grouped = joined.groupby(["condition", "arm", "configuration"], sort=False)
    found = grouped.agg(run=("run", "first"), n=("run", "size"))
    for column, name in (("cost", "cost"), ("value", "quality")):
        mean, error = grouped[column].mean(), grouped[column].std() / np.sqrt(found["n"])
        half = stdtrit(found["n"].clip(lower=2) - 1.0, 0.975) * error
        found[[name, f"{name}_error", f"{name}_low", f"{name}_high"]] = np.column_stack(
            [mean, error, mean - half, mean + half]
        )
    return found.reset_index()


def judge(points: pd.DataFrame, sign: int) -> pd.DataFrame:
    """Add what the points of one condition are to each other.

    A point that only one run stands for has the pooled spread of those that have more, relative
    to its mean for a cost. If no point has more, nothing is known about noise, and a point that
    is beaten is neither tied nor clearly dominated.

    Args:
        points: Of one condition.
        sign: 1 if higher quality is better, else -1.

    Returns:
        The points with `status` ("front", "tied", "dominated" or "behind"), the reference point as
        `reference_cost` and `reference_quality`, and `hypervolume`, that of the arm's own points as
        a share of the box between the best values and the reference point. That point lies a
        tenth of the range beyond the worst values (Ishibuchi et al. 2018, Evolutionary Computation
        26:411); logarithms of costs are counted.
    """
    costs_P2 = np.column_stack([np.log10(points["cost"]), -sign * points["quality"]])
    errors_P2 = np.column_stack(
        [points["cost_error"] / points["cost"] / np.log(10), points["quality_error"]]
    )
    n_P1 = points["n"].to_numpy(float)[:, None]
    spread_2, freedom = _pooled(errors_P2**2 * n_P1, n_P1)
    variances_P2 = np.where(n_P1 > 1, errors_P2**2, spread_2)
    freedom_P2 = np.broadcast_to(np.where(n_P1 > 1, n_P1 - 1.0, freedom), costs_P2.shape)
    on_front = non_dominated(costs_P2)
    is_clear = clearly_dominated(costs_P2, variances_P2, freedom_P2)
    beaten = np.where(is_clear, "dominated", "tied") if np.isfinite(freedom) else "behind"
    status = np.where(on_front, "front", beaten)
    low_2, high_2 = costs_P2.min(axis=0), costs_P2.max(axis=0)
    reference_2 = high_2 + 0.1 * (high_2 - low_2)
    box = float(np.prod(reference_2 - low_2))
    volumes = {
        arm: hypervolume(costs_P2[points["arm"] == arm], reference_2) / box if box else np.nan
        for arm in points["arm"].unique()
    }
    return points.assign(
        status=status,
        hypervolume=points["arm"].map(volumes),
        reference_cost=10 ** reference_2[0],
        reference_quality=-sign * reference_2[1],
    )


def _pooled(variances_P2: Floats, n_P1: Floats) -> tuple[Floats, float]:
    """Return the variance of one run, pooled over configurations with several, and its freedom.

    Both are NaN if no configuration has several.
    """
    freedom = float((n_P1 - 1).sum())
    if not freedom:
        return np.full(2, np.nan), np.nan
    weighted_P2 = np.where(n_P1 > 1, (n_P1 - 1) * variances_P2, 0.0)
    pooled_2: Floats = weighted_P2.sum(axis=0) / freedom
    return pooled_2, freedom

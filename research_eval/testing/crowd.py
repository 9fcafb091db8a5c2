"""A store with many runs, written in bulk: for tests and benchmarks of reading."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.store.schema import attempts, experiments, metric_points, metrics, names, params

Floats = npt.NDArray[np.float64]

ARMS = ("dense", "moe", "goe")
SCORES = ("final_val_f1", "final_val_loss", "param_count", "total_training_time_seconds")
CURVE = "val_loss"


def fill_crowd(store: Store, num_runs: int, curves: Sequence[int]) -> None:
    """Write COMPLETED runs with four scores each, and a curve for each of the newest.

    Args:
        store: An empty one.
        num_runs: How many.
        curves: Number of points of the curve `val_loss` of each of the last runs; the middle
            point of each is higher than all others.
    """
    numbers = range(1, num_runs + 1)
    with store._writing() as connection:
        connection.execute(experiments.insert(), [_run(number) for number in numbers])
        begun = {"attempt": 1, "status": RunStatus.COMPLETED, "started": _time(0)}
        connection.execute(attempts.insert(), [{"run_id": n, **begun} for n in numbers])
        connection.execute(params.insert(), [row for n in numbers for row in _params(n)])
        connection.execute(metrics.insert(), [row for n in numbers for row in _scores(n)])
        connection.execute(names.insert(), [{"id": 1, "name": CURVE}])
        for number, length in zip(numbers[-len(curves) :], curves, strict=True):
            values = _curve(number, length)
            connection.execute(metrics.insert(), [_summary(number, CURVE, values)])
            connection.execute(metric_points.insert(), _points(number, values))


def _id(number: int) -> str:
    return f"{number:04x}c0ffee00"


def _time(number: int) -> str:
    when = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _config(number: int) -> dict[str, object]:
    return {"model_type": ARMS[number % 3], "model_params": {"top_k": 1 + number % 4}}


def _run(number: int) -> dict[str, object]:
    return {
        "id": number,
        "experiment_id": _id(number),
        "run_type": "json",
        "timestamp": _time(number),
        "ended": _time(number + 1),
        "experiment_name": f"run {number // 5}",
        "model_type": ARMS[number % 3],
        "dataset_name": "parity",
        "seed": number % 5,
        "full_config_json": json.dumps(_config(number)),
        "env_details_json": "{}",
        "status": RunStatus.COMPLETED,
        "attempt": 1,
        "contended": False,
    }


def _params(number: int) -> list[dict[str, object]]:
    of_run = {"experiment_id": _id(number)}
    top_k = 1 + number % 4
    return [
        {
            "param_name": "model_type",
            "param_value": ARMS[number % 3],
            "param_number": None,
            **of_run,
        },
        {
            "param_name": "model_params.top_k",
            "param_value": str(top_k),
            "param_number": top_k,
            **of_run,
        },
    ]


def _scores(number: int) -> list[dict[str, object]]:
    values = (0.5 + number % 97 / 200, 1 + number % 89 / 100, 1e5 * (1 + number % 7), 10.0 + number)
    return [
        _summary(number, name, np.array([value]))
        for name, value in zip(SCORES, values, strict=True)
    ]


def _summary(number: int, name: str, values: Floats) -> dict[str, object]:
    return {
        "experiment_id": _id(number),
        "metric_name": name,
        "metric_value": float(values[-1]),
        "step": len(values) - 1,
        "min_value": float(values.min()),
        "min_step": int(values.argmin()),
        "max_value": float(values.max()),
        "max_step": int(values.argmax()),
        "num_points": len(values),
        "num_nonfinite": 0,
    }


def _curve(number: int, length: int) -> Floats:
    noise = np.random.default_rng(number).normal(0, 0.05, length)
    values = 3 * np.exp(-3 * np.arange(length) / length) + 0.5 + noise
    values[length // 2] = 9.0
    curve: Floats = values
    return curve


def _points(number: int, values: Floats) -> list[dict[str, object]]:
    of_run = {"run_id": number, "name_id": 1, "attempt": 1}
    return [
        {**of_run, "step": step, "seq": step, "value": value, "time": 1.7e9 + step}
        for step, value in enumerate(values.tolist())
    ]

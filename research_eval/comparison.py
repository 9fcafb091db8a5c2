"""Runs side by side: where their configurations differ, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from research_eval.records import RunRecord


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs side by side; every entry holds one value for each run, None for none.

    Attributes:
        runs: What is compared.
        params: Parameters whose values are not the same in all runs, by dotted path.
        metrics: Last values of metrics.
    """

    runs: tuple[RunRecord, ...]
    params: dict[str, tuple[Any, ...]]
    metrics: dict[str, tuple[float | None, ...]]


def compare(runs: Sequence[RunRecord], metrics: Sequence[str] | None = None) -> Comparison:
    """Compare runs.

    Args:
        runs: With the metrics that are compared.
        metrics: Which; None takes all that any run has, sorted.
    """
    configs = [run.params for run in runs]
    paths = dict.fromkeys(path for config in configs for path in config)
    rows = {path: tuple(config.get(path) for config in configs) for path in paths}
    names = sorted({name for run in runs for name in run.metrics}) if metrics is None else metrics
    return Comparison(
        tuple(runs),
        {path: row for path, row in rows.items() if any(not _same(row[0], v) for v in row[1:])},
        {name: tuple(run.value(name) for run in runs) for name in names},
    )


def _same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal; true and 1 are not."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)

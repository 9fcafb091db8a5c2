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

    def _repr_html_(self) -> str:
        from research_eval.notebook import (  # noqa: PLC0415 - only a notebook needs it
            Section,
            panel,
            scores_first,
        )

        ids = [run.experiment_id for run in self.runs]
        runs = {
            name: tuple(getattr(run, name) for run in self.runs)
            for name in ("experiment_name", "status")
        }
        if any(run.flags for run in self.runs):
            runs["flags"] = tuple(", ".join(run.flags) or None for run in self.runs)
        changed = self.params or {"no parameter differs": (None,) * len(ids)}
        metrics = {name: self.metrics[name] for name in scores_first(self.metrics)}
        sections = (
            Section("runs", runs, ids),
            Section("parameters that differ", changed, ids, "params"),
            Section("metrics", metrics, ids, "metrics"),
        )
        return panel(f"{len(ids)} runs compared", sections)


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

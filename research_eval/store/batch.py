"""What a writer has taken in and not yet committed, and the rows that it becomes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from research_eval.records import ArtifactKind
from research_eval.store.schema import (
    artifacts,
    expert_stats,
    flags,
    metric_points,
    metrics,
)
from research_eval.store.statements import intern, write_rows
from research_eval.store.summary import RunningSummary, nan_as_null

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class RunKey:
    """The run and the attempt that records belong to."""

    run_id: int
    experiment_id: str
    attempt: int


class Batch:
    """Records of one attempt between queue and database.

    `write` may be repeated after a rollback, and writes the same rows each time; `clear` follows
    a commit.

    Args:
        key: Whose records they are.
        summaries: Of the points that are already stored.
    """

    def __init__(self, key: RunKey, summaries: dict[str, RunningSummary]) -> None:
        self._key = key
        self._summaries = summaries
        self._name_ids: dict[str, int] = {}
        self._points: list[tuple[str, int, int, float, float]] = []
        self._arrays: dict[tuple[str, int, int], npt.NDArray[np.generic]] = {}
        self._flags: dict[str, str] = {}
        self._artifacts: dict[str, tuple[ArtifactKind, str, int]] = {}

    def __len__(self) -> int:
        return len(self._points) + len(self._arrays) + len(self._flags) + len(self._artifacts)

    def add_points(
        self, seq: int, step: int, at: float, values: Sequence[tuple[str, float]]
    ) -> None:
        """Take in one `log` call and fold it into the summaries."""
        for name, value in values:
            self._points.append((name, step, seq, value, at))
            summary = self._summaries.get(name)
            if summary is None:
                summary = self._summaries[name] = RunningSummary()
            summary.add(step, value)

    def add_array(self, name: str, step: int, layer: int, values: npt.NDArray[np.generic]) -> None:
        """Take in an array; the last one of a name, step and layer counts."""
        self._arrays[name, step, layer] = values

    def add_flag(self, name: str, reason: str) -> None:
        """Take in a warning."""
        self._flags[name] = reason

    def add_artifact(self, path: str, kind: ArtifactKind, sha256: str, size: int) -> None:
        """Take in a file."""
        self._artifacts[path] = (kind, sha256, size)

    def clear(self) -> None:
        """Forget what is committed."""
        self._points.clear()
        self._arrays.clear()
        self._flags.clear()
        self._artifacts.clear()

    def forget_keys(self) -> None:
        """Forget keys of names that a rollback may have undone."""
        self._name_ids.clear()

    def write(self, connection: Connection) -> None:
        """Write everything within the caller's transaction."""
        ids = self._intern(connection)
        run_id, run, attempt = self._key.run_id, self._key.experiment_id, self._key.attempt
        write_rows(
            connection,
            metric_points,
            ("run_id", "name_id", "step", "attempt", "seq", "value", "time"),
            [
                (run_id, ids[name], step, attempt, seq, nan_as_null(value), at)
                for name, step, seq, value, at in self._points
            ],
        )
        touched = dict.fromkeys(point[0] for point in self._points)
        write_summaries(connection, run, {name: self._summaries[name] for name in touched})
        write_rows(
            connection,
            expert_stats,
            ("run_id", "name_id", "step", "layer", "attempt", "dtype", "shape", "data"),
            [
                (run_id, ids[name], step, layer, attempt, *_packed(values))
                for (name, step, layer), values in self._arrays.items()
            ],
        )
        write_rows(
            connection,
            flags,
            ("experiment_id", "name", "reason"),
            [(run, name, reason) for name, reason in self._flags.items()],
        )
        write_rows(
            connection,
            artifacts,
            ("experiment_id", "path", "kind", "sha256", "bytes"),
            [(run, path, *described) for path, described in self._artifacts.items()],
        )

    def _intern(self, connection: Connection) -> dict[str, int]:
        """Return the key of every name in the batch."""
        used = {point[0] for point in self._points} | {name for name, _, _ in self._arrays}
        self._name_ids.update(intern(connection, used - self._name_ids.keys()))
        return self._name_ids


def write_summaries(
    connection: Connection, experiment_id: str, summaries: dict[str, RunningSummary]
) -> None:
    """Write rows of the table `metrics`; what they held before is replaced."""
    write_rows(
        connection,
        metrics,
        (
            "experiment_id",
            "metric_name",
            "metric_value",
            "step",
            "min_value",
            "min_step",
            "max_value",
            "max_step",
            "num_points",
            "num_nonfinite",
        ),
        [
            (
                experiment_id,
                name,
                nan_as_null(summary.value),
                summary.step,
                summary.minimum,
                summary.minimum_step,
                summary.maximum,
                summary.maximum_step,
                summary.count,
                summary.nonfinite,
            )
            for name, summary in summaries.items()
        ],
    )


def _packed(values: npt.NDArray[np.generic]) -> tuple[str, str, bytes]:
    return values.dtype.str, json.dumps(values.shape), values.tobytes()

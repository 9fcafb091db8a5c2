"""Frozen values that cross the boundary between a run and its store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from research_eval.schemas import marked_fields

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RunType = Literal["json", "optuna_trial", "track", "import", "evaluation"]
"""What made a run. An evaluation trains nothing: its parent is the run that it evaluated."""

Phase = Literal["search", "confirm"]
ArtifactKind = Literal[
    "checkpoint", "resume", "plugin", "log", "report", "predictions", "sample", "file"
]


class RunStatus(StrEnum):
    """What became of a run."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    """Ended by an error; the traceback is kept."""
    PRUNED = "PRUNED"
    """Ended by a study because it was not promising."""
    DIVERGED = "DIVERGED"
    """Its loss stopped being finite."""
    COLLAPSED = "COLLAPSED"
    """Ended by a rule about its experts."""
    INTERRUPTED = "INTERRUPTED"
    """Ended by a signal, with a resume point."""
    LOST = "LOST"
    """Its process disappeared: no heartbeat for 60 s."""


_ENDED = frozenset(RunStatus) - {RunStatus.RUNNING}

TRANSITIONS: Mapping[RunStatus, frozenset[RunStatus]] = {
    RunStatus.RUNNING: _ENDED,
    RunStatus.INTERRUPTED: frozenset({RunStatus.RUNNING}),
    RunStatus.LOST: _ENDED - {RunStatus.LOST} | {RunStatus.RUNNING},
    RunStatus.COMPLETED: frozenset(),
    RunStatus.FAILED: frozenset({RunStatus.RUNNING}),
    RunStatus.PRUNED: frozenset(),
    RunStatus.DIVERGED: frozenset(),
    RunStatus.COLLAPSED: frozenset(),
}
"""Which status may follow which. A LOST run that turns out to be alive goes on as it likes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """Everything that is known of a run when it starts.

    Attributes:
        experiment_id: Text id, unique in a store.
        full_config_json: The resolved configuration: defaults filled in, "auto" decided.
        config_schema_json: JSON Schema of that configuration, stored once per content.
        config_hash: Identity of the configuration, over the fields that affect the result.
        code_hash: Identity of the source that the run used.
        data_hash: Identity of the data that the run saw.
        hardware: Key of the machine; times are compared only within one key.
        argv: The command, with secrets replaced.
        parent: `experiment_id` of the run that this one belongs to.
    """

    experiment_id: str
    run_type: RunType
    experiment_name: str
    full_config_json: str
    env_details_json: str
    project: str | None = None
    model_type: str | None = None
    dataset_name: str | None = None
    dataset_type: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    seed: int | None = None
    group: str | None = None
    parent: str | None = None
    phase: Phase | None = None
    study: str | None = None
    trial: int | None = None
    config_schema_json: str | None = None
    config_hash: str | None = None
    code_hash: str | None = None
    data_hash: str | None = None
    git_commit: str | None = None
    git_diff: str | None = None
    argv: str | None = None
    hardware: str | None = None
    host: str | None = None
    pid: int | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a run belongs to: fields of `NewRun` that no configuration says."""

    group: str | None = None
    parent: str | None = None
    phase: Phase | None = None
    study: str | None = None
    trial: int | None = None


class MetricSummary(NamedTuple):
    """One metric of one run, without its history.

    A named tuple, since a list of 1,000 runs holds 20,000 of them: a frozen dataclass takes five
    times as long to make.

    Attributes:
        value: The last value, NaN and infinities included.
        step: Step of the last value.
        minimum: Smallest finite value, None if there is none.
        maximum: Largest finite value, None if there is none.
        count: Number of points.
        nonfinite: How many of them were NaN or infinite.
    """

    value: float
    step: int
    minimum: float | None
    minimum_step: int | None
    maximum: float | None
    maximum_step: int | None
    count: int  # type: ignore[assignment]  # hides a method of tuples that has no use here
    nonfinite: int


@dataclass(frozen=True, slots=True)
class Note:
    """A remark that someone wrote beside a run."""

    timestamp: datetime
    text: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that belongs to a run.

    Attributes:
        path: Relative to the folder of artifacts beside the store.
    """

    kind: ArtifactKind
    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord(NewRun):
    """A run as the store remembers it.

    Attributes:
        id: Integer key inside the store.
        status: RUNNING is reported as LOST when the heartbeat is older than 60 s.
        attempt: 1 for a run that was never resumed.
        timestamp: When it was first started, UTC.
        ended: When it reached its status, UTC; None while it runs.
        error: Message, or traceback for FAILED.
        contended: Whether other work shared the machine, so that its times say little.
        flags: Warnings that stand beside its scores, by name.
        metrics: Last value and extremes of every metric that was asked for.
        notes: Remarks, in the order of writing.
        deleted: When it was put into the trash; None for a run that is not there.
        stop_requested: When someone asked it to stop.
        unacknowledged: Points that could not be kept, for example on a full disk.
    """

    id: int
    status: RunStatus
    attempt: int
    timestamp: datetime
    heartbeat: datetime | None = None
    ended: datetime | None = None
    error: str | None = None
    contended: bool = False
    flags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, MetricSummary] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    deleted: datetime | None = None
    stop_requested: datetime | None = None
    unacknowledged: int = 0

    @property
    def params(self) -> dict[str, Any]:
        """Every leaf of the configuration by its dotted path; a list is one leaf."""
        return dict(leaves(json.loads(self.full_config_json)))

    @property
    def arm(self) -> str | None:
        """What its study calls the arm that it belongs to; the architecture if nothing else."""
        if self.study is None:
            return self.model_type
        origin = json.loads(self.full_config_json).get("origin") or {}
        return origin.get("arm") or self.model_type

    def value(self, name: str) -> float | None:
        """Return the last value of a metric, or None if the run has no such metric."""
        summary = self.metrics.get(name)
        return None if summary is None else summary.value

    @property
    def changed_params(self) -> dict[str, Any]:
        """What differs from its recorded default; `params` of a record without a schema."""
        defaults = marked_fields(json.loads(self.config_schema_json or "{}"), "default")
        no_default = object()
        return {
            path: value
            for path, value in self.params.items()
            if (default := defaults.get(path, no_default)) != value
            or isinstance(default, bool) != isinstance(value, bool)
        }

    def _repr_html_(self) -> str:
        from research_eval.notebook import (  # noqa: PLC0415 - only a notebook needs it
            Section,
            panel,
            scores_first,
        )

        told = {name: getattr(self, name) for name in _IDENTITY}
        told["error"] = self.error and self.error.strip().rpartition("\n")[2]
        identity = {n: (v,) for n, v in told.items() if v not in (None, ()) and v is not False}
        known = {*_IDENTITY, "experiment_name"}
        changed = {k: (v,) for k, v in self.changed_params.items() if k not in known}
        metrics = {
            name: (m.value, *((m.minimum, m.maximum, m.count, m.nonfinite) if m.count > 1 else ()))
            for name in scores_first(self.metrics)
            for m in [self.metrics[name]]
        }
        title = "changed parameters" if self.config_schema_json else "parameters"
        heads = ("last", "least", "greatest", "points", "not finite")
        sections = (
            Section("run", identity),
            Section("flags", {name: (reason,) for name, reason in self.flags.items()}, (), "flags"),
            Section("metrics", metrics, heads, "metrics"),
            Section(title, changed, (), "changed_params"),
        )
        caption = f"{self.experiment_name}: {self.status}"
        return panel(caption, (section for section in sections if section.rows))


_IDENTITY = (
    "experiment_id", "run_type", "model_type", "dataset_name", "seed", "project", "group", "study",
    "trial", "parent", "tags", "config_hash", "code_hash", "data_hash", "git_commit", "hardware",
    "timestamp", "ended", "attempt", "contended", "error",
)  # fmt: skip
"""What a notebook shows of a run beside its scores, where there is anything."""


def leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted path and value of everything in a configuration that is no mapping itself."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


@dataclass(frozen=True, slots=True, eq=False)
class MetricHistory:
    """All points of one metric of one run, by step; of a repeated step in order of recording.

    Attributes:
        steps: int64.
        values: float64, NaN and infinities included.
        times: float64, Unix seconds.
    """

    steps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    times: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class MetricSeries:
    """A metric in few enough buckets to draw: neighbouring steps summed up.

    Every attribute but the last two holds one entry for each bucket, by step. The first and the
    last step have buckets of their own. NaN stands where a bucket has no finite value.

    Attributes:
        first_steps: int64; the least step of the bucket.
        last_steps: int64; the greatest.
        minimum: float64, over finite values; likewise `maximum` and `mean`.
        counts: int64; number of points.
        nonfinite: int64; how many of them were NaN or infinite.
        cursor: Given to `Store.series` as `since`, it asks for what came after this.
        is_delta: Whether only points after `since` are in it. A run that was resumed meanwhile
            may have lost points, so its whole series comes again.
    """

    first_steps: npt.NDArray[np.int64]
    last_steps: npt.NDArray[np.int64]
    minimum: npt.NDArray[np.float64]
    maximum: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    nonfinite: npt.NDArray[np.int64]
    cursor: str
    is_delta: bool


@dataclass(frozen=True, slots=True, eq=False)
class ExpertStats:
    """An array of statistics that one layer's experts had at one step."""

    step: int
    layer: int
    values: npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What a store holds.

    Attributes:
        location: Path or URL, without a password.
        schema_version: Of the tables.
        bytes: Size of the database, without artifacts.
        runs: Number of runs by status; a status that no run has is left out.
    """

    location: str
    schema_version: str
    bytes: int
    runs: Mapping[RunStatus, int]


class Recorder(Protocol):
    """Where a training loop reports to. The loop knows nothing else of a store.

    When a method returns, what it was given is safe from the death of this process: what lies
    before a resume point is never recorded again.
    """

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Record metrics at an optimizer step; NaN and infinities are kept as they are."""

    def log_array(
        self, name: str, values: npt.NDArray[np.generic], *, layer: int, step: int
    ) -> None:
        """Record an array of expert statistics of one layer, for example the load per expert."""

    def flag(self, name: str, reason: str) -> None:
        """Attach a warning that must stand beside the run's scores."""

    def artifact(self, kind: ArtifactKind, path: Path) -> None:
        """Register a finished file inside the run's artifact folder."""


@dataclass(slots=True)
class ListRecorder:
    """A `Recorder` that keeps everything in lists, for tests and for use without a store."""

    points: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    arrays: list[tuple[int, int, str, Sequence[float]]] = field(default_factory=list)
    flags: dict[str, str] = field(default_factory=dict)
    artifacts: list[tuple[ArtifactKind, Path]] = field(default_factory=list)

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Append (step, values)."""
        self.points.append((step, dict(values)))

    def log_array(
        self, name: str, values: npt.NDArray[np.generic], *, layer: int, step: int
    ) -> None:
        """Append (step, layer, name, values)."""
        self.arrays.append((step, layer, name, values.tolist()))

    def flag(self, name: str, reason: str) -> None:
        """Keep the reason under the name."""
        self.flags[name] = reason

    def artifact(self, kind: ArtifactKind, path: Path) -> None:
        """Append (kind, path)."""
        self.artifacts.append((kind, path))

    def series(self, name: str) -> list[tuple[int, float]]:
        """Return (step, value) of one metric, in the order of recording."""
        return [(step, values[name]) for step, values in self.points if name in values]

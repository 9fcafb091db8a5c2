"""Records of a spool that are to become rows in one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from typing import Any

from sqlalchemy import Connection, select, update

from research_eval.records import RunStatus
from research_eval.store.checks import storable
from research_eval.store.params import replace_params
from research_eval.store.schema import (
    artifacts,
    attempts,
    experiments,
    expert_stats,
    flags,
    metric_points,
    metrics,
    notes,
    tags,
    utc_now,
)
from research_eval.store.segments import Array, Points, Record
from research_eval.store.statements import intern, transition, write_rows
from research_eval.store.summary import RunningSummary, nan_as_null, null_as_nan

_POINT = ("run_id", "name_id", "step", "attempt", "seq", "value", "time")
_Call = tuple[int, int, float, float]
"""Number of the call, step, value, time: a point without its name."""


@dataclass(frozen=True, slots=True)
class RunKey:
    """The run and the attempt that records belong to."""

    run_id: int
    experiment_id: str
    attempt: int


class Batch:
    """Collects records of one attempt in the order of recording, and writes them.

    Args:
        key: Whose records they are.
        summaries: Of the points that are already stored; they take in the new ones.
        name_ids: Keys of names that are known; new ones are added.
    """

    def __init__(
        self, key: RunKey, summaries: dict[str, RunningSummary], name_ids: dict[str, int]
    ) -> None:
        self.points = 0
        self._key = key
        self._summaries = summaries
        self._name_ids = name_ids
        self._calls: dict[tuple[str, ...], list[Points]] = {}
        self._arrays: dict[tuple[str, int, int], Array] = {}
        self._entries: dict[str, list[Mapping[str, Any]]] = {}

    def add(self, record: Record) -> None:
        """Take in a record."""
        if isinstance(record, Points):
            self._calls.setdefault(record.names, []).append(record)
            self.points += len(record.names)
        elif isinstance(record, Array):
            told = record.description
            self._arrays[told["name"], told["step"], told["layer"]] = record
        else:
            self._entries.setdefault(record.kind, []).append(record.payload)

    def write(self, connection: Connection) -> None:
        """Write everything within the caller's transaction."""
        by_name = self._by_name()
        used = {*by_name, *(name for name, _, _ in self._arrays)}
        self._name_ids |= intern(connection, used - self._name_ids.keys())
        self._write_points(connection, by_name)
        self._write_arrays(connection)
        run = self._key.experiment_id
        flagged = {told["name"]: storable(told["reason"]) for told in self._of("flag")}
        found = {told["path"]: told for told in self._of("artifact")}
        write_rows(
            connection,
            flags,
            ("experiment_id", "name", "reason"),
            [(run, name, reason) for name, reason in flagged.items()],
        )
        write_rows(
            connection,
            artifacts,
            ("experiment_id", "path", "kind", "sha256", "bytes"),
            [(run, p, t["artifact"], t["sha256"], t["bytes"]) for p, t in found.items()],
        )
        write_rows(
            connection,
            tags,
            ("experiment_id", "tag"),
            [(run, storable(told["tag"])) for told in self._of("tag")],
            existing="keep",
        )
        for told in self._of("note"):
            row = {"experiment_id": run, "timestamp": iso(told["time"])}
            connection.execute(notes.insert().values(**row, note=storable(told["note"])))
        self._add_facts(connection)
        self._add_params(connection)
        self._count_unacknowledged(connection)

    def end(self, connection: Connection, *, is_live: bool) -> bool:
        """Give the run the status that it ended with, if it has; return whether that is allowed.

        Args:
            connection: In the transaction of `write`.
            is_live: Whether it ends now, not some time ago.
        """
        for told in self._of("ending"):
            status, ended = RunStatus(told["status"]), utc_now() if is_live else iso(told["time"])
            error = None if told["error"] is None else storable(told["error"])
            values = {"ended": ended, "error": error, "contended": told["contended"]}
            if not transition(connection, self._key.run_id, status, **values):
                return False
            run_id, attempt = self._key.run_id, self._key.attempt
            connection.execute(
                update(attempts)
                .where(attempts.c.run_id == run_id, attempts.c.attempt == attempt)
                .values(status=status, ended=ended)
            )
        return True

    def _of(self, kind: str) -> Iterable[Mapping[str, Any]]:
        return self._entries.get(kind, ())

    def _by_name(self) -> dict[str, list[_Call]]:
        """Return the points of every name in the order of recording."""
        found: dict[str, list[_Call]] = {}
        repeated = set()
        for names, calls in self._calls.items():
            _, seqs, steps, times, values = zip(*calls, strict=True)
            for name, column in zip(names, zip(*values, strict=True), strict=True):
                points = list(zip(seqs, steps, column, times, strict=True))
                if name in found:
                    found[name] += points
                    repeated.add(name)
                else:
                    found[name] = points
        for name in repeated:
            found[name].sort()
        return found

    def _write_points(self, connection: Connection, by_name: dict[str, list[_Call]]) -> None:
        run_id, attempt = self._key.run_id, self._key.attempt
        rows: list[tuple[Any, ...]] = []
        for name, points in by_name.items():
            seqs, steps, values, times = zip(*points, strict=True)
            summary = self._summaries.get(name)
            if summary is None:
                summary = self._summaries[name] = RunningSummary()
            before = summary.nonfinite
            summary.extend(steps, values)
            stored: Iterable[float | None] = values
            if summary.nonfinite > before:
                stored = map(nan_as_null, values)
            key = (repeat(run_id), repeat(self._name_ids[name]), steps, repeat(attempt), seqs)
            rows += zip(*key, stored, times, strict=False)
        write_rows(connection, metric_points, _POINT, rows, existing="keep")
        run = self._key.experiment_id
        write_summaries(connection, run, {name: self._summaries[name] for name in sorted(by_name)})

    def _write_arrays(self, connection: Connection) -> None:
        run_id, attempt = self._key.run_id, self._key.attempt
        rows = []
        for (name, step, layer), (told, data) in self._arrays.items():
            described = (told["dtype"], json.dumps(told["shape"]), data)
            rows.append((run_id, self._name_ids[name], step, layer, attempt, *described))
        columns = ("run_id", "name_id", "step", "layer", "attempt", "dtype", "shape", "data")
        write_rows(connection, expert_stats, columns, rows)

    def _add_facts(self, connection: Connection) -> None:
        for told in self._of("facts"):
            facts = {name: storable(text) for name, text in told["facts"].items() if text}
            of_run = experiments.c.id == self._key.run_id
            connection.execute(update(experiments).where(of_run).values(facts))

    def _add_params(self, connection: Connection) -> None:
        added: dict[str, Any] = {}
        for told in self._of("param"):
            added |= told["values"]
        if added:
            of_run = experiments.c.id == self._key.run_id
            text = connection.scalar(select(experiments.c.full_config_json).where(of_run))
            config = json.loads(text or "{}") | added
            changed = json.dumps(config, ensure_ascii=False)
            connection.execute(
                update(experiments).where(of_run).values(full_config_json=storable(changed))
            )
            replace_params(connection, self._key.experiment_id, config)

    def _count_unacknowledged(self, connection: Connection) -> None:
        missing = sum(told["count"] for told in self._of("unacknowledged"))
        if missing:
            of_run = experiments.c.id == self._key.run_id
            total = experiments.c.unacknowledged + missing
            counted = update(experiments).where(of_run).values(unacknowledged=total)
            now = connection.scalar(counted.returning(experiments.c.unacknowledged))
            reason = f"{now} points or other records could not be kept when they were logged"
            row = (self._key.experiment_id, "unacknowledged", reason)
            write_rows(connection, flags, ("experiment_id", "name", "reason"), [row])


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


def read_summaries(connection: Connection, experiment_id: str) -> dict[str, RunningSummary]:
    """Return the rows of the table `metrics`, ready to take in more."""
    of_run = metrics.c.experiment_id == experiment_id
    found = {}
    for _, name, value, *rest in connection.execute(select(metrics).where(of_run)):
        found[name] = RunningSummary(null_as_nan(value), *rest)
    return found


def iso(seconds: float) -> str:
    """Return Unix seconds as the database writes times."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""Runs that another program recorded: they are written with the times that they had there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from research_eval.errors import StoreError
from research_eval.records import NewRun
from research_eval.store.batch import Batch, iso
from research_eval.store.checks import checked_name, checked_step
from research_eval.store.database import Store
from research_eval.store.importing import Imported, merge
from research_eval.store.schema import metric_points, params
from research_eval.store.segments import Entry, Owner, Points
from research_eval.store.starting import insert_run
from research_eval.store.summary import RunningSummary, nan_as_null
from research_eval.store.transfer import Content, content, in_chunks

POINTS_AT_ONCE = 20_000

PointRow = tuple[str, int, float, float]
"""Name, step, time in Unix seconds, value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A run that has ended.

    Attributes:
        new: What it was at its start.
        started: Unix seconds.
        points: Reads its points in the order of recording; called twice.
        entries: Flags, notes and the ending, as in a spool, each with its `time`.
    """

    new: NewRun
    started: float
    points: Callable[[], Iterable[PointRow]]
    entries: tuple[Entry, ...]


def take_in(store: Store, runs: Iterable[Recorded], path: Path, *, as_new: bool) -> Imported:
    """Write runs, read them back and compare: all of them or none, and none twice.

    A run that is here with the same points and parameters is the same run, whatever has been
    noted on it since.

    Args:
        store: Open for writing.
        runs: Parents before children.
        path: Where they came from, for messages.
        as_new: Whether a run whose id means another run in the store gets a new id.

    Raises:
        StoreError: If what arrived is not what was sent, or, unless `as_new`, the store has
            other runs of the same ids. Nothing is changed then.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        Store.open(Path(folder) / "runs.db", create=True) as between,
    ):
        for run in runs:
            _replay(between, run)
        told = (metric_points, params)
        with between._reading() as source:
            return merge(
                store, source, path, as_new=as_new, compared=told, files=between.artifact_dir
            )


def _replay(store: Store, run: Recorded) -> None:
    run_id = run.new.experiment_id
    owner = Owner(run_id, 1, run.new.host or "", 0, "", run.started)
    sent = Content()
    with store._writing() as connection:
        key = insert_run(connection, run.new, owner, iso(run.started))
        summaries: dict[str, RunningSummary] = {}
        name_ids: dict[str, int] = {}
        for chunk in in_chunks(_records(run.points()), POINTS_AT_ONCE):
            batch = Batch(key, summaries, name_ids)
            for points in chunk:
                batch.add(points)
            batch.write(connection)
        rest = Batch(key, summaries, name_ids)
        for entry in run.entries:
            rest.add(entry)
        rest.write(connection)
        rest.end(connection, is_live=False)
        for seq, (name, step, at, value) in enumerate(run.points()):
            sent.add((run_id, name, step, key.attempt, seq, nan_as_null(value), at))
        arrived = content(connection, metric_points, [run_id])
    if arrived != sent:
        raise StoreError(
            f"{arrived.rows} of {sent.rows} points of run {run_id} arrived, or arrived changed; "
            "nothing was kept"
        )


def _records(points: Iterable[PointRow]) -> Iterator[Points]:
    for seq, (name, step, at, value) in enumerate(points):
        yield Points((checked_name(name),), seq, checked_step(step), at, (value,))

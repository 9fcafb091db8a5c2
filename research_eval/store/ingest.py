"""From spools into the database: the one way for live runs, for dead ones, and from other nodes.

How far a segment has been taken in stands in the table `spools` and changes in the transaction
that writes the rows. So every record becomes rows exactly once, also if several processes take in
one spool, or one of them dies between COMMIT and the removal of the file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, delete, select, update

from research_eval.errors import StoreError
from research_eval.records import NewRun, RunStatus
from research_eval.store.batch import Batch, RunKey, iso, read_summaries
from research_eval.store.engine import Address, store_errors
from research_eval.store.schema import experiments, flags, spools, utc_now
from research_eval.store.segments import (
    REFUSED,
    SUFFIX,
    Entry,
    Owner,
    Record,
    Segment,
    count,
    remove_spool,
    segment_paths,
)
from research_eval.store.starting import insert_run
from research_eval.store.statements import transition, write_rows
from research_eval.store.summary import RunningSummary

MAX_POINTS = 20_000
"""Per transaction: it then takes about 0.1 s, in which nobody else can write."""
MAX_WAIT_MS = 1000

_log = logging.getLogger(__name__)


class RefusedError(StoreError):
    """Records that do not belong to the run in the database, and never will."""


@dataclass(slots=True)
class _Progress:
    """What is known of a run as long as nobody else takes in its records."""

    segment: str
    offset: int
    summaries: dict[str, RunningSummary]


class Ingester:
    """Writes records of spools as rows, one transaction at a time, on a connection of its own.

    Args:
        engine: Of the store.
        address: Of the store, for messages.

    Attributes:
        stop_requested: Whether somebody asked the run that was last written to stop.
    """

    def __init__(self, engine: Engine, address: Address) -> None:
        self.stop_requested = False
        self._engine = engine
        self._address = address
        self._connection: Connection | None = None
        self._file: os.stat_result | None = None
        self._name_ids: dict[str, int] = {}
        self._progress: _Progress | None = None
        self._removed: list[str] = []

    def ingest(self, segment: Segment, *, is_live: bool, beat: bool) -> tuple[int, int, bool]:
        """Write the next records of a segment in one transaction.

        Args:
            segment: To read from.
            is_live: Whether this is the process that records the run.
            beat: Whether to renew the heartbeat, even if there are no records.

        Returns:
            The offset up to which the segment is now committed, the number of points and other
            records in this transaction, and whether there are more.

        Raises:
            BusyError: If the database is locked or cannot be reached; nothing is written.
            RefusedError: If the run was deleted, was resumed by another process, or has ended.
            StoreError: If the database cannot be written for another reason.
        """
        with self._transaction() as connection:
            of_segment = spools.c.segment == segment.key
            offset = connection.scalar(select(spools.c.committed).where(of_segment))
            if segment.owner is None or self._is_gone(segment, offset, is_live):
                return segment.size(), 0, False  # torn at birth, or taken in by somebody else
            offset = segment.start if offset is None else offset
            records, end, number, is_more = _next_records(segment, offset)
            if records or beat:
                is_new = bool(records) and _is_start(records[0])
                key = self._claimed(connection, segment.owner, records, is_live, beat)
                if is_new:
                    self._progress = _Progress(segment.key, offset, {})
                progress = self._progress_at(connection, key, segment, offset)
                batch = Batch(key, progress.summaries, self._name_ids)
                for record in records:
                    batch.add(record)
                batch.write(connection)
                if not batch.end(connection, is_live=is_live):
                    raise RefusedError(f"run {key.experiment_id} cannot end as it asks")
                row = (segment.key, end)
                write_rows(connection, spools, ("segment", "committed"), [row])
                progress.offset = end
            self._forget_removed(connection)
        self._removed.clear()
        return end, number, is_more

    def _is_gone(self, segment: Segment, offset: int | None, is_live: bool) -> bool:
        """Return whether somebody else took a segment in; its file is removed before its row."""
        if segment.path.exists():
            return False
        if is_live and offset is None:
            raise StoreError(f"{segment.path} was removed while a run is recorded in it")
        return not is_live  # our own is open, so it can be read to its end

    def removed(self, segment: Segment) -> None:
        """Forget a segment that is gone from the disk, in the next transaction."""
        self._removed.append(segment.key)

    def close(self) -> None:
        """Give back the connection."""
        try:
            if self._removed:
                with self._transaction() as connection:
                    self._forget_removed(connection)
        except StoreError:
            pass  # a row of a few bytes stays
        finally:
            self._disconnect()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Commit what happens inside; after an error nothing is assumed any more."""
        try:
            with store_errors(self._address):
                connection = self._connected()
                with connection.begin():
                    yield connection
                self._check_file()
        except BaseException:
            self._progress = None
            self._name_ids = {}
            self._disconnect()
            raise

    def _connected(self) -> Connection:
        """Return the connection; a SQLite file that is gone is not made again."""
        self._check_file()
        if self._connection is None:
            if self._address.path is not None:
                self._file = self._address.path.stat()
            self._connection = self._engine.connect().execution_options(writes=True)
            if self._address.path is not None:
                _be_impatient(self._connection)
        return self._connection

    def _check_file(self) -> None:
        path = self._address.path
        if path is None:
            return
        try:
            found = path.stat()
        except FileNotFoundError:
            raise StoreError(
                f"{path} was deleted while a run is recorded in it; put it back from a copy"
            ) from None
        if self._file is not None and not os.path.samestat(found, self._file):
            raise StoreError(f"{path} was replaced by another file while a run is recorded in it")

    def _disconnect(self) -> None:
        connection, self._connection, self._file = self._connection, None, None
        if connection is not None:
            with suppress(StoreError), store_errors(self._address):
                connection.close()

    def _claimed(
        self,
        connection: Connection,
        owner: Owner,
        records: list[Record],
        is_live: bool,
        beat: bool,
    ) -> RunKey:
        """Make sure that the run is still the owner's; one given up for LOST lives on."""
        match records[:1]:
            case [Entry("start", told)]:
                del records[0]
                return _inserted(connection, owner, told, is_live)
        columns = experiments.c
        found = connection.execute(
            select(columns.id, columns.attempt, columns.status, columns.stop_requested)
            .where(columns.experiment_id == owner.experiment_id)
            .with_for_update()
        ).one_or_none()
        if found is None:
            raise RefusedError(f"run {owner.experiment_id} was deleted from {self._address}")
        if found.attempt != owner.attempt:
            raise RefusedError(
                f"run {owner.experiment_id} was resumed by another process (attempt "
                f"{found.attempt}); this one, attempt {owner.attempt}, must stop"
            )
        if found.status not in (RunStatus.RUNNING, RunStatus.LOST):
            raise RefusedError(f"run {owner.experiment_id} was ended as {found.status}")
        if found.status == RunStatus.LOST and is_live:
            transition(connection, found.id, RunStatus.RUNNING, heartbeat=utc_now())
        elif beat:
            renewed = update(experiments).where(columns.id == found.id)
            connection.execute(renewed.values(heartbeat=utc_now()))
        self.stop_requested = found.stop_requested is not None
        return RunKey(found.id, owner.experiment_id, owner.attempt)

    def _progress_at(
        self, connection: Connection, key: RunKey, segment: Segment, offset: int
    ) -> _Progress:
        known = self._progress
        if known is None or (known.segment, known.offset) != (segment.key, offset):
            summaries = read_summaries(connection, key.experiment_id)
            self._progress = known = _Progress(segment.key, offset, summaries)
        return known

    def _forget_removed(self, connection: Connection) -> None:
        if self._removed:
            connection.execute(delete(spools).where(spools.c.segment.in_(self._removed)))


class Drain:
    """Takes in one spool, segment by segment.

    Args:
        ingester: Writes the rows.
        folder: Of the spool.
        is_live: Whether this is the process that records the run.
        removes: Whether segments go when they are rows; only who holds the lock of the spool may.

    Attributes:
        position: Number of the segment and offset in it up to which all is committed.
        records: How many records this drain has committed.
    """

    def __init__(
        self, ingester: Ingester, folder: Path, *, is_live: bool, removes: bool = True
    ) -> None:
        self.position = (-1, 0)
        self.records = 0
        self.folder = folder
        self._ingester = ingester
        self._is_live = is_live
        self._removes = removes
        self._done = -1
        self._segment: Segment | None = None

    def step(self, *, beat: bool = False) -> bool:
        """Commit one transaction; return whether there is more to do.

        Raises:
            StoreError: As `Ingester.ingest` does; the step may be tried again.
        """
        if self._segment is None:
            paths = [path for path in segment_paths(self.folder) if int(path.stem) > self._done]
            if not paths:
                return False
            self._segment = Segment(paths[0])
        segment = self._segment
        number = int(segment.path.stem)
        # Asked before reading: only what has a successor does not grow any more.
        has_successor = segment.path.with_name(f"{number + 1:06d}{SUFFIX}").exists()
        end, records, is_more = self._ingester.ingest(segment, is_live=self._is_live, beat=beat)
        self.position = (number, end)
        self.records += records
        if has_successor and not is_more:
            self._done = number
            if self._removes:
                self._remove(segment, end)
            self.close()
        return is_more or has_successor

    def remove(self) -> None:
        """Remove the spool, which must be taken in and have no writer any more."""
        if self._segment is not None:
            self._remove(self._segment, self.position[1])
            self.close()
        remove_spool(self.folder)

    def set_aside(self, reason: str) -> Path:
        """Keep a spool that no database wants where nobody tries again; return its new place."""
        kept = self.folder.with_suffix(REFUSED)
        self.folder.rename(kept)
        _log.warning("%s; its records are kept in %s", reason, kept)
        return kept

    def close(self) -> None:
        """Close the file that is being read."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _remove(self, segment: Segment, end: int) -> None:
        damaged = segment.remainder(end)
        if damaged and segment.path.exists():
            kept = segment.path.with_suffix(".damaged")
            segment.path.rename(kept)
            _log.warning(
                "%d bytes of %s are damaged and could not be taken in; they are kept", damaged, kept
            )
        else:
            segment.path.unlink(missing_ok=True)
        self._ingester.removed(segment)


def _next_records(segment: Segment, offset: int) -> tuple[list[Record], int, int, bool]:
    """Return records from an offset on, their end, their number, and whether there are more."""
    records: list[Record] = []
    number = 0
    for record, end in segment.read(offset):
        if number >= MAX_POINTS:
            return records, offset, number, True
        records.append(record)
        number += count(record)
        offset = end
    return records, offset, number, False


def _is_start(record: Record) -> bool:
    return isinstance(record, Entry) and record.kind == "start"


def _be_impatient(connection: Connection) -> None:
    """Wait a second at most for a lock, since whoever ends a run waits for this; others retry."""
    raw: Any = connection.connection.driver_connection
    (milliseconds,) = raw.execute("PRAGMA busy_timeout").fetchone()
    raw.execute(f"PRAGMA busy_timeout = {min(milliseconds, MAX_WAIT_MS)}")


def _inserted(connection: Connection, owner: Owner, told: Any, is_live: bool) -> RunKey:
    new = NewRun(**told["run"] | {"tags": tuple(told["run"]["tags"])})
    parent = experiments.c.experiment_id == new.parent
    is_known = new.parent is None or connection.scalar(select(experiments.c.id).where(parent))
    try:
        key = insert_run(
            connection,
            new if is_known else replace(new, parent=None),
            owner,
            None if is_live else iso(told["time"]),
        )
    except StoreError as error:
        raise RefusedError(str(error)) from error
    if not is_known:  # the script that named it goes on, so its records must have a place
        reason = f"its parent is said to be {new.parent}, which was not in the database"
        row = (new.experiment_id, "parent_unknown", reason)
        write_rows(connection, flags, ("experiment_id", "name", "reason"), [row])
    return key

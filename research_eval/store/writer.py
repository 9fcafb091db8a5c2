"""A run that is being recorded: a queue, and a thread that empties it into the database."""

from __future__ import annotations

import hashlib
import itertools
import logging
import operator
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, select, update

from research_eval.errors import StoreError
from research_eval.records import ArtifactKind, RunStatus
from research_eval.store.batch import Batch, RunKey
from research_eval.store.engine import Address, BusyError, store_errors
from research_eval.store.schema import attempts, experiments, utc_now
from research_eval.store.statements import storable, transition
from research_eval.store.summary import RunningSummary

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FLUSH_S = 0.25
HEARTBEAT_S = 10.0
MAX_ROWS = 20_000
"""Rows per transaction: it then takes about 0.1 s, in which nobody else can write."""
MAX_NAME = 512

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Ending:
    status: RunStatus
    error: str | None
    contended: bool


class _TakenOverError(StoreError):
    """The run no longer belongs to this writer."""


class RunWriter:
    """Records one attempt of one run; a `records.Recorder`. `Store.start` and `resume` make it.

    `log` and its siblings put a record into a queue and return; a thread writes the queue about
    every 0.25 s, and a heartbeat every 10 s. While the database is locked or its disk is full,
    the records wait in memory and are tried again.

    Args:
        engine: Of the store; the writer takes a connection of its own.
        address: Of the store, for messages.
        key: The run.
        artifact_dir: Of the store; files of the run belong into a folder in it.
        summaries: Of the points that earlier attempts left.
    """

    def __init__(
        self,
        engine: Engine,
        address: Address,
        key: RunKey,
        artifact_dir: Path,
        summaries: dict[str, RunningSummary],
    ) -> None:
        self.experiment_id = key.experiment_id
        self.folder = artifact_dir / key.experiment_id
        self._key = key
        self._address = address
        self._queue: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._seq = itertools.count()
        self._batch = Batch(key, summaries)
        self._checked_names: set[str] = set()
        self._next_heartbeat = time.monotonic() + HEARTBEAT_S
        self._closed: str | None = None
        self._connection = engine.connect().execution_options(writes=True)
        # The thread and a caller of `flush` share the connection, one transaction at a time.
        self._transaction = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._write_until_stopped, name=f"store-{self.experiment_id}", daemon=True
        )
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    # ------------------------------------------------------------------------------ recording

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Record metrics at an optimizer step; NaN and infinities are kept as they are.

        Steps may repeat or go backwards: every call leaves its own points.

        Args:
            values: By name; a name is any text of 1 to 512 characters.
            step: A 64-bit integer.

        Raises:
            StoreError: If a name cannot be stored, or the run has ended.
        """
        now = time.time()
        points = [(self._checked(name), float(value)) for name, value in values.items()]
        self._put(self._batch.add_points, next(self._seq), _checked_step(step), now, points)

    def log_array(
        self, name: str, values: npt.NDArray[np.generic], *, layer: int, step: int
    ) -> None:
        """Record an array of expert statistics; a repeated name, layer and step replaces it.

        Raises:
            StoreError: If the name or the array cannot be stored, or the run has ended.
        """
        if values.dtype.kind not in "biufc":
            raise StoreError(f"array '{name}' must hold numbers, but its type is {values.dtype}")
        key = (self._checked(name), _checked_step(step), layer)
        self._put(self._batch.add_array, *key, values.copy())

    def flag(self, name: str, reason: str) -> None:
        """Attach a warning that must stand beside the run's scores; the last reason counts.

        Raises:
            StoreError: If the name cannot be stored, or the run has ended.
        """
        self._put(self._batch.add_flag, self._checked(name), storable(reason))

    def artifact(self, kind: ArtifactKind, path: Path) -> None:
        """Register a finished file inside `folder`, with the hash that it has now.

        Raises:
            StoreError: If the file is missing or lies elsewhere, or the run has ended.
        """
        found = path.resolve()
        if not found.is_relative_to(self.folder.resolve()):
            raise StoreError(f"artifact {path} must lie in the run's folder, {self.folder}")
        try:
            with found.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = found.stat().st_size
        except OSError as error:
            raise StoreError(f"artifact {path} cannot be read: {error.strerror}") from error
        inside = found.relative_to(self.folder.resolve().parent).as_posix()
        self._put(self._batch.add_artifact, inside, kind, digest, size)

    def _put(self, take: Callable[..., None], *record: Any) -> None:
        if self._closed:
            raise StoreError(self._closed)
        self._queue.append((take, record))

    def _checked(self, name: str) -> str:
        if name not in self._checked_names:
            if not 0 < len(name) <= MAX_NAME:
                raise StoreError(
                    f"a name has 1 to {MAX_NAME} characters, not {len(name)}: {name!r}"
                )
            if storable(name) != name:
                raise StoreError(f"the name {name!r} is not text that a database can keep")
            self._checked_names.add(name)
        return name

    # -------------------------------------------------------------------------------- writing

    def flush(self, *, timeout: float = 120.0) -> None:
        """Return when everything recorded so far is committed.

        Args:
            timeout: Seconds after which a database that stays locked is an error.

        Raises:
            StoreError: If the database cannot be written; the records are kept and tried again.
        """
        self._persist(None, timeout)

    def finish(
        self,
        status: RunStatus,
        *,
        error: str | None = None,
        contended: bool = False,
        timeout: float = 120.0,
    ) -> None:
        """End the run; return when its last points and its status are committed.

        Args:
            status: What became of it.
            error: Message, or traceback.
            contended: Whether other work shared the machine.
            timeout: Seconds after which a database that stays locked is an error.

        Raises:
            StoreError: If the database cannot be written; the records are kept, so `finish` may
                be called again. Also if the run has already ended, or another process resumed it.
        """
        if self._closed:
            raise StoreError(self._closed)
        kept_error = None if error is None else storable(error)
        self._persist(_Ending(status, kept_error, contended), timeout)
        self._closed = f"run {self.experiment_id} has ended as {status}; it takes no more records"
        self.close()

    def close(self) -> None:
        """Write what waits and stop the thread; a run that was not finished will count as LOST.

        Raises:
            StoreError: If records could not be written; they are given up.
        """
        try:
            if not self._closed:
                self._persist(None, timeout=0.0)
        finally:
            self._closed = self._closed or f"the store of run {self.experiment_id} was closed"
            self._stop.set()
            self._thread.join()
            self._connection.close()

    def _write_until_stopped(self) -> None:
        is_failing = False
        while not self._stop.wait(FLUSH_S):
            try:
                self._write_all(None)
                is_failing = False
            except _TakenOverError as error:
                self._closed = str(error)
                return
            except StoreError as error:
                if not is_failing:
                    _log.warning("%s; %s", error, self._waiting())
                is_failing = True

    def _persist(self, ending: _Ending | None, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._write_all(ending)
            except BusyError as error:
                if time.monotonic() > deadline:
                    raise BusyError(f"{error}; {self._waiting()}") from error
            except _TakenOverError as error:
                self._closed = str(error)
                raise
            except StoreError as error:
                raise StoreError(f"{error}; {self._waiting()}") from error
            else:
                return

    def _waiting(self) -> str:
        return (
            f"{len(self._batch) + len(self._queue)} records of run {self.experiment_id} are not "
            "yet written and wait in memory"
        )

    def _write_all(self, ending: _Ending | None) -> None:
        with self._transaction:
            while True:
                while self._queue and len(self._batch) < MAX_ROWS:
                    take, record = self._queue.popleft()
                    take(*record)
                is_last = not self._queue
                self._write(ending if is_last else None)
                if is_last:
                    return

    def _write(self, ending: _Ending | None) -> None:
        """Commit the batch; on an error everything stays as it was before."""
        is_due = time.monotonic() >= self._next_heartbeat
        if not (self._batch or ending or is_due):
            return
        try:
            with store_errors(self._address), self._connection.begin():
                self._claim(beat=is_due)
                self._batch.write(self._connection)
                if ending is not None:
                    self._end(ending)
        except BaseException:
            self._batch.forget_keys()
            raise
        self._batch.clear()
        if is_due:
            self._next_heartbeat = time.monotonic() + HEARTBEAT_S

    def _claim(self, *, beat: bool) -> None:
        """Make sure that the run is still ours; one that was given up for LOST lives on."""
        of_run = experiments.c.id == self._key.run_id
        found = self._connection.execute(
            select(experiments.c.attempt, experiments.c.status).where(of_run).with_for_update()
        ).one_or_none()
        if found is None:
            raise _TakenOverError(f"run {self.experiment_id} was deleted from {self._address}")
        if found.attempt != self._key.attempt:
            raise _TakenOverError(
                f"run {self.experiment_id} was resumed by another process (attempt "
                f"{found.attempt}); this one, attempt {self._key.attempt}, must stop"
            )
        if found.status == RunStatus.LOST:
            transition(self._connection, self._key.run_id, RunStatus.RUNNING, heartbeat=utc_now())
        elif found.status != RunStatus.RUNNING:
            raise _TakenOverError(f"run {self.experiment_id} was ended as {found.status}")
        if beat:
            self._connection.execute(update(experiments).where(of_run).values(heartbeat=utc_now()))

    def _end(self, ending: _Ending) -> None:
        if not transition(
            self._connection,
            self._key.run_id,
            ending.status,
            ended=utc_now(),
            error=ending.error,
            contended=ending.contended,
        ):
            raise StoreError(f"a run cannot end as {ending.status}")
        self._connection.execute(
            update(attempts)
            .where(attempts.c.run_id == self._key.run_id, attempts.c.attempt == self._key.attempt)
            .values(status=ending.status, ended=utc_now())
        )


def _checked_step(step: int) -> int:
    number = operator.index(step)
    if not -(2**63) <= number < 2**63:
        raise StoreError(f"step {number} does not fit into 64 bits")
    return number

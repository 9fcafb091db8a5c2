"""A run that is being recorded: a spool, and a thread that takes it into the database.

Only the standard library is loaded, so a script may record without waiting for SQLAlchemy.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from research_eval.errors import StoreError
from research_eval.records import TRANSITIONS, ArtifactKind, RunStatus
from research_eval.store.checks import checked_name, checked_step
from research_eval.store.spool import Spool

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from research_eval.store.ingest import Drain, Ingester

FLUSH_S = 0.2
HEARTBEAT_S = 10.0
TIMEOUT_S = 30.0
"""How long `flush` and `finish` wait for a database; what it then lacks stays in the spool."""


class PendingError(StoreError):
    """The database lacks records, which wait in the spool."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why the last attempt to write failed; `attempt` counts them."""

    error: StoreError
    attempt: int
    is_passing: bool
    is_final: bool


class RunWriter:
    """Records one attempt of one run; a `records.Recorder`. `Store.start` and `resume` make it.

    When `log` or one of its siblings returns, the record is in the spool: it survives the death
    of this process (not a power cut), and whoever opens the store for writing next takes it in. A
    thread commits the spool about every 0.2 s, and a heartbeat every 10 s, and goes on trying
    while the database is locked, full or away.

    Args:
        spool: Of this attempt; its owner is the run.
        artifact_dir: Of the store; files of the run belong into a folder in it.
        connect: Called once in the thread, to have what writes to the database. None leaves the
            records in the spool, for another process to take in.
    """

    def __init__(
        self, spool: Spool, artifact_dir: Path, connect: Callable[[], Ingester] | None
    ) -> None:
        self.experiment_id = spool.owner.experiment_id
        self.folder = artifact_dir / self.experiment_id
        self.spool = spool
        self._connect = connect
        self._ingester: Ingester | None = None
        self._drain: Drain | None = None
        self._failure: _Failure | None = None
        self._attempts = 0
        self._next_beat = time.monotonic() + HEARTBEAT_S
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(
            target=self._write_until_stopped, name=f"store-{self.experiment_id}", daemon=True
        )
        if connect is not None:
            self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    @property
    def stop_requested(self) -> bool:
        """Whether somebody asked the run to stop; known at most one heartbeat later."""
        return self._ingester is not None and self._ingester.stop_requested

    @property
    def unacknowledged(self) -> int:
        """How many points and other records could not be kept, for example on a full disk."""
        return self.spool.unacknowledged

    @property
    def pending(self) -> int:
        """How many points and other records wait in the spool."""
        if self._has_committed(self.spool.position):
            return 0  # also where another process has taken some of them in
        if self._drain is None:
            return self.spool.records
        if self._has_committed(self.spool.position):
            return 0
        return max(1, self.spool.records - self._drain.records)

    # ------------------------------------------------------------------------------ recording

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Record metrics at an optimizer step; NaN and infinities are kept as they are.

        Steps may repeat or go backwards: every call leaves its own points. It takes about 4
        microseconds for ten metrics.

        Args:
            values: By name; a name is any text of 1 to 512 characters.
            step: A 64-bit integer.

        Raises:
            StoreError: If a name, a value or the step cannot be stored, or the run has ended.
        """
        self.spool.log(values, step)

    def log_array(
        self, name: str, values: npt.NDArray[np.generic], *, layer: int, step: int
    ) -> None:
        """Record an array of expert statistics; a repeated name, layer and step replaces it.

        Raises:
            StoreError: If the name or the array cannot be stored, or the run has ended.
        """
        if values.dtype.kind not in "biufc":
            raise StoreError(f"array '{name}' must hold numbers, but its type is {values.dtype}")
        told = {"name": checked_name(name), "step": checked_step(step), "layer": layer}
        described = told | {"dtype": values.dtype.str, "shape": values.shape}
        self.spool.array(described, values.tobytes())

    def flag(self, name: str, reason: str) -> None:
        """Attach a warning that must stand beside the run's scores; the last reason counts.

        Raises:
            StoreError: If the name cannot be stored, or the run has ended.
        """
        self.spool.record("flag", {"name": checked_name(name), "reason": reason})

    def tag(self, tag: str) -> None:
        """Label the run.

        Raises:
            StoreError: If the label cannot be stored, or the run has ended.
        """
        self.spool.record("tag", {"tag": checked_name(tag)})

    def note(self, note: str) -> None:
        """Add a remark.

        Raises:
            StoreError: If the run has ended.
        """
        self.spool.record("note", {"note": note})

    def set(self, values: Mapping[str, Any]) -> None:
        """Add to the configuration, or replace what it has under these names.

        Args:
            values: What JSON can hold.

        Raises:
            StoreError: If it is not that, or the run has ended.
        """
        try:
            self.spool.record("param", {"values": dict(values)})
        except (TypeError, ValueError) as error:
            raise StoreError(f"a configuration is what JSON can hold: {error}") from error

    def describe(self, facts: Mapping[str, str | None]) -> None:
        """Add what takes time to find out: commit, packages, hardware.

        Args:
            facts: By the names of fields of `NewRun` that hold text; None leaves a field alone.

        Raises:
            StoreError: If the run has ended.
        """
        self.spool.record("facts", {"facts": dict(facts)})

    def artifact(self, kind: ArtifactKind, path: Path) -> None:
        """Register a finished file inside `folder`, with the hash that it has now.

        Raises:
            StoreError: If the file is missing or lies elsewhere, or the run has ended.
        """
        import hashlib  # noqa: PLC0415 - the start of a script need not wait for it

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
        told = {"path": inside, "artifact": kind, "sha256": digest, "bytes": size}
        self.spool.record("artifact", told)

    # --------------------------------------------------------------------------------- ending

    def flush(self, *, timeout: float = TIMEOUT_S) -> None:
        """Return when everything recorded so far is committed to the database.

        Args:
            timeout: Seconds after which a database that is locked or away is an error.

        Raises:
            PendingError: If the database cannot be written; the records wait in the spool.
            StoreError: If the run was deleted, or another process resumed it.
        """
        if self._connect is None:
            return
        target = self.spool.position
        begun = self._attempts
        self._wake.set()
        with self._changed:
            self._changed.wait_for(lambda: self._is_settled(target, begun), timeout)
        failure = self._failure
        if failure is not None and failure.is_final:
            raise failure.error
        if not self._has_committed(target):
            reason = failure.error if failure else "the database was not written in time"
            raise PendingError(f"{reason}; {self._waiting()}")

    def finish(
        self,
        status: RunStatus,
        *,
        error: str | None = None,
        contended: bool = False,
        timeout: float = TIMEOUT_S,
    ) -> None:
        """End the run; return when its last points and its status are committed.

        Args:
            status: What became of it.
            error: Message, or traceback.
            contended: Whether other work shared the machine.
            timeout: Seconds after which a database that is locked or away is an error.

        Raises:
            PendingError: If the database cannot be written. The run has ended all the same: its
                records and its status wait in the spool, for `flush` or for the next process.
            StoreError: If the run has already ended, was deleted or resumed by another process,
                or its end cannot be kept since the disk is full.
        """
        if status not in TRANSITIONS[RunStatus.RUNNING]:
            raise StoreError(f"a run cannot end as {status}")
        ending = {"status": status, "error": error, "contended": contended}
        if not self.spool.record("ending", ending):
            raise StoreError(
                f"the end of run {self.experiment_id} as {status} could not be kept: "
                f"{self.spool.folder} cannot be written; free some space and try again"
            )
        self.spool.refuse(
            f"run {self.experiment_id} has ended as {status}; it takes no more records"
        )
        self.flush(timeout=timeout)
        self.close()

    def close(self, *, timeout: float = TIMEOUT_S) -> None:
        """Write what waits and stop the thread; a run that was not finished will count as LOST.

        Args:
            timeout: Seconds to wait for a database that does not answer.

        Raises:
            PendingError: If records could not be written; they wait in the spool.
        """
        self.spool.refuse(f"the store of run {self.experiment_id} was closed")
        if not self._thread.is_alive():
            self.spool.close()
            return
        self._is_stopping = True
        self._wake.set()
        self._thread.join(timeout)
        self.spool.close()
        failure = self._failure
        if self.pending and not (failure and failure.is_final):
            reason = failure.error if failure else "the database did not answer"
            raise PendingError(f"{reason}; {self._waiting()}")

    def _waiting(self) -> str:
        return (
            f"{self.pending} records of run {self.experiment_id} are not yet in the database; they "
            f"wait in {self.spool.folder} for the next command that writes to it"
        )

    def _has_committed(self, target: tuple[int, int]) -> bool:
        return self._drain is not None and self._drain.position >= target

    def _is_settled(self, target: tuple[int, int], begun: int) -> bool:
        failure = self._failure
        if self._has_committed(target) or not self._thread.is_alive():
            return True
        if failure is None:
            return False
        return failure.is_final or (failure.attempt > begun and not failure.is_passing)

    # ------------------------------------------------------------------------------ the thread

    def _write_until_stopped(self) -> None:
        while True:
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            is_last = self._is_stopping
            self._try_to_write()
            if is_last or (self._failure is not None and self._failure.is_final):
                break
        self._end_thread()

    def _try_to_write(self) -> None:
        from research_eval.store.engine import BusyError  # noqa: PLC0415 - loads SQLAlchemy
        from research_eval.store.ingest import RefusedError  # noqa: PLC0415 - likewise

        self._attempts += 1
        failure = None
        try:
            self._write()
        except RefusedError as error:
            self.spool.refuse(str(error))
            failure = _Failure(error, self._attempts, is_passing=False, is_final=True)
        except (StoreError, OSError) as error:
            told = error if isinstance(error, StoreError) else _unreadable(self.spool.folder, error)
            if self._failure is None:
                import logging  # noqa: PLC0415 - the start of a script need not wait for it

                logging.getLogger(__name__).warning("%s; %s", told, self._waiting())
            passes = isinstance(error, BusyError)
            failure = _Failure(told, self._attempts, is_passing=passes, is_final=False)
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def _write(self) -> None:
        if self._drain is None:
            from research_eval.store.ingest import Drain  # noqa: PLC0415 - loads SQLAlchemy

            assert self._connect is not None
            self._ingester = self._connect()
            self._drain = Drain(self._ingester, self.spool.folder, is_live=True)
        is_due = time.monotonic() >= self._next_beat
        is_more = is_due or not self._has_committed(self.spool.position)
        while is_more:
            is_more = self._drain.step(beat=is_due)
            with self._changed:
                self._changed.notify_all()
            if is_due:
                self._next_beat = time.monotonic() + HEARTBEAT_S
                is_due = False

    def _end_thread(self) -> None:
        """Clean up; what stays on the disk is taken in, or removed, by the next opening."""
        if self._drain is not None and self._ingester is not None:
            failure = self._failure
            with suppress(StoreError, OSError):
                if failure is None:
                    self._drain.remove()
                elif failure.is_final:
                    self._drain.set_aside(str(failure.error))
            self._drain.close()
            self._ingester.close()
        with self._changed:
            self._changed.notify_all()


def _unreadable(folder: Path, error: OSError) -> StoreError:
    return StoreError(f"the spool {folder} cannot be read: {error.strerror}")

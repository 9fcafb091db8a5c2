"""The spool: what a run reports is in a file before the call returns, whatever the database does.

Only the standard library is loaded. `segments` describes the files. Each record is written by one
`write` to a descriptor in append mode: it survives the death of the process, and a kill in the
middle of it leaves at most that one torn.
"""

from __future__ import annotations

import errno
import itertools
import os
import reprlib
import struct
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from research_eval.errors import StoreError
from research_eval.store.checks import checked_name, checked_step
from research_eval.store.segments import (
    ARRAY,
    CHECKSUM,
    ENTRY,
    HEADER,
    LAYOUT,
    MAGIC,
    NUMBER,
    OWNER_NAME,
    POINTS,
    POINTS_HEAD,
    SUFFIX,
    Owner,
    as_json,
    framed,
    try_lock,
)

SEGMENT_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the points of calls with the same names are packed."""

    number: int
    length: int
    packer: struct.Struct


class Spool:
    """The end of a spool that is written to; threads may share it, a forked child may not.

    Args:
        root: Folder of the spools; it is made if need be.
        owner: Whose records follow.
        strict: Whether what cannot be kept is an error, instead of one warning and a count.
        segment_bytes: Size from which a new segment is begun.

    Attributes:
        folder: Of this spool.
        owner: As given.
        records: How many points and other records were kept.
        unacknowledged: How many could not be kept, for example on a full disk.

    Raises:
        StoreError: If the folder cannot be written.
    """

    def __init__(
        self, root: Path, owner: Owner, *, strict: bool = False, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self.owner = owner
        self.records = 0
        self.unacknowledged = 0
        self._strict = strict
        self._segment_bytes = segment_bytes
        # Reentrant: a signal handler or a finaliser may log while its thread is logging.
        self._lock = threading.RLock()
        self._layouts: dict[tuple[str, ...], _Layout] = {}
        self._layout_numbers = itertools.count()
        self._calls = itertools.count()
        self._untold = 0
        self._closed: str | None = None
        self._number, self._size, self._descriptor = -1, 0, -1
        try:
            self.folder, self._owner_descriptor = _claimed_folder(root)
            self._begin_segment()
        except OSError as error:
            raise StoreError(f"{root} cannot keep records: {error.strerror}") from error
        _open_spools.add(self)

    @property
    def position(self) -> tuple[int, int]:
        """Number of the present segment, and its length in bytes."""
        with self._lock:
            return self._number, self._size

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Keep one point of each metric; about 4 microseconds for ten.

        Args:
            values: By name; a name is any text of 1 to 512 characters.
            step: A 64-bit integer.

        Raises:
            StoreError: If a name, a value or the step cannot be stored, or the spool is closed;
                with `strict`, also if the points cannot be kept.
        """
        names = tuple(values)
        with self._lock:
            if self._closed or self._size >= self._segment_bytes:
                self._make_room()
            definition = b""
            layout = self._layouts.get(names)
            if layout is None:
                layout, definition = self._laid_out(names)
            head = (layout.length, POINTS, layout.number, next(self._calls), step, time.time())
            try:
                body = layout.packer.pack(*head, *values.values())
            except (struct.error, TypeError, ValueError, OverflowError) as error:
                raise _unfit(values, step) from error
            if self._append(definition + CHECKSUM.pack(crc32(body)) + body, len(names)):
                self._layouts[names] = layout

    def record(self, kind: str, payload: Mapping[str, Any]) -> bool:
        """Keep something rare as JSON, with the time; return whether it was kept.

        Raises:
            StoreError: If the spool is closed; with `strict`, also if it cannot be kept.
        """
        return self._put(ENTRY, as_json({"kind": kind, "time": time.time(), **payload}))

    def array(self, description: Mapping[str, Any], data: bytes) -> bool:
        """Keep bytes with a description; return whether they were kept.

        Raises:
            StoreError: If the spool is closed; with `strict`, also if they cannot be kept.
        """
        text = as_json(description)
        return self._put(ARRAY, NUMBER.pack(len(text)) + text + data)

    def refuse(self, reason: str) -> None:
        """Take no more records; a later call is told the reason."""
        with self._lock:
            self._closed = self._closed or reason

    def close(self) -> None:
        """Let others have the folder."""
        with self._lock:
            self.refuse(f"the recording of run {self.owner.experiment_id} was closed")
            if self in _open_spools:
                _open_spools.discard(self)
                os.close(self._descriptor)
                os.close(self._owner_descriptor)

    # -------------------------------------------------------------------------------- writing

    def _put(self, kind: int, body: bytes) -> bool:
        with self._lock:
            if self._closed or self._size >= self._segment_bytes:
                self._make_room()
            return self._append(framed(kind, body), 1)

    def _append(self, data: bytes, count: int) -> bool:
        if self._untold:
            self._tell_unacknowledged()  # before the record: after an ending it would be refused
        try:
            self._write(data)
        except OSError as error:
            self._miss(count, error)
            return False
        self.records += count
        return True

    def _write(self, data: bytes) -> None:
        """Append all or nothing."""
        if os.write(self._descriptor, data) < len(data):
            os.ftruncate(self._descriptor, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += len(data)

    def _miss(self, count: int, error: OSError) -> None:
        message = (
            f"{self.folder} cannot keep what run {self.owner.experiment_id} logs: "
            f"{error.strerror}; free some space"
        )
        if not self.unacknowledged and not self._strict:
            import logging  # noqa: PLC0415 - the start of a script need not wait for it

            log = logging.getLogger(__name__)
            log.warning("%s. The run goes on, and what is missing is counted", message)
        self.unacknowledged += count
        self._untold += count
        if self._strict:
            raise StoreError(message) from error

    def _tell_unacknowledged(self) -> None:
        """Record how much is missing, now that there is room again."""
        told = self._untold
        entry = {"kind": "unacknowledged", "time": time.time(), "count": told}
        with suppress(OSError):  # the next record tries again
            self._write(framed(ENTRY, as_json(entry)))
            self._untold -= told

    def _laid_out(self, names: tuple[str, ...]) -> tuple[_Layout, bytes]:
        text = as_json([checked_name(name) for name in names])
        number = next(self._layout_numbers)
        packer = struct.Struct(f"<IBIQqd{len(names)}d")
        layout = _Layout(number, POINTS_HEAD.size + 8 * len(names), packer)
        return layout, framed(LAYOUT, NUMBER.pack(number) + text)

    def _make_room(self) -> None:
        if self._closed:
            raise StoreError(self._closed)
        with suppress(OSError):  # the present segment grows on, and the next record tries again
            self._begin_segment()

    def _begin_segment(self) -> None:
        number = self._number + 1
        path = self.folder / f"{number:06d}{SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o666)
        header = MAGIC + framed(HEADER, as_json(asdict(self.owner)))
        try:
            if os.write(descriptor, header) < len(header):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.close(descriptor)
            path.unlink()
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._number, self._size = descriptor, number, len(header)
        self._layouts = {}

    def _leave_to_parent(self) -> None:
        """In a forked child: let go of the lock, which it would keep beyond its parent's death."""
        self._lock = threading.RLock()  # another thread of the parent may have held it
        self._closed = (
            f"run {self.owner.experiment_id} is recorded by process {self.owner.pid}; "
            "a forked child starts a run of its own"
        )
        os.close(self._descriptor)
        os.close(self._owner_descriptor)


_open_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


def _leave_all_to_parent() -> None:
    for spool in list(_open_spools):
        spool._leave_to_parent()
    _open_spools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all_to_parent)


def _claimed_folder(root: Path) -> tuple[Path, int]:
    """Make a folder for a spool and lock it; whoever clears up empty ones may be faster."""
    while True:
        folder = root / os.urandom(8).hex()
        folder.mkdir(parents=True)
        lock = folder / OWNER_NAME
        with suppress(FileNotFoundError):
            descriptor = try_lock(lock, os.O_CREAT)
            if descriptor is not None:
                if lock.exists() and os.path.samestat(os.fstat(descriptor), lock.stat()):
                    return folder, descriptor
                os.close(descriptor)


def _unfit(values: Mapping[str, float], step: int) -> StoreError:
    """Return what is wrong with a call whose points could not be packed."""
    checked_step(step)
    for name, value in values.items():
        try:
            struct.pack("<d", value)
        except (struct.error, TypeError, ValueError, OverflowError):
            return StoreError(f"the value of '{name}' is not a number: {reprlib.repr(value)}")
    return StoreError(f"values changed while they were logged at step {step}")

"""The files of a spool, and how they are read. Only the standard library is loaded.

A spool is a folder with the file `owner`, which the process that writes holds locked, and with
numbered segments. A segment is `MAGIC` and then records, all little endian:

    crc32 of the rest, 4 bytes | length of the body, 4 | kind, 1 | body

The first is the HEADER, and each segment can be read without the others.

    HEADER   JSON of `Owner`
    LAYOUT   number, 4 bytes | JSON list of the names that the points of one call carry
    POINTS   layout, 4 | number of the call, 8 | step, 8 | Unix seconds, 8 | a double for each name
    ARRAY    length of the JSON, 4 | JSON | bytes
    ENTRY    JSON with its kind: start, facts, flag, artifact, tag, note, param, unacknowledged,
             ending
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

MAGIC = b"RESPOOL1"
HEADER, LAYOUT, POINTS, ARRAY, ENTRY = range(5)
CHECKSUM = struct.Struct("<I")
FRAME = struct.Struct("<IB")
NUMBER = struct.Struct("<I")
POINTS_HEAD = struct.Struct("<IQqd")
SUFFIX = ".segment"
OWNER_NAME = "owner"
REFUSED = ".refused"
_PREFIX = CHECKSUM.size + FRAME.size


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose records a spool holds.

    Attributes:
        host: Name of the machine; with `pid` and `process` it tells whether the owner lives.
        process: See `process.process_key`.
        started: Unix seconds.
    """

    experiment_id: str
    attempt: int
    host: str
    pid: int
    process: str
    started: float


class Points(NamedTuple):
    """One `log` call; `values` stand in the order of `names`."""

    names: tuple[str, ...]
    seq: int
    step: int
    time: float
    values: tuple[float, ...]


class Array(NamedTuple):
    """Bytes with their description."""

    description: Mapping[str, Any]
    data: bytes


class Entry(NamedTuple):
    """Anything rare."""

    kind: str
    payload: Mapping[str, Any]


Record = Points | Array | Entry


def count(record: Record) -> int:
    """Return how many a record counts for: a call of `log` is as many points as it has names."""
    return len(record.values) if isinstance(record, Points) else 1


def as_json(value: object) -> bytes:
    """Return JSON as it stands in a record: lone surrogates and NUL survive as escapes."""
    return json.dumps(value, separators=(",", ":")).encode()


def framed(kind: int, body: bytes) -> bytes:
    """Return a record."""
    rest = FRAME.pack(len(body), kind) + body
    return CHECKSUM.pack(crc32(rest)) + rest


def read_segment(path: Path, offset: int = 0) -> Iterator[tuple[Record, int]]:
    """Yield every whole record that begins at an offset or later, with the offset of its end.

    A record that was torn by the death of its writer ends the reading, and so does one that is
    damaged: `Segment.remainder` tells them apart.

    Raises:
        OSError: If the file cannot be read.
    """
    with closing(Segment(path)) as segment:
        yield from segment.read(offset)


class Segment:
    """One file of a spool, open to be read from any offset; it may still grow.

    Attributes:
        path: Of the file.
        key: Name of the segment in the table `spools`, unique everywhere.
        owner: From its header; None if its writer died before it was whole.
        start: Offset of the end of the header.

    Raises:
        OSError: If the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key = f"{path.parent.name}/{path.stem}"
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._layouts: dict[int, tuple[tuple[str, ...], struct.Struct]] = {}
        self._known_until = len(MAGIC)
        self.owner: Owner | None = None
        self.start = len(MAGIC)
        self._scan(0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def size(self) -> int:
        """Return the present length of the file in bytes."""
        return os.fstat(self._descriptor).st_size

    def read(self, offset: int = 0) -> Iterator[tuple[Record, int]]:
        """Yield records and the offsets of their ends, as `read_segment` does."""
        offset = max(offset, len(MAGIC))
        if offset > self._known_until:
            self._scan(offset)
        for kind, body, end in self._frames(offset):
            if kind == POINTS:
                number, seq, step, time = POINTS_HEAD.unpack_from(body)
                names, values = self._layouts[number]
                yield (
                    Points(names, seq, step, time, values.unpack_from(body, POINTS_HEAD.size)),
                    end,
                )
            elif kind == ENTRY:
                payload = json.loads(bytes(body))
                yield Entry(payload.pop("kind"), payload), end
            elif kind == ARRAY:
                (length,) = NUMBER.unpack_from(body)
                text = bytes(body[NUMBER.size : NUMBER.size + length])
                yield Array(json.loads(text), bytes(body[NUMBER.size + length :])), end
            else:
                self._learn(kind, body)
            self._known_until = max(self._known_until, end)

    def remainder(self, offset: int) -> int:
        """Return how many bytes after an offset are damaged, not merely torn off; 0 if none.

        Args:
            offset: Where reading ended.
        """
        for _, _, end in self._frames(offset):
            offset = end  # names whose points were torn off
        rest = self._rest(offset)
        if len(rest) < _PREFIX or not any(rest):  # a power cut leaves zeros
            return 0
        length, _ = FRAME.unpack_from(rest, CHECKSUM.size)
        return 0 if _PREFIX + length > len(rest) else len(rest)

    def _scan(self, until: int) -> None:
        """Learn the header and the layouts that stand before an offset."""
        if os.pread(self._descriptor, len(MAGIC), 0) != MAGIC:
            return
        for kind, body, end in self._frames(self._known_until):
            if self.owner is not None and end > until:
                return
            self._learn(kind, body)
            self._known_until = end

    def _learn(self, kind: int, body: memoryview) -> None:
        if kind == HEADER:
            self.owner = Owner(**json.loads(bytes(body)))
            self.start += _PREFIX + len(body)
        elif kind == LAYOUT:
            names = tuple(json.loads(bytes(body[NUMBER.size :])))
            (number,) = NUMBER.unpack_from(body)
            self._layouts[number] = (names, struct.Struct(f"<{len(names)}d"))

    def _rest(self, offset: int) -> bytes:
        return os.pread(self._descriptor, max(0, self.size() - offset), offset)

    def _frames(self, offset: int) -> Iterator[tuple[int, memoryview, int]]:
        data = memoryview(self._rest(offset))
        start = 0
        while start + _PREFIX <= len(data):
            (checksum,) = CHECKSUM.unpack_from(data, start)
            length, kind = FRAME.unpack_from(data, start + CHECKSUM.size)
            end = start + _PREFIX + length
            if end > len(data) or crc32(data[start + CHECKSUM.size : end]) != checksum:
                return
            yield kind, data[start + _PREFIX : end], offset + end
            start = end


def segment_paths(folder: Path) -> list[Path]:
    """Return the segments of a spool in the order in which they were written."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def spool_folders(root: Path) -> list[Path]:
    """Return the spools in a folder, those of living processes included, refused ones not."""
    found = (lock.parent for lock in root.glob(f"*/{OWNER_NAME}"))
    return sorted(folder for folder in found if folder.suffix != REFUSED)


def try_lock(path: Path, flags: int = 0) -> int | None:
    """Lock the file `owner` of a spool; return its descriptor, or None if its owner lives.

    Raises:
        OSError: If it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def remove_spool(folder: Path) -> None:
    """Remove a spool whose segments are gone; the caller holds its lock."""
    (folder / OWNER_NAME).unlink(missing_ok=True)
    with suppress(OSError):  # somebody else was faster, or put a file there
        folder.rmdir()

"""TensorBoard: event files, one folder for each run.

Scalars are imported, of either style, and hyperparameters; histograms, images, texts and graphs
are counted. TensorBoard keeps no status, and most of its values as 32-bit numbers.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from research_eval.errors import DataError
from research_eval.importers import wire
from research_eval.importers.foreign import ForeignRun, Point
from research_eval.records import RunStatus

EVENT_FILES = "*tfevents*"
NO_STATUS = "TensorBoard does not record how a run ended; it counts as completed"

# Numbers of the fields of Event, Summary.Value, SummaryMetadata and TensorProto.
EVENT_TIME, EVENT_STEP, EVENT_SUMMARY = 1, 2, 5
TAG, SIMPLE, TENSOR, METADATA = 1, 2, 8, 9
KINDS = {3: "old histograms", 4: "images", 5: "histograms", 6: "audio"}
DTYPE, CONTENT, FLOATS, DOUBLES = 1, 4, 5, 6
DT_FLOAT, DT_DOUBLE = 1, 2


def read(path: Path) -> Iterator[ForeignRun]:
    """Yield the runs in a folder of event files and the folders below it.

    Raises:
        DataError: If there are none, or one is damaged.
    """
    files = [path] if path.is_file() else sorted(path.rglob(EVENT_FILES))
    folders = sorted({file.parent for file in files})
    if not folders:
        raise DataError(f"{path} holds no event files of TensorBoard (events.out.tfevents.*)")
    for folder in folders:
        name = folder.relative_to(path if path.is_dir() else folder.parent).as_posix()
        own = sorted(file for file in files if file.parent == folder)
        yield _run(own, folder.resolve().name if name == "." else name)


def _run(files: list[Path], name: str) -> ForeignRun:
    times: list[float] = []
    config: dict[str, Any] = {}
    left_out: Counter[str] = Counter()
    for file in files:
        scalars: set[str] = set()
        for event in _events(file):
            times.append(wire.double(wire.last(event, EVENT_TIME, bytes(8))))
            for value in _values(event):
                plugin, content = _plugin(value)
                if plugin == "hparams":
                    config |= _hyperparameters(content)
                elif _scalar(value, plugin, scalars) is None:
                    left_out[_kind(value, plugin)] += 1
    if not times:
        raise DataError(f"{files[0]} holds no event")
    return ForeignRun(
        # The names hold time, host and process of the writer; they outlive a move of the folder.
        source_id=hashlib.sha256(f"{name}/{files[0].name}".encode()).hexdigest()[:24],
        name=name,
        status=RunStatus.COMPLETED,
        started=min(times),
        ended=max(times),
        config=config,
        points=lambda: _points(files),
        left_out=left_out,
        flags={"imported_without_status": NO_STATUS},
    )


def _events(file: Path) -> Iterator[wire.Fields]:
    for record in wire.tensorflow_records(file):
        try:
            yield wire.fields(record)
        except ValueError as error:
            raise DataError(f"{file} is no event file of TensorBoard: {error}") from error


def _values(event: wire.Fields) -> Iterator[wire.Fields]:
    for value in wire.fields(wire.last(event, EVENT_SUMMARY, b"")).get(1, []):
        yield wire.fields(value)


def _points(files: list[Path]) -> Iterator[Point]:
    for file in files:
        scalars: set[str] = set()
        for event in _events(file):
            step = wire.signed(wire.last(event, EVENT_STEP, 0))
            at = wire.double(wire.last(event, EVENT_TIME, bytes(8)))
            for value in _values(event):
                number = _scalar(value, _plugin(value)[0], scalars)
                if number is not None:
                    yield Point(wire.text(value, TAG), step, at, number)


def _plugin(value: wire.Fields) -> tuple[str, bytes]:
    metadata = wire.fields(wire.last(value, METADATA, b""))
    plugin = wire.fields(wire.last(metadata, 1, b""))
    return wire.text(plugin, 1), wire.last(plugin, 2, b"")


def _scalar(value: wire.Fields, plugin: str, scalars: set[str]) -> float | None:
    """Return the number that a value holds, None if it is something else.

    Only the first value of a tag says that its tensors are scalars, so `scalars` keeps the tags.
    """
    if SIMPLE in value:
        return wire.single(wire.last(value, SIMPLE))
    tag = wire.text(value, TAG)
    if plugin == "scalars":
        scalars.add(tag)
    return _tensor(wire.fields(wire.last(value, TENSOR, b""))) if tag in scalars else None


def _tensor(tensor: wire.Fields) -> float | None:
    formats = {DT_FLOAT: ("<f", FLOATS), DT_DOUBLE: ("<d", DOUBLES)}
    if wire.last(tensor, DTYPE) not in formats:
        return None
    form, number = formats[wire.last(tensor, DTYPE)]
    raw = wire.last(tensor, CONTENT) or wire.last(tensor, number, bytes(struct.calcsize(form)))
    return float(struct.unpack_from(form, raw)[0])


def _kind(value: wire.Fields, plugin: str) -> str:
    return next((name for number, name in KINDS.items() if number in value), plugin or "tensors")


def _hyperparameters(content: bytes) -> dict[str, Any]:
    """Return the values in an `HParamsPluginData` with a session's start."""
    session = wire.fields(wire.last(wire.fields(content), 3, b""))
    entries = (wire.fields(entry) for entry in session.get(1, []))
    return {wire.text(e, 1): _value(wire.fields(wire.last(e, 2, b""))) for e in entries}


def _value(value: wire.Fields) -> Any:
    """Return what a `google.protobuf.Value` holds, of the kinds that TensorBoard writes."""
    if 2 in value:
        return wire.double(wire.last(value, 2))
    if 3 in value:
        return wire.text(value, 3)
    return bool(wire.last(value, 4)) if 4 in value else None

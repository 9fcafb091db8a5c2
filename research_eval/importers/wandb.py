"""W&B: folders of offline runs, `wandb/offline-run-*` with a file `run-ID.wandb`, as they lie.

History becomes points, also that of nested values (`val.acc`), system metrics go under `sys/`.
What a summary holds beside the history is one more point at the last step.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from research_eval.errors import DataError
from research_eval.importers import wire
from research_eval.importers.foreign import ForeignRun, Point
from research_eval.records import RunStatus

NO_END = "the file has no end: the process was killed, or it still runs elsewhere"

# Numbers of the fields of Record, and of those inside.
HISTORY, SUMMARY, CONFIG, STATS, RUN, EXIT = 2, 3, 5, 7, 17, 18
KEY, NESTED, BOOLEAN, INTEGER, NUMBER, TEXT, JSON = 1, 2, 4, 5, 6, 7, 16
RUN_ID, PROJECT, OWN_CONFIG, GROUP, NAME, NOTES, TAGS, HOST, START = 1, 3, 4, 6, 8, 9, 10, 13, 17
NONFINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def read(path: Path) -> Iterator[ForeignRun]:
    """Yield the runs of a `.wandb` file or of all of them in a folder and the folders below.

    Raises:
        DataError: If there are none, or one is damaged or of another version.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*.wandb"))
    if not files:
        raise DataError(f"{path} holds no offline runs of W&B (run-*.wandb)")
    for file in files:
        yield _run(file)


@dataclass(slots=True)
class _Facts:
    """What a file says beside its points."""

    run: wire.Fields = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    times: list[float] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def _run(file: Path) -> ForeignRun:
    facts = _Facts()
    for point in _points(file, facts):
        facts.times.append(point.time)
    if not facts.run:
        raise DataError(f"{file} does not say which run it is of")
    run = facts.run
    start = wire.fields(wire.last(run, START, b""))
    started = wire.last(start, 1, 0) + wire.last(start, 2, 0) / 1e9
    status, flags = RunStatus.COMPLETED, {}
    if facts.exit_code is None:
        status, flags = RunStatus.LOST, {"imported_without_end": NO_END}
    elif facts.exit_code:
        status = RunStatus.FAILED
    notes = wire.text(run, NOTES)
    return ForeignRun(
        source_id=wire.text(run, RUN_ID),
        name=wire.text(run, NAME) or wire.text(run, RUN_ID),
        project=wire.text(run, PROJECT) or None,
        group=wire.text(run, GROUP) or None,
        status=status,
        started=started,
        ended=max(facts.times, default=started),
        config={name: value for name, value in facts.config.items() if name != "_wandb"},
        tags=tuple(tag.decode() for tag in run.get(TAGS, [])),
        notes=(notes,) if notes else (),
        host=wire.text(run, HOST) or None,
        points=lambda: _points(file, _Facts()),
        left_out=facts.left_out,
        flags=flags,
    )


def _points(file: Path, facts: _Facts) -> Iterator[Point]:
    """Yield the points of a file, and put what else it says into `facts`."""
    step, at, seen = 0, 0.0, set[str]()
    summary: dict[str, Any] = {}
    for record in _records(file):
        if RUN in record:
            facts.run = wire.fields(wire.last(record, RUN))
            facts.config |= _items(wire.fields(wire.last(facts.run, OWN_CONFIG, b"")))
        if CONFIG in record:
            facts.config |= _items(wire.fields(wire.last(record, CONFIG)))
        if EXIT in record:
            exit_record = wire.fields(wire.last(record, EXIT))
            facts.exit_code = wire.signed(wire.last(exit_record, 1, 0))
        if SUMMARY in record:
            summary |= _items(wire.fields(wire.last(record, SUMMARY)))
        if HISTORY in record:
            values = _items(wire.fields(wire.last(record, HISTORY)))
            step, at = int(values.get("_step", step)), float(values.get("_timestamp", at))
            seen |= values.keys()
            yield from _numbers(values, step, at, facts.left_out)
        if STATS in record:
            stats = wire.fields(wire.last(record, STATS))
            since = wire.fields(wire.last(stats, 2, b""))
            read_at = wire.last(since, 1, 0) + wire.last(since, 2, 0) / 1e9
            values = {f"sys/{name}": value for name, value in _items(stats, 3).items()}
            yield from _numbers(values, step, read_at, facts.left_out)
    rest = {name: value for name, value in summary.items() if name not in seen}
    yield from _numbers(rest, step, at, Counter())


def _records(file: Path) -> Iterator[wire.Fields]:
    for record in wire.wandb_records(file):
        try:
            yield wire.fields(record)
        except ValueError as error:
            raise DataError(f"{file} is not understood: {error}") from error


def _items(message: wire.Fields, number: int = 1) -> dict[str, Any]:
    """Return the items of a history, a summary or a configuration, by name."""
    found = {}
    for raw in message.get(number, []):
        item = wire.fields(raw)
        nested = ".".join(part.decode() for part in item.get(NESTED, []))
        found[nested or wire.text(item, KEY)] = _value(item)
    return found


def _value(item: wire.Fields) -> Any:
    if BOOLEAN in item:
        return bool(wire.last(item, BOOLEAN))
    if INTEGER in item:
        return wire.signed(wire.last(item, INTEGER))
    if NUMBER in item:
        return wire.double(wire.last(item, NUMBER))
    if TEXT in item:
        return wire.text(item, TEXT)
    return json.loads(wire.text(item, JSON) or wire.text(item, 8) or "null")


def _numbers(
    values: dict[str, Any], step: int, at: float, left_out: Counter[str]
) -> Iterator[Point]:
    for name, value in values.items():
        number = NONFINITE.get(value, value) if isinstance(value, str) else value
        if name.startswith("_") or name.partition(".")[0] == "_wandb":
            continue
        if isinstance(number, dict):
            nested = {f"{name}.{key}": inner for key, inner in number.items()}
            yield from _numbers(nested, step, at, left_out)
        elif isinstance(number, int | float):
            yield Point(name, step, at, float(number))
        else:
            left_out["values that are no numbers"] += 1

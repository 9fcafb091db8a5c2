"""What every reader makes of another tracker's run."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from research_eval.errors import DataError
from research_eval.records import RunStatus


class Point(NamedTuple):
    """One value of one metric; the time in Unix seconds."""

    name: str
    step: int
    time: float
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRun:
    """A run of another tracker.

    Attributes:
        source_id: What names it there, for good: importing it twice is noticed by this.
        parent: `source_id` of the run that it belongs to.
        started: Unix seconds.
        ended: Unix seconds, None if that is not known.
        points: Reads its points, in the order of recording; may be called again.
        left_out: What it holds and cannot be imported, counted by kind.
        flags: What must stand beside its values, by name.
        environment: What else is known, as JSON values.
    """

    source_id: str
    name: str
    status: RunStatus
    started: float
    points: Callable[[], Iterator[Point]]
    ended: float | None = None
    project: str | None = None
    group: str | None = None
    parent: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    git_commit: str | None = None
    host: str | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)


def number_or_text(text: str) -> Any:
    """Return the number that a text spells in JSON, else the text: filters compare numbers."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float) and value is not True else text


@contextmanager
def foreign_database(path: Path, tracker: str, tables: Mapping[str, set[str]]) -> Iterator[Any]:
    """Open another program's SQLite file read-only, with rows that have names.

    Args:
        path: The file.
        tracker: Who should have written it, for messages.
        tables: The tables that are read, with their columns.

    Raises:
        DataError: If it is no SQLite file, or lacks a table or a column.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            for table, columns in tables.items():
                found = {row["name"] for row in database.execute(f"PRAGMA table_info({table})")}
                missing = sorted(columns - found)
                if missing:
                    what = f"the table '{table}'" if not found else f"{table}.{missing[0]}"
                    raise DataError(f"{path} is not a database of {tracker} as known: no {what}")
            yield database
    except sqlite3.Error as error:
        raise DataError(f"{path} cannot be read as a database of {tracker}: {error}") from error

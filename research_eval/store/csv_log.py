"""A table of results as CSV beside the store, one line per run, for a spreadsheet."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from research_eval.errors import StoreError
from research_eval.records import RunRecord

DEFAULT_NAME = "json_experiment_results.csv"
_COLUMNS = (
    "experiment_id",
    "timestamp",
    "experiment_name",
    "model_type",
    "dataset_name",
    "status",
    "seed",
)


def append_result(path: Path, record: RunRecord) -> None:
    """Add the line of a run, or replace it if the run has one (it was resumed).

    The line holds what identifies the run and the last value of every metric in the record; new
    metrics become columns at the right, and earlier lines stay empty there. The file is written
    anew beside the old one and put in its place, so a reader never sees half of it; processes
    take turns.

    Raises:
        StoreError: If the file cannot be written, or is not such a table. It is then unchanged.
    """
    path = path.resolve()
    values = {name: str(getattr(record, name) or "") for name in _COLUMNS}
    values["timestamp"] = record.timestamp.isoformat()
    values["seed"] = "" if record.seed is None else str(record.seed)
    values |= {name: repr(summary.value) for name, summary in sorted(record.metrics.items())}
    try:
        with _turn(path.parent):
            rows = [*(row for row in _read(path) if row["experiment_id"] != record.experiment_id)]
            _replace(path, [*rows, values])
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which needs no lock file that would stay behind."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
            header = reader.fieldnames or ()
    except (csv.Error, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is not a CSV file: {error}; move it away") from error
    if tuple(header[: len(_COLUMNS)]) != _COLUMNS or any(None in row for row in rows):
        raise StoreError(f"{path} is not a table of results of research-eval; move it away")
    return rows


def _replace(path: Path, rows: list[dict[str, str]]) -> None:
    columns = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123 - a descriptor
            file.write(text.getvalue())
        if path.exists():
            Path(fresh).chmod(path.stat().st_mode)
        Path(fresh).replace(path)
    except BaseException:
        Path(fresh).unlink()
        raise

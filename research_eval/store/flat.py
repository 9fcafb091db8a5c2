"""Runs as one flat table in a file, for other programs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from research_eval.errors import StoreError
from research_eval.records import RunRecord
from research_eval.store.frames import everything

FlatFormat = Literal["csv", "parquet", "json"]

Row = Mapping[str, Any]


def write_flat(records: Sequence[RunRecord], path: Path, form: FlatFormat) -> tuple[int, int]:
    """Write a row for each run: its columns, parameters and the last value of every metric.

    A value that a run does not have is empty (CSV), missing (JSON) or null (Parquet); NaN and
    infinities are kept: as `nan` and `inf` in CSV, as the strings "NaN", "Infinity" and
    "-Infinity" in JSON, which has no numbers for them.

    Returns:
        Number of rows and of columns.

    Raises:
        StoreError: If the file exists or cannot be written, or Parquet is asked for without
            pyarrow.
    """
    rows = [{"experiment_id": run.experiment_id} | _plain(everything(run)) for run in records]
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["experiment_id"]
    make = {"csv": _csv, "json": _json, "parquet": _parquet}[form]
    content = make(rows, columns)
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        raise StoreError(f"{path} exists already; remove it or choose another name") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error
    return len(rows), len(columns)


def _plain(values: Row) -> dict[str, Any]:
    """Leave numbers, Booleans and text as they are; anything else becomes text."""
    return {name: _scalar(value) for name, value in values.items()}


def _scalar(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, str) else json.dumps(value, default=str)


def _csv(rows: Sequence[Row], columns: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _json(rows: Sequence[Row], _columns: Sequence[str]) -> bytes:
    finite = [{name: _finite(value) for name, value in row.items()} for row in rows]
    return json.dumps(finite, ensure_ascii=False, allow_nan=False, indent=1).encode() + b"\n"


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _parquet(rows: Sequence[Row], columns: Sequence[str]) -> bytes:
    try:
        import pyarrow  # noqa: PLC0415 - only this format needs it
        import pyarrow.parquet  # noqa: PLC0415 - likewise
    except ModuleNotFoundError as error:
        raise StoreError("Parquet needs the package pyarrow: pip install pyarrow") from error
    arrays = {name: list(_uniform([row.get(name) for row in rows])) for name in columns}
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(arrays), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _uniform(values: Sequence[object]) -> Iterator[object]:
    """Yield values of one type, as a column must have: where types are mixed, text."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1:
        yield from values
    elif kinds == {int, float}:
        yield from (None if value is None else float(str(value)) for value in values)
    else:
        yield from (
            value if value is None or isinstance(value, str) else json.dumps(value)
            for value in values
        )

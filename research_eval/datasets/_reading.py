"""Reads files and folders of text into rows, through the `datasets` library."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import datasets

from research_eval.datasets._rows import Fields, TextRows
from research_eval.errors import DataError, did_you_mean

FORMATS: dict[str, dict[str, Any]] = {
    ".csv": {"path": "csv"},
    ".tsv": {"path": "csv", "sep": "\t"},
    ".json": {"path": "json"},
    ".jsonl": {"path": "json"},
    ".parquet": {"path": "parquet"},
    ".txt": {"path": "text", "sample_by": "document"},
}
"""How `datasets.load_dataset` reads each kind of file; a text file is one document."""

HIDDEN = -1
"""Index by which published data sets mark the classes of a test split as secret."""

SPLITS = ("train", "validation", "test")


def read(path: Path, fields: Fields) -> dict[str, TextRows]:
    """Read the splits train, validation and test, as far as there are any.

    A split whose declared classes are all hidden is left out.

    Args:
        path: One file, or a folder: of files named after their splits, with a data set card, or
            written by `datasets.save_to_disk`.
        fields: Columns to read.

    Raises:
        DataError: If the files cannot be read, are incomplete, or lack a column.
    """
    _check_shards(path)
    # The library keeps what it converts by the files' names and times; a folder of its own for
    # each call keeps it from ever returning the content of an earlier file.
    with tempfile.TemporaryDirectory(prefix="research-eval-reading-") as folder:
        tables = _load(path, folder)
        if "train" not in tables:
            raise DataError(f"{path} has no split 'train', only: {', '.join(map(str, tables))}")
        rows = {n: _rows_of(tables[n], fields, f"{path} ({n})") for n in SPLITS if n in tables}
    return {name: part for name, part in rows.items() if part is not None}


def _load(path: Path, cache_dir: str) -> dict[Any, datasets.Dataset]:
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # failures are raised as well
    saved = path / "dataset_dict.json", path / "state.json"
    try:
        if any(file.exists() for file in saved):
            loaded = datasets.load_from_disk(str(path))
        else:
            loaded = datasets.load_dataset(**_arguments(path), cache_dir=cache_dir)
    except DataError:
        raise
    except Exception as error:  # the library raises what its readers raise
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        raise DataError(f"cannot read {path}: {reason[:300]}") from error
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _arguments(path: Path) -> dict[str, Any]:
    if path.is_dir():
        kinds = {file.suffix for file in path.rglob("*")} & FORMATS.keys()
        if not kinds:
            raise DataError(f"{path} has no file that ends in {', '.join(FORMATS)}")
        whole = {"sample_by": "document"} if kinds == {".txt"} else {}
        return {"path": str(path), **whole}
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"{path} is of an unknown kind; known: {', '.join(FORMATS)}, or a folder")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    return {**FORMATS[path.suffix.lower()], "data_files": str(path)}


def _check_shards(path: Path) -> None:
    """Refuse a folder in which a numbered part, as in `train-00000-of-00002`, is missing."""
    for file in path.rglob("*-of-*") if path.is_dir() else ():
        numbered = re.fullmatch(r"(.+)-\d{5}-of-(\d{5})(\..+)", file.name)
        if numbered:
            stem, parts, suffix = numbered.groups()
            names = (f"{stem}-{part:05d}-of-{parts}{suffix}" for part in range(int(parts)))
            for name in names:
                if not file.with_name(name).exists():
                    raise DataError(f"{path} is incomplete: there is no {name}")


def _rows_of(table: datasets.Dataset, fields: Fields, where: str) -> TextRows | None:
    """Return the rows of one split, or None if all its labels are hidden."""
    texts = _column(table, "text_field", fields.text, where) or []
    wrong = next((text for text in texts if not isinstance(text, str | None)), None)
    if wrong is not None:
        raise DataError(
            f"{where}: text_field '{fields.text}' holds {type(wrong).__name__} values, not text"
        )
    labels, names = _column(table, "label_field", fields.label, where), ()
    if labels is not None and isinstance(table.features[fields.label], datasets.ClassLabel):
        names = tuple(table.features[fields.label].names)
        labels = [None if index in (None, HIDDEN) else names[index] for index in labels]
        if labels and not any(labels):
            return None
    domains = _column(table, "domain_field", fields.domain, where)
    groups = _column(table, "group_field", fields.group, where)
    for setting, column in (("label", labels), ("domain", domains), ("group", groups)):
        wrong = next((value for value in column or () if not isinstance(value, Hashable)), None)
        if wrong is not None:
            raise DataError(
                f"{where}: {setting}_field '{getattr(fields, setting)}' holds "
                f"{type(wrong).__name__} values, which cannot be told apart"
            )
        missing = (column or []).count(None)
        if missing:
            raise DataError(
                f"{where}: {setting}_field '{getattr(fields, setting)}' is empty in {missing:,} of "
                f"{len(table):,} rows"
            )
    return TextRows([text or "" for text in texts], labels, domains, groups, names)


def _column(
    table: datasets.Dataset, setting: str, name: str | None, where: str
) -> list[Any] | None:
    if name is None:
        return None
    if name not in table.column_names:
        raise DataError(
            f"{where} has no column '{name}' for {setting}; "
            f"{did_you_mean(name, map(str, table.column_names))}"
        )
    return list(table[name][:])

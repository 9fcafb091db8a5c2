"""Keeps prepared data sets on disk, one file each, named by what decides their content."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from research_eval.spec import Dataset, Split, data_fingerprint

SPLITS = ("train", "validation", "test")
TENSORS = ("ids_NL", "lengths_N", "labels_N", "domains_N")
NUMBERS = ("num_bytes", "num_words", "unscored_id")
"""What a split holds besides tensors."""

LAYOUT = 2
"""Raised when more is kept of the same data."""

HEADER = "research_eval"
"""Key under which the file's metadata holds all that is no tensor, as JSON."""


def read(file: Path, say: Callable[[str], None]) -> Dataset | None:
    """Return the data set in a file, or None if there is none or it is damaged."""
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="pt") as stored:
            header = json.loads(stored.metadata()[HEADER])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
        dataset = _dataset_of(header, tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        say(f"{file} is damaged ({error}); preparing the data again")
        return None
    splits = (dataset.train, dataset.validation, dataset.test)
    if data_fingerprint(*splits) != dataset.fingerprint:
        say(f"{file} is damaged; preparing the data again")
        return None
    return dataset


def write(file: Path, dataset: Dataset, say: Callable[[str], None]) -> None:
    """Write a data set so that another process sees all of it or nothing.

    A cache that cannot be written costs time, not results: it is said, and the run goes on.
    """
    splits = {name: split for name in SPLITS if (split := getattr(dataset, name)) is not None}
    tensors = {
        f"{name}.{part}": tensor.contiguous()
        for name, split in splits.items()
        for part in TENSORS
        if (tensor := getattr(split, part)) is not None
    }
    plain = [part.name for part in fields(Dataset) if part.name not in SPLITS]
    header = {
        "dataset": {name: getattr(dataset, name) for name in plain},
        "splits": {
            name: {number: getattr(split, number) for number in NUMBERS}
            for name, split in splits.items()
        },
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix="writing-") as folder:
            complete = Path(folder, file.name)
            save_file(tensors, complete, metadata={HEADER: json.dumps(header)})
            complete.replace(file)
    except (OSError, SafetensorError) as error:
        say(f"prepared data cannot be kept in {file.parent}: {error}")


def _dataset_of(header: dict[str, Any], tensors: dict[str, Tensor]) -> Dataset:
    splits: dict[str, Any] = dict.fromkeys(SPLITS)
    for name, numbers in header["splits"].items():
        parts: dict[str, Any] = {part: tensors.get(f"{name}.{part}") for part in TENSORS}
        splits[name] = Split(**parts, **numbers)
    plain: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in header["dataset"].items()
    }
    return Dataset(**plain, **splits)

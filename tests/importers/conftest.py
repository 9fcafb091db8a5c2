"""What the trackers wrote, unpacked; `make_fixtures.py` says how it was made."""

import math
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

FIXTURES = Path(__file__).with_name("fixtures")

VALUES = [1.0, 0.5, math.nan, math.inf, -math.inf, 1e308, 5e-324, math.pi]
"""What the run `first` logged as `loss` at the steps 0, 10, 20, ..."""


def unpacked(name: str, folder: Path) -> Path:
    """Return a fixture in the form in which the tracker left it."""
    source = next(FIXTURES.glob(f"{name}.*"))
    if source.suffix == ".sql":
        target = folder / f"{name}.db"
        with closing(sqlite3.connect(target)) as database:
            database.executescript(source.read_text(encoding="utf-8"))
        return target
    if source.suffix == ".gz":
        with tarfile.open(source) as archive:
            archive.extractall(folder, filter="data")
            return folder / archive.getnames()[0]
    return FIXTURES


@pytest.fixture
def left_by(tmp_path):
    """Unpack a fixture by name: mlflow, mlruns, trackio, tensorboard, or first for W&B."""
    return lambda name: unpacked(name, tmp_path)

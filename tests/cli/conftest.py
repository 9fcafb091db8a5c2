"""The command line as its users meet it: what it prints, and its exit code."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from research_eval.cli import main

TINY = {
    "experiment_name": "tiny",
    "model_type": "dense",
    "dataset_name": "parity",
    "epochs": 1,
    "batch_size": 64,
    "dataset_params": {"num_samples": 200, "val_samples": 40, "test_samples": 40, "seq_len": 6},
    "model_params": {"embed_dim": 8, "num_heads": 2, "num_layers": 1},
    "training_params": {"device": "cpu"},
}
"""Four optimizer steps."""


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out, parse_constant=lambda token: pytest.fail(f"{token} in JSON"))

    @property
    def errors(self):
        """What stands on stderr from the first error on."""
        lines = self.err.splitlines()
        first = next((i for i, line in enumerate(lines) if line.startswith("error: ")), len(lines))
        return lines[first:]


@pytest.fixture(autouse=True)
def _leave_the_allocator(monkeypatch):
    monkeypatch.setenv("RESEARCH_EVAL_ALLOCATOR", "default")


@pytest.fixture
def cli(capsys):
    """Return a function that carries out a command in this process."""

    def call(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err, captured.err
        return Said(code, captured.out, captured.err)

    return call


def merged(base, changes):
    """Return a tree with changes laid over it, sections one level deep included."""
    result = dict(base)
    for key, value in changes.items():
        is_section = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = {**result[key], **value} if is_section else value
    return result


@pytest.fixture
def config():
    """Return a function that writes a tiny configuration and returns its path."""

    def write(name="tiny.json", /, **changes):
        path = Path(name)
        path.write_text(json.dumps(merged(TINY, changes)))
        return path

    return write


def start(*arguments, **options):
    """Start the program as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "research_eval", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        **options,
    )


def finish(process):
    """Wait for a process and return what it said."""
    out, err = process.communicate(timeout=120)
    return Said(process.returncode, out, err)

"""The command line as its users meet it: what it prints, and its exit code."""

import json
import subprocess
import sys
import time
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


HELD = """
import os
import time
from pathlib import Path

import torch
from research_eval.spec import BodyOutput


class Held(torch.nn.Module):
    # Says that it has come to its 30th training step, and waits there until the file `go` exists.
    def __init__(self, params, context):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.calls = 0

    def forward(self, given):
        self.calls += self.training
        if self.calls == 30:
            Path(f"held.{os.getpid()}").touch()
            while not Path("go").exists():
                time.sleep(0.01)
        return BodyOutput(given.hidden_BLD * self.scale)
"""


@pytest.fixture
def held_config(config):
    """Return a configuration whose run waits at its 30th step; resume points are at 20, 40, ..."""
    Path("held.py").write_text(HELD)
    settings = {"max_steps": 60, "eval_every": 20, "device": "cpu"}
    return config("held.json", model_type="./held.py:Held", training_params=settings)


class Programs:
    """Starts the program as processes of their own, and waits for them."""

    def __init__(self):
        self.started = []

    def start(self, *arguments, **options):
        return self.start_python("-m", "research_eval", *map(str, arguments), **options)

    def start_python(self, *arguments, **options):
        command = [sys.executable, *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.started.append(subprocess.Popen(command, text=True, **(pipes | options)))
        return self.started[-1]

    def finish(self, process):
        """Wait for a process and return what it said."""
        out, err = process.communicate(timeout=120)
        return Said(process.returncode, out, err)

    def wait_for(self, condition):
        """Wait until a condition holds, for at most two minutes."""
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)

    def wait_until_held(self, number=1):
        """Wait until so many runs wait at their 30th step."""
        self.wait_for(lambda: len(list(Path().glob("held.*[0-9]"))) == number)


@pytest.fixture
def programs():
    """Return what starts the program; whatever still runs at the end is killed."""
    made = Programs()
    yield made
    for process in made.started:
        process.kill()
        process.communicate()

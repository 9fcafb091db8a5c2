"""Bundles of small runs, made in one folder and reproduced in another."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli import conftest as of_commands

_leave_the_allocator = of_commands._leave_the_allocator
cli, config = of_commands.cli, of_commands.config
held_config, programs = of_commands.held_config, of_commands.programs

NAMES = "experiment_results.db"

ROUTER = """
from pathlib import Path

import torch
from research_eval.spec import RouterOutput

Path("imported").touch()


class Mine(torch.nn.Module):
    def __init__(self, context):
        super().__init__()
        self.top_k = context.top_k

    def forward(self, tokens):
        weights_TK, chosen_TK = tokens.logits_TE.sigmoid().topk(self.top_k, dim=-1)
        return RouterOutput(chosen_TK, weights_TK, tokens.logits_TE.softmax(dim=-1))
"""


def sql(statement, *values, path=NAMES):
    """Change a database behind its program's back."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement, values)


@pytest.fixture
def with_router(config):
    """Return a configuration whose router is a plug-in file beside it."""
    Path("router.py").write_text(ROUTER)
    params = {"num_experts": 2, "top_k": 1, "router": "./router.py:Mine"}
    return config("mine.json", model_type="moe", model_params=params)


@pytest.fixture
def exported(cli):
    """Return a function that writes a bundle of every run and returns its path."""

    def export(name="paper.zip", *options):
        said = cli("runs", "export", "--filter", "seed >= 0", "-o", name, *options)
        assert said.code == 0, said.err
        return Path(name).resolve()

    return export


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Return a function that goes to a clean folder of another user."""

    def go():
        home, folder = tmp_path / "other_home", tmp_path / "clean"
        for each in (home, folder):
            each.mkdir()
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
        monkeypatch.chdir(folder)
        return folder

    return go

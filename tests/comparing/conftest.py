"""Comparisons of real runs that take a fraction of a second each."""

import json
from pathlib import Path

import pytest

from research_eval.comparing import Comparison, Question

SAME_ROUTER = """
from dataclasses import replace

from research_eval.routers.softmax import SPEC

Mine = replace(SPEC, name="mine")
"""
"""Top-k under another name."""

MINE = {
    "experiment_name": "the idea",
    "model_type": "moe",
    "dataset_name": "parity",
    "dataset_params": {"num_samples": 64, "val_samples": 32, "test_samples": 32, "seq_len": 4},
    "epochs": 1,
    "batch_size": 32,
    "optimizer_params": {"weight_decay": 0.0, "grad_clip_norm": 1.0},
    "scheduler_params": {"warmup_factor": 0.0},
    "model_params": {
        "router": "./mine.py:Mine",
        "embed_dim": 8,
        "num_heads": 2,
        "num_layers": 1,
        "num_experts": 4,
        "top_k": 1,
        "balance": "none",
    },
    "training_params": {"device": "cpu", "num_threads": 1},
}


def merged(base, changes):
    """Return a tree with changes laid over it, sections one level deep included."""
    sections = {k: {**base.get(k, {}), **v} for k, v in changes.items() if isinstance(v, dict)}
    return {**base, **changes, **sections}


@pytest.fixture(scope="session")
def write():
    """Return a function that writes a configuration, MINE with some changes, and its path."""

    def write(name="mine.json", /, **changes):
        Path("mine.py").write_text(SAME_ROUTER)
        Path(name).write_text(json.dumps(merged(MINE, changes)))
        return Path(name)

    return write


@pytest.fixture
def comparison(write):
    """Return a function that prepares a comparison of MINE with baselines."""
    write()

    def prepare(*baselines, **asked):
        small = {"candidate": Path("mine.json"), "n_trials": 4, "seeds": 2}
        return Comparison(Question(baselines=baselines or ("moe",), **(small | asked)))

    return prepare

"""Whatever a script calls its configuration becomes JSON that every reader accepts."""

import argparse
import enum
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from research_eval.tracking.values import as_config


class Size(enum.IntEnum):
    SMALL = 3


@dataclass(slots=True)
class Inner:
    lr: float
    path: Path


@dataclass
class Outer:
    inner: Inner
    sizes: tuple[int, ...]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, {}),
        (
            {"lr": 0.1, "deep": {"on": True, "none": None}},
            {"lr": 0.1, "deep": {"on": True, "none": None}},
        ),
        (argparse.Namespace(lr=0.1, n=3), {"lr": 0.1, "n": 3}),
        (
            Outer(Inner(0.5, Path("a/b")), (1, 2)),
            {"inner": {"lr": 0.5, "path": "a/b"}, "sizes": [1, 2]},
        ),
        ({"s": {"b", "a"}, 3: Size.SMALL}, {"s": ["a", "b"], "3": 3}),
        (
            {"n": np.float64(0.5), "i": np.int64(7), "t": torch.tensor(2.0)},
            {"n": 0.5, "i": 7, "t": 2.0},
        ),
        (
            {"x": float("nan"), "y": float("-inf"), "z": np.float32("inf")},
            {"x": "nan", "y": "-inf", "z": "inf"},
        ),
        ({"api_key": "x", "db": "pg://me:pw@h/d"}, {"api_key": "***", "db": "pg://me:***@h/d"}),
        (
            {"dtype": torch.float16, "f": len},
            {"dtype": "torch.float16", "f": "<built-in function len>"},
        ),
    ],
)
def test_a_configuration_becomes_json(given, kept):
    assert as_config(given) == kept
    assert json.loads(json.dumps(as_config(given), allow_nan=False)) == kept


@pytest.mark.parametrize("given", [3, "lr=0.1", [("lr", 0.1)], object(), Outer])
def test_what_has_no_names_is_refused(given):
    with pytest.raises(TypeError, match="a configuration is a mapping, a dataclass or a namespace"):
        as_config(given)

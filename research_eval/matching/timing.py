"""Seconds of a training step, measured: two networks take turns, so both meet the same load."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from research_eval.prepare import Prepared, build_network
from research_eval.records import ListRecorder
from research_eval.training.progress import Nobody, StopSignal
from research_eval.training.train import Files, Trainer

WARM_UP = 3
"""First steps that are not timed: they load and allocate what all others use again."""

MIN_ROUNDS, MAX_ROUNDS = 7, 50
"""Timed steps of each network: as many as `ENOUGH_S` allow between these two."""

ENOUGH_S = 2.0

_ENDLESS = 1_000_000


class Steps:
    """A network that is trained step by step; what it learns is thrown away."""

    def __init__(self, prepared: Prepared) -> None:
        settings = ("max_steps", "eval_every", "log_every")
        endless = {f"training_params.{name}": _ENDLESS for name in settings}
        trainer = Trainer(
            prepared.experiment.with_fields(endless).config,
            build_network(prepared),
            prepared.dataset,
            ListRecorder(),
            Files(Path()),  # nothing is evaluated, so nothing is saved
            Nobody(),
            StopSignal(),
        )
        self._seconds: Iterator[float] = trainer.timed_steps()

    def take(self) -> float:
        """Take one step and return its seconds."""
        return next(self._seconds)


def race(one: Steps, other: Steps) -> tuple[float, float]:
    """Return the median seconds of a step of each; both see the same rows in the same order."""
    for _ in range(WARM_UP):
        one.take()
        other.take()
    began = time.perf_counter()
    ones: list[float] = []
    others: list[float] = []
    while len(ones) < MIN_ROUNDS or (
        len(ones) < MAX_ROUNDS and time.perf_counter() - began < ENOUGH_S
    ):
        ones.append(one.take())
        others.append(other.take())
    return statistics.median(ones), statistics.median(others)

"""What a training tells those who wait for it, and how they ask it to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training is.

    Attributes:
        step: Optimizer steps done.
        tokens_per_second: Over the latest steps.
        seconds_left: Estimate from the pace so far.
        loss: Latest training loss.
        scores: Latest validation scores, by history name.
    """

    step: int
    total_steps: int
    tokens_per_second: float
    seconds_left: float
    loss: float
    scores: Mapping[str, float] = field(default_factory=dict)


class Watcher(Protocol):
    """Someone who waits: a progress bar, a log file, or nobody."""

    def say(self, line: str) -> None:
        """Take a line about what is going on."""

    def progress(self, now: Progress) -> None:
        """Take the state of training; called about twice a second."""


class Nobody:
    """A `Watcher` that ignores everything."""

    def say(self, line: str) -> None:
        """Ignore the line."""

    def progress(self, now: Progress) -> None:
        """Ignore the state."""


@dataclass(slots=True)
class StopSignal:
    """Who may ask a training to stop; it looks after every step.

    Attributes:
        number: The signal that came, None for none.
        is_requested: Says whether somebody asks who cannot send a signal, for example from
            another machine.
    """

    number: int | None = None
    is_requested: Callable[[], bool] = lambda: False

    def asked(self) -> int | None:
        """Return the signal to act on; a request counts as SIGTERM."""
        if self.number is None and self.is_requested():
            self.number = signal.SIGTERM
        return self.number

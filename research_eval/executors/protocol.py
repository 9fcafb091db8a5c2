"""What an executor promises, and who is told what happens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from research_eval.jobs import Result, Task
from research_eval.training.progress import Progress


class Listener(Protocol):
    """Who is told about tasks; each is known by the handle that it was started with."""

    def say(self, line: str) -> None:
        """Take a line about what is going on."""

    def progress(self, handle: int, now: Progress) -> None:
        """Take the state of a task's training."""

    def report(self, handle: int, step: int, values: Mapping[str, float]) -> bool:
        """Take the scores of a task at a step, and say whether it is to end as PRUNED."""

    def done(self, handle: int, result: Result) -> None:
        """Take what became of a task."""

    def died(self, handle: int, exit_code: int) -> None:
        """Take note that the process of a task died."""


class Executor(Protocol):
    """Carries out tasks."""

    @property
    def free(self) -> int:
        """How many tasks could be started now."""

    def start(self, handle: int, task: Task) -> None:
        """Begin a task; there must be a free place."""

    def wait(self, listener: Listener, timeout: float) -> None:
        """Tell the listener what has happened, waiting for a moment if nothing has."""

    def pass_on(self, number: int) -> None:
        """Ask the tasks that run to stop, as this signal does."""

    def close(self) -> None:
        """Let idle processes go and stop the others."""

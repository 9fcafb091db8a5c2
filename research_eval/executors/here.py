"""Tasks one after another in this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from research_eval.executors.protocol import Listener
from research_eval.jobs import Bench, Task
from research_eval.training.progress import Progress


@dataclass(frozen=True, slots=True)
class _OneTask:
    """The `TaskWatcher` of one task of a listener."""

    listener: Listener
    handle: int

    def say(self, line: str) -> None:
        self.listener.say(line)

    def progress(self, now: Progress) -> None:
        self.listener.progress(self.handle, now)

    def report(self, step: int, values: Mapping[str, float]) -> bool:
        return self.listener.report(self.handle, step, values)


class Here:
    """An `Executor` that carries out one task after another in this process.

    Args:
        url: The store.
    """

    def __init__(self, url: str | Path) -> None:
        self._bench = Bench(url)
        self._waiting: tuple[int, Task] | None = None

    @property
    def free(self) -> int:
        """One, unless a task waits to be carried out."""
        return int(self._waiting is None)

    def start(self, handle: int, task: Task) -> None:
        """Take the task; `wait` carries it out."""
        self._waiting = handle, task

    def wait(self, listener: Listener, timeout: float) -> None:  # noqa: ARG002 - never idle
        """Carry out the task that waits."""
        if self._waiting is not None:
            handle, task = self._waiting
            result = task.carry_out(self._bench, _OneTask(listener, handle))
            self._waiting = None
            listener.done(handle, result)

    def pass_on(self, number: int) -> None:
        """Do nothing: a signal reaches what runs in this process."""

    def close(self) -> None:
        """Close the store."""
        self._bench.close()

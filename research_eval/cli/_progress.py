"""Progress of runs on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from research_eval.cli._render import console, note, printable
from research_eval.runlog import INTERVAL_S, duration, progress_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from research_eval.training.progress import Progress

LABEL_WIDTH = 30


class Display(Protocol):
    """Shows several runs at once, each under its label."""

    def say(self, line: str) -> None:
        """Show a line about what is going on."""

    def progress(self, label: str, now: Progress) -> None:
        """Show where the run of this label is."""

    def ended(self, label: str) -> None:
        """Stop showing this run."""


class Lines:
    """A `Display` for logs: a line for each new evaluation, else one every 10 s at most."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[float, Mapping[str, float]]] = {}

    def say(self, line: str) -> None:
        """Print the line."""
        note(printable(line))

    def progress(self, label: str, now: Progress) -> None:
        """Print the state if it is due."""
        shown_at, scores = self._shown.get(label, (time.monotonic(), {}))
        self._shown.setdefault(label, (shown_at, scores))
        is_new = dict(now.scores) != dict(scores)
        if is_new or time.monotonic() - shown_at >= INTERVAL_S:
            self._shown[label] = (time.monotonic(), now.scores)
            self.say(f"{label}  {progress_line(now)}")

    def ended(self, label: str) -> None:
        """Forget the run."""
        self._shown.pop(label, None)


class Bar:
    """A `Display` for terminals: one bar for each run.

    Args:
        bars: Started, and stopped by whoever made it.
    """

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def say(self, line: str) -> None:
        """Print the line above the bars."""
        self._bars.console.print(printable(line))

    def progress(self, label: str, now: Progress) -> None:
        """Move the bar of the run."""
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task(
                printable(label), total=now.total_steps, state="", left=""
            )
        scores = "  ".join(f"{name} {value:.4g}" for name, value in now.scores.items())
        state = f"loss {now.loss:.4f}  {scores}  {now.tokens_per_second:,.0f} tokens/s"
        self._bars.update(
            self._tasks[label],
            completed=now.step,
            total=now.total_steps,
            state=printable(state),
            left=f"{duration(now.seconds_left)} left",
        )

    def ended(self, label: str) -> None:
        """Remove the bar."""
        if label in self._tasks:
            self._bars.remove_task(self._tasks.pop(label))


@contextmanager
def display() -> Iterator[Display]:
    """Give the display that suits stderr, and clear it away at the end."""
    err = console(stderr=True)
    if not err.is_terminal or err.is_dumb_terminal:
        yield Lines()
        return
    with _bars(err) as bars:
        yield Bar(bars)


def _bars(err: Console) -> Bars:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.table import Column

    return Progress(
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(max_width=LABEL_WIDTH, no_wrap=True, overflow="ellipsis"),
        ),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}", markup=False),
        TextColumn("{task.fields[left]}", markup=False),
        console=err,
        transient=True,
    )

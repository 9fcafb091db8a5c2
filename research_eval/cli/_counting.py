"""Progress of long work on rows: how many are done, how fast, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from research_eval.cli._render import console, note
from research_eval.runlog import INTERVAL_S, duration

_FIRST_S = 0.5
"""Work that is done sooner shows nothing."""


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function that takes how many are done and how many there are.

    On a terminal one line is kept up to date; elsewhere there is a line every 10 s.
    """
    err = console(stderr=True)
    is_live = err.is_terminal and not err.is_dumb_terminal
    started = time.monotonic()
    shown_at = started + (_FIRST_S if is_live else INTERVAL_S)

    def show(done: int, total: int) -> None:
        nonlocal shown_at
        now = time.monotonic()
        if now < shown_at:
            return
        shown_at = now + (0.1 if is_live else INTERVAL_S)
        line = progress_line(what, done, total, now - started)
        if is_live:
            err.print(line, end="\r")
        else:
            note(line)

    yield show
    if is_live:
        err.print(" " * (err.width - 1), end="\r")


def progress_line(what: str, done: int, total: int, seconds: float) -> str:
    """Return one line, with rate and time left once there is something to go by."""
    line = f"{what} {done:,} of {total:,} rows"
    if done and seconds > 0:
        rate = done / seconds
        line += f", {rate:,.0f} rows/s, {duration((total - done) / rate)} left"
    return line

"""The log file of a run: what was said, with times, whoever else is watching."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from research_eval.quantities import duration as duration
from research_eval.training.progress import Progress, Watcher

INTERVAL_S = 10.0


def progress_line(now: Progress) -> str:
    """Return the state of a training as one line of text."""
    scores = "".join(f"  {name} {value:.4g}" for name, value in now.scores.items())
    return (
        f"step {now.step}/{now.total_steps}  loss {now.loss:.4f}{scores}  "
        f"{now.tokens_per_second:,.0f} tokens/s  {duration(now.seconds_left)} left"
    )


class LoggedWatcher:
    """A `Watcher` that passes everything on and writes it to a file, progress every 10 s.

    Args:
        inner: Who is told as well.
        path: The log file; later attempts append.
    """

    def __init__(self, inner: Watcher, path: Path) -> None:
        self._inner = inner
        self._file = path.open("a", encoding="utf-8")
        self._written_at = 0.0

    def say(self, line: str) -> None:
        """Write the line and pass it on."""
        self._write(line)
        self._inner.say(line)

    def progress(self, now: Progress) -> None:
        """Pass the state on, and write it if the last one is 10 s old or it is the end."""
        is_due = time.monotonic() - self._written_at > INTERVAL_S
        if is_due or now.step == now.total_steps:
            self._written_at = time.monotonic()
            self._write(progress_line(now))
        self._inner.progress(now)

    def _write(self, line: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._file.write(f"{stamp} {line}\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._write(f"{type(error).__name__}: {error}")
        self._file.close()

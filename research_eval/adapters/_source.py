"""The run that an adapter records into."""

from __future__ import annotations

from typing import Any

from research_eval.tracking import TrackedRun, track


class RunSource:
    """A run that is given, or one that is started when it is first needed.

    A library often makes its tracker in every process and uses it in the first one only, so a
    run must not start before its first use. A given run is its giver's to finish; a started one
    is COMPLETED when the process ends without an error, since work may follow a training.

    Args:
        run: The run, or the name of the one to start.
        options: Of `track`, for the one to start.
    """

    def __init__(self, run: TrackedRun | str | None, options: dict[str, Any]) -> None:
        self._run = run if isinstance(run, TrackedRun) else None
        self._name = None if isinstance(run, TrackedRun) else run
        self._options = options

    def get(self, **defaults: Any) -> TrackedRun:
        """Return the run; the first call starts it, with `defaults` for what was left open."""
        if self._run is None:
            self._run = track(self._name, **defaults | self._options)
            self._run.complete_on_exit()
        return self._run

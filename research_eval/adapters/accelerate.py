"""A tracker for `accelerate.Accelerator`."""

from __future__ import annotations

from typing import Any

from accelerate.tracking import GeneralTracker, on_main_process

from research_eval.adapters._source import RunSource
from research_eval.tracking import TrackedRun


class Tracker(GeneralTracker):
    """Records what `Accelerator.log` is given; `end_training` completes the run.

        accelerator = Accelerator(log_with=Tracker("train", project="demo"))
        accelerator.init_trackers("demo", config={"lr": 1e-3})

    Args:
        run: A run, or the name of one that starts with the first record.
        **options: Of `research_eval.track`.
    """

    name = "research_eval"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self, run: TrackedRun | str | None = None, **options: Any) -> None:
        super().__init__()
        self._source = RunSource(run, options)

    @property
    def tracker(self) -> TrackedRun:
        """The run."""
        return self._source.get()

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Add to the configuration."""
        self.tracker.set(values)

    @on_main_process
    def log(self, values: dict[str, Any], step: int | None = None, **_kwargs: Any) -> None:
        """Record metrics."""
        self.tracker.log(values, step=step)

    @on_main_process
    def finish(self) -> None:
        """Complete the run."""
        self.tracker.finish()

"""A logger for Lightning."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from research_eval.adapters._source import RunSource
from research_eval.tracking import TrackedRun


class TrackingLogger(Logger):
    """Records what a `lightning.Trainer` logs, and hyperparameters.

        trainer = lightning.Trainer(logger=TrackingLogger("fit", project="demo"))

    Args:
        run: A run that you finish, or the name of one that starts with the first record.
        **options: Of `research_eval.track`.
    """

    def __init__(self, run: TrackedRun | str | None = None, **options: Any) -> None:
        super().__init__()
        self._source = RunSource(run, options)

    @property
    @rank_zero_experiment
    def experiment(self) -> TrackedRun:
        """The run; in other processes than the first one, an object that ignores every call."""
        return self._source.get()

    @property
    def name(self) -> str:
        """The name of the run."""
        return str(self.experiment.name)

    @property
    def version(self) -> str:
        """The id of the run."""
        return str(self.experiment.id)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_args: Any, **_kwargs: Any) -> None:
        """Add to the configuration."""
        self.experiment.set(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics."""
        self.experiment.log(metrics, step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Note an error that Lightning handles; after a success, another stage may follow."""
        error = sys.exc_info()[1]
        if status != "success" and error is not None:
            self.experiment.leave(error)
        else:
            self.experiment.flush()

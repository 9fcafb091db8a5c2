"""A live copy for W&B, for labs that will not leave it yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import wandb

from research_eval.records import ArtifactKind, RunStatus
from research_eval.tracking import TrackedRun
from research_eval.tracking.run import in_words
from research_eval.tracking.values import as_config

STEP = "step"


class Mirror:
    """A tracked run whose records also go to W&B; use it as you would use the run.

        with Mirror(research_eval.track("my run"), project="demo", mode="offline") as run:
            run.log({"train/loss": 0.31}, step=10)

    W&B drops points whose step does not grow, so the step goes there as a value of its own, and
    charts use it. A later problem with W&B is shown once and kept with the run; training goes on.

    Args:
        run: Where everything is recorded.
        **options: Of `wandb.init`; the name is that of the run.
    """

    def __init__(self, run: TrackedRun, **options: Any) -> None:
        self._run = run
        self._mirror = wandb.init(**{"name": run.name} | options)
        self._mirror.define_metric(STEP)
        self._mirror.define_metric("*", step_metric=STEP)

    def log(self, values: Mapping[str, float], *, step: int | None = None) -> None:
        """Record metrics, as `TrackedRun.log`."""
        self._run.log(values, step=step)
        at = self._run.last_step if step is None else step
        self._also(lambda: self._mirror.log({**values, STEP: at}))

    def summary(self, values: Mapping[str, float]) -> None:
        """Record final values, as `TrackedRun.summary`."""
        self._run.summary(values)
        self._also(lambda: self._mirror.summary.update(dict(values)))

    def set(self, config: Any) -> None:
        """Add to the configuration, as `TrackedRun.set`."""
        self._run.set(config)
        self._also(lambda: self._mirror.config.update(as_config(config), allow_val_change=True))

    def tag(self, *tags: str) -> None:
        """Label the run, as `TrackedRun.tag`."""
        self._run.tag(*tags)
        self._also(lambda: setattr(self._mirror, "tags", (*(self._mirror.tags or ()), *tags)))

    def artifact(self, path: str | Path, *, kind: ArtifactKind = "file") -> None:
        """Keep a file, as `TrackedRun.artifact`."""
        self._run.artifact(path, kind=kind)
        self._also(lambda: self._mirror.log_artifact(str(path), type=kind))

    def finish(self, status: RunStatus | str = RunStatus.COMPLETED, **options: Any) -> None:
        """End both, as `TrackedRun.finish`."""
        self._run.finish(status, **options)
        self._also(lambda: self._mirror.finish(exit_code=int(status != RunStatus.COMPLETED)))

    def __getattr__(self, name: str) -> Any:
        """Return what only the run has: `note`, `log_array`, `id`."""
        return getattr(self._run, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._run.__exit__(*error)
        self._also(lambda: self._mirror.finish(exit_code=int(any(error))))

    def _also(self, act: Callable[[], object]) -> None:
        """Do something for W&B, which must not end a training."""
        try:
            act()
        except Exception as error:
            self._run.complain(f"W&B: {in_words(error)}")

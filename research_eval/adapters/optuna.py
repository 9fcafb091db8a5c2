"""A callback for Optuna studies that are not `research-eval hpo`."""

from __future__ import annotations

from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from research_eval.records import RunStatus
from research_eval.tracking import TrackedRun, track

STATUSES = {
    TrialState.COMPLETE: RunStatus.COMPLETED,
    TrialState.PRUNED: RunStatus.PRUNED,
    TrialState.FAIL: RunStatus.FAILED,
}


class TrackingCallback:
    """Records every trial as a run: parameters, intermediate values, and what it reached.

        study.optimize(objective, n_trials=20, callbacks=[TrackingCallback(db="runs.db")])

    A trial is recorded when it has ended. To record inside of a trial, call `track` in the
    objective; a `TrialPruned` that leaves its `with` block ends the run as PRUNED.

    Args:
        metric: What the objective returns, one name for each value.
        parent: Run that the trials belong to.
        **options: Of `research_eval.track`; the group is the name of the study.
    """

    def __init__(
        self, *metric: str, parent: TrackedRun | str | None = None, **options: Any
    ) -> None:
        self._metrics = metric
        self._options: dict[str, Any] = {"system_interval_s": None, "parent": parent} | options

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Record a trial that has ended."""
        options: dict[str, Any] = {"group": study.study_name} | self._options
        run = track(f"{study.study_name}/{trial.number}", config=trial.params, **options)
        run.set({"trial": {"number": trial.number, "attributes": trial.user_attrs}})
        for step, value in trial.intermediate_values.items():
            run.log({"intermediate": value}, step=step)
        if trial.values is not None:
            run.summary(dict(zip(self._names(len(trial.values)), trial.values, strict=True)))
        run.finish(STATUSES[trial.state])

    def _names(self, count: int) -> tuple[str, ...]:
        if self._metrics:
            return self._metrics
        return ("value",) if count == 1 else tuple(f"value{n}" for n in range(count))

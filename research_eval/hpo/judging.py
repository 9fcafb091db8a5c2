"""Who ends trials early: a pruner for each arm, told of curves or of whole runs, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping

from research_eval.hpo.book import PRUNED_TAG, Book
from research_eval.hpo.problem import Problem
from research_eval.hpo.pruning import Pruner, choose_pruner
from research_eval.hpo.spec import StudySpec
from research_eval.hpo.trials import Trial, TrialState
from research_eval.records import RunRecord, RunStatus
from research_eval.store import Store


class Judges:
    """The pruners of a study. Trials are compared only within an arm.

    Args:
        spec: Of the study.
        problem: What is searched.
        book: Its trials so far.
        store: Where curves are read that were reported before this session.
    """

    def __init__(self, spec: StudySpec, problem: Problem, book: Book, store: Store) -> None:
        self._spec = spec
        self._book = book
        self._store = store
        self._first_seed = problem.first_seed
        kind = choose_pruner(spec.pruner, book.objectives)
        self._pruners = {arm: Pruner(kind, book.objectives) for arm in problem.spaces}
        self._by_seeds = kind == "wilcoxon"

    def _pruner(self, arm: str) -> Pruner:
        return self._pruners.get(arm) or Pruner("none", ())

    def curves(self, arm: str, seed: int) -> tuple[str, ...]:
        """Return the metrics that a run reports: the first seed speaks for its trial."""
        is_judged = seed == self._first_seed and not self._by_seeds
        return self._pruner(arm).names if is_judged else ()

    def report(self, trial: Trial, place: int, values: Mapping[str, float]) -> bool:
        """Take a point of a trial's curve, and return whether the trial is to end."""
        return self._pruner(trial.arm).report(trial.number, place, values)

    def end(self, trial: Trial) -> None:
        """Take note that a trial has ended."""
        self._pruner(trial.arm).end(trial.number, is_pruned=trial.state is TrialState.PRUNED)

    def seed_ended(self, number: int, record: RunRecord) -> RunRecord:
        """Return the run, marked if its trial's other seeds are given up because of it."""
        if not self._by_seeds or not self._tell(number, record):
            return record
        if self._place(record) == self._spec.seeds:
            return record
        self._store.tag(record.experiment_id, [PRUNED_TAG])
        return self._store.run(record.experiment_id)

    def replay(self, trial: Trial) -> None:
        """Show a pruner what was reported before this session."""
        pruner = self._pruner(trial.arm)
        if self._by_seeds:
            for run in trial.runs:
                self._tell(trial.number, run)
            return
        for name in pruner.names if trial.runs else ():
            run = trial.runs[0]
            if name in run.metrics:
                values = self._store.history(run.experiment_id, name).values
                # The last point of a whole run was never judged.
                judged = len(values) - (run.status is RunStatus.COMPLETED)
                for place, value in enumerate(values[:judged], start=1):
                    pruner.report(trial.number, place, {name: float(value)})

    def _place(self, run: RunRecord) -> int:
        return (run.seed or 0) - self._first_seed + 1

    def _tell(self, number: int, run: RunRecord) -> bool:
        scores = {o.history: run.value(o.name) for o in self._book.objectives if o.history}
        known = {name: value for name, value in scores.items() if value is not None}
        arm = self._book.entries[number].candidate.arm
        return self._pruner(arm).report(number, self._place(run), known)

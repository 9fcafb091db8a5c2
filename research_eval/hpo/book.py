"""The trials of a study as its runs tell them. The runs are the truth; nothing else is kept."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from research_eval.hpo.problem import Candidate
from research_eval.hpo.spec import Bound, Objective, StudySpec
from research_eval.hpo.trials import Standing, Trial, TrialState
from research_eval.records import RunRecord, RunStatus

PRUNED_TAG = "pruned_trial"
"""Label of a run after which its trial's other seeds were given up."""

MAX_LOST = 3
"""How often a trial whose process died is tried again."""

_ENDS = {
    RunStatus.FAILED: TrialState.FAILED,
    RunStatus.DIVERGED: TrialState.DIVERGED,
    RunStatus.COLLAPSED: TrialState.COLLAPSED,
    RunStatus.PRUNED: TrialState.PRUNED,
}
OPEN = (RunStatus.RUNNING, RunStatus.INTERRUPTED, RunStatus.LOST)
"""Statuses of a run that is to be continued, or that somebody carries out."""


@dataclass(slots=True)
class Entry:
    """One trial: its configuration, and its runs by seed.

    Attributes:
        given_up: Whether it was LOST as often as it may be.
        is_history: Whether it lies outside of the present space, or was made with another fixed
            part, so that samplers do not learn from it.
    """

    number: int
    candidate: Candidate
    runs: dict[int, RunRecord] = field(default_factory=dict)
    confirmed: dict[int, RunRecord] = field(default_factory=dict)
    given_up: bool = False
    is_history: bool = False


class Book:
    """All trials of a study.

    What is asked after every trial is kept up to date, so that its cost does not grow with them.

    Args:
        spec: Of the study.

    Attributes:
        begun: How many trials each arm has, whatever became of them.
        next_number: Of the trial that is yet to come.
    """

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        self.objectives: tuple[Objective, ...] = spec.parsed_objectives
        self.bounds: tuple[Bound, ...] = spec.bounds
        self.entries: dict[int, Entry] = {}
        self.trials: dict[int, Trial] = {}
        self.begun: Counter[str] = Counter()
        self.next_number = 0
        self._counts: Counter[TrialState] = Counter()
        self._best: dict[str, Trial] = {}
        self._unsure: set[str] = set()

    def add(self, number: int, candidate: Candidate) -> Entry:
        """Enter a new trial."""
        entry = self._enter(number, candidate)
        self.settle(number)
        return entry

    def _enter(self, number: int, candidate: Candidate) -> Entry:
        self.entries[number] = Entry(number, candidate)
        self.begun[candidate.arm] += 1
        self.next_number = max(self.next_number, number + 1)
        return self.entries[number]

    def set_aside(self, number: int) -> None:
        """Take a trial for history: samplers do not learn from it, and it is never the best."""
        self.entries[number].is_history = True
        self._unsure.add(self.entries[number].candidate.arm)

    def read(self, runs: Iterable[RunRecord]) -> None:
        """Enter what runs tell, oldest first: of several with one seed the newest counts."""
        for run in runs:
            if run.trial is None:
                continue
            entry = self.entries.get(run.trial)
            if entry is None:
                entry = self._enter(run.trial, candidate_of(run))
            kept = entry.confirmed if run.phase == "confirm" else entry.runs
            kept[run.seed or 0] = run
        for number in sorted(self.entries):
            self.settle(number)

    def settle(self, number: int) -> Trial:
        """Work out anew what a trial has become."""
        entry = self.entries[number]
        runs = tuple(entry.runs[seed] for seed in sorted(entry.runs))
        state = self._state(entry, runs)
        values = tuple(mean_score(runs, objective) for objective in self.objectives)
        if state is TrialState.COMPLETED and not all(map(math.isfinite, values)):
            state = TrialState.DIVERGED
        failed = next((run for run in runs if run.error and run.status in _ENDS), None)
        trial = Trial(
            number=number,
            arm=entry.candidate.arm,
            params=entry.candidate.params,
            repairs=entry.candidate.repairs,
            state=state,
            values=values if runs else (),
            excess=excess_of(self.bounds, runs),
            runs=runs,
            confirmed=tuple(entry.confirmed[seed] for seed in sorted(entry.confirmed)),
            error=failed.error if failed else None,
        )
        if number in self.trials:
            self._counts[self.trials[number].state] -= 1
        self._counts[state] += 1
        self.trials[number] = trial
        self._compare(trial)
        return trial

    def _compare(self, trial: Trial) -> None:
        best = self._best.get(trial.arm)
        if best is not None and best.number == trial.number:
            self._unsure.add(trial.arm)
        elif self._is_candidate(trial) and (best is None or self._is_ahead(trial, best)):
            self._best[trial.arm] = trial

    def _is_ahead(self, one: Trial, other: Trial) -> bool:
        """Return whether the first objective prefers a trial; of equals the earlier one."""
        ours, theirs = one.values[0], other.values[0]
        is_earlier = ours == theirs and one.number < other.number
        return is_earlier or self.objectives[0].is_better(ours, theirs)

    def _state(self, entry: Entry, runs: Sequence[RunRecord]) -> TrialState:
        for run in runs:
            if run.status in _ENDS:
                return _ENDS[run.status]
            if PRUNED_TAG in run.tags:
                return TrialState.PRUNED
        if entry.given_up:
            return TrialState.LOST
        completed = sum(run.status is RunStatus.COMPLETED for run in runs)
        is_done = completed >= self.spec.seeds and completed == len(runs)
        return TrialState.COMPLETED if is_done else TrialState.RUNNING

    def counts(self) -> dict[TrialState, int]:
        """Return how many trials there are of each state."""
        return {state: count for state, count in self._counts.items() if count}

    def best(self) -> dict[str, Trial]:
        """Return the best completed, feasible trial of each arm by the first objective."""
        for arm in self._unsure:
            self._best.pop(arm, None)
        for trial in self.trials.values() if self._unsure else ():
            if trial.arm in self._unsure:
                self._compare(trial)
        self._unsure.clear()
        return {arm: self._best[arm] for arm in self.begun if arm in self._best}

    def front(self) -> tuple[Trial, ...]:
        """Return the completed, feasible trials that no other one beats in all objectives."""
        trials = [t for _, t in sorted(self.trials.items()) if self._is_candidate(t)]
        return tuple(t for t in trials if not any(self._dominates(o, t) for o in trials))

    def _is_candidate(self, trial: Trial) -> bool:
        is_history = self.entries[trial.number].is_history
        return trial.state is TrialState.COMPLETED and trial.is_feasible and not is_history

    def _dominates(self, one: Trial, other: Trial) -> bool:
        pairs = list(zip(self.objectives, one.values, other.values, strict=True))
        is_never_worse = all(not o.is_better(theirs, ours) for o, ours, theirs in pairs)
        return is_never_worse and any(o.is_better(ours, theirs) for o, ours, theirs in pairs)

    def worst_before(self, number: int) -> tuple[float, ...] | None:
        """Return the worst finite values of the arm's earlier trials; None if there are none.

        That is what a sampler is told of a trial without a score, so that it learns the cliff
        without being thrown by its depth.
        """
        arm = self.entries[number].candidate.arm
        known = [
            trial.values
            for trial in self.trials.values()
            if trial.arm == arm
            and trial.number < number
            and trial.state in (TrialState.COMPLETED, TrialState.PRUNED)
            and all(map(math.isfinite, trial.values))
        ]
        if not known:
            return None
        return tuple(
            (min if objective.direction == "max" else max)(column)
            for objective, column in zip(self.objectives, zip(*known, strict=True), strict=True)
        )

    def standing(self, *, confirming: bool = False) -> Standing:
        """Return where the study is."""
        return Standing(
            study=self.spec.name,
            total=self.spec.n_trials,
            counts=self.counts(),
            best=self.best(),
            confirming=confirming,
        )


def candidate_of(run: RunRecord) -> Candidate:
    """Return the configuration of a trial as one of its runs records it."""
    tree = json.loads(run.full_config_json)
    origin = tree.get("origin") or {}
    params: Mapping[str, object] = origin.get("changed") or {}
    repairs = tuple(origin.get("repairs") or ())
    return Candidate(run.arm or "", params, repairs, run.full_config_json)


def reports_of(run: RunRecord, objective: Objective) -> int:
    """Return how many points of an objective's curve a run has."""
    summary = run.metrics.get(objective.history or "")
    return summary.count if summary else 0


def mean_score(runs: Sequence[RunRecord], objective: Objective) -> float:
    """Return the mean of runs; of one that was ended early the last point of its curve counts."""
    return _mean([_score(run, objective) for run in runs])


def _score(run: RunRecord, objective: Objective) -> float:
    value = run.value(objective.name)
    if value is None and objective.history is not None and run.status is not RunStatus.COMPLETED:
        value = run.value(objective.history)
    return math.nan if value is None else value


def _mean(values: Sequence[float]) -> float:
    is_known = bool(values) and all(map(math.isfinite, values))
    return math.fsum(values) / len(values) if is_known else math.nan


def excess_of(bounds: Sequence[Bound], runs: Sequence[RunRecord]) -> tuple[float, ...]:
    """Return by how much the mean of each bounded metric breaks its limit; as far as known."""
    found = []
    for bound in bounds:
        values = [v for run in runs if (v := run.value(bound.metric)) is not None]
        if values:
            found.append(bound.excess(_mean(values)))
    return tuple(found) if len(found) == len(bounds) else ()

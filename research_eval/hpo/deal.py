"""Which configuration comes next: the arms take turns, and each has its own sampler."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from research_eval.config import canonical_json
from research_eval.errors import ConfigError, NoMatchError
from research_eval.hpo.book import Book, reports_of
from research_eval.hpo.problem import Candidate, Problem
from research_eval.hpo.sampling import Outcome, Sampler, choose_sampler
from research_eval.hpo.spec import StudySpec
from research_eval.hpo.trials import Trial, TrialState
from research_eval.hpo.warm_start import Known

MAX_TRIES = 30
"""Proposals for one trial that may be turned down as known before the space counts as exhausted."""


class Deal:
    """Deals the trials of a study out to its arms, equally, and remembers what was tried.

    Args:
        spec: Of the study.
        problem: What is searched.
        book: Its trials so far.
        known: What is told to the samplers first, and never proposed.

    Attributes:
        closed: Why an arm gets no more trials.
    """

    def __init__(
        self, spec: StudySpec, problem: Problem, book: Book, known: Sequence[Known] = ()
    ) -> None:
        self._spec = spec
        self._problem = problem
        self._book = book
        self._tried: set[str] = set()
        self.closed: dict[str, str] = {}
        arms = list(problem.spaces)
        groups = [arms] if spec.share_budget else [[arm] for arm in arms]
        share = -(-spec.n_trials // len(groups))
        self._samplers: dict[str, Sampler] = {}
        for group in groups:
            spaces = {arm: problem.spaces[arm] for arm in group}
            sizes = [space.size() for space in spaces.values()]
            size = None if None in sizes else sum(each or 0 for each in sizes)
            sampler = Sampler(
                choose_sampler(spec.sampler, size, share),
                spaces,
                spec.parsed_objectives,
                spec.seed,
            )
            self._samplers |= dict.fromkeys(group, sampler)
        for place, each in enumerate(known):
            if each.arm in self._samplers:
                outcome = Outcome(each.values, None, each.excess)
                self._samplers[each.arm].learn(place - len(known), each.arm, each.params, outcome)
                self._tried.add(_key(each.arm, each.params))

    def learn(self, trial: Trial) -> None:
        """Tell the sampler what became of a trial, and never propose it again."""
        entry = self._book.entries[trial.number]
        sampler = self._samplers.get(trial.arm)
        if sampler is None:  # an arm that the study no longer has
            self._book.set_aside(trial.number)
            return
        self._remember(entry.candidate, trial)
        if entry.is_history:
            return
        if not sampler.learn(trial.number, trial.arm, trial.params, self._outcome(trial)):
            self._book.set_aside(trial.number)

    def _outcome(self, trial: Trial) -> Outcome:
        excess = trial.excess or (0.0,) * len(self._book.bounds)
        if trial.state is TrialState.COMPLETED:
            return Outcome(trial.values, None, excess)
        if trial.state is TrialState.PRUNED and all(v == v for v in trial.values):
            count = sum(reports_of(run, self._book.objectives[0]) for run in trial.runs)
            return Outcome(trial.values, count, excess)
        return Outcome(self._book.worst_before(trial.number), None, excess)

    def known(self, candidate: Candidate, trial: Trial) -> None:
        """Take note of a trial that has begun, so that it is not proposed twice."""
        self._remember(candidate, trial)

    def _remember(self, candidate: Candidate, trial: Trial) -> None:
        code = self._problem.code_hash(candidate.arm)
        if not trial.runs or {run.code_hash for run in trial.runs} <= {None, code}:
            self._tried.add(_key(candidate.arm, candidate.params))

    def next(self, number: int) -> Candidate | None:
        """Return the configuration of a new trial; None if no arm takes another one."""
        while (arm := self._arm()) is not None:
            candidate = self._propose(arm, number)
            if candidate is not None:
                self._tried.add(_key(candidate.arm, candidate.params))
                return candidate
            group = self._spec.share_budget
            for each in self._problem.spaces if group else (arm,):
                self.closed[each] = "its space is exhausted"
        return None

    def _arm(self) -> str | None:
        """Return the arm whose turn it is: the one with the fewest trials that has some left."""
        arms = list(self._problem.spaces)
        counts = self._book.begun
        if self._spec.share_budget:
            return next((arm for arm in arms if arm not in self.closed), None)
        shares = self._spec.shares(arms)
        waiting = [a for a in arms if a not in self.closed and counts[a] < shares[a]]
        return min(waiting, key=counts.__getitem__, default=None)

    def _propose(self, arm: str, number: int) -> Candidate | None:
        sampler = self._samplers[arm]
        name = f"{self._spec.base.get('experiment_name', self._spec.name)} {number}"
        conflicts = attempt = 0
        unmatched: NoMatchError | None = None
        while attempt < MAX_TRIES or sampler.kind == "grid":
            proposed = sampler.propose(number, attempt)
            attempt += 1
            if proposed is None:
                break
            try:
                candidate = self._problem.complete(*proposed, name)
            except NoMatchError as error:
                candidate, unmatched = None, error
            conflicts += candidate is None
            if candidate is not None and _key(candidate.arm, candidate.params) not in self._tried:
                return candidate
        sampler.withdraw(number)
        if conflicts and conflicts == attempt and unmatched is not None:
            raise unmatched
        if conflicts and conflicts == attempt:
            raise ConfigError(
                f"no configuration of {arm} is legal with what the base fixes; "
                "free one of the related parameters with --search path"
            )
        return None


def _key(arm: str, params: Mapping[str, object]) -> str:
    return canonical_json([arm, json.loads(json.dumps(params))])

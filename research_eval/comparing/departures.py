"""What the records have otherwise than the plan said."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from research_eval.analysis import words
from research_eval.analysis.equal_costs import AXES
from research_eval.comparing.plan import Plan
from research_eval.hpo.trials import Trial, TrialState
from research_eval.records import RunRecord, RunStatus

VERSIONS = ("research-eval", "torch")
"""Packages whose versions may change results."""


@dataclass(frozen=True, slots=True)
class Records:
    """What the store has of a comparison.

    Attributes:
        trials: All of them.
        winners: The best trial of each arm.
        deleted: How many runs are in the trash.
        closed: Why an arm got no more trials.
        spec_json: What the study remembers of what it was asked.
    """

    trials: Sequence[Trial]
    winners: Mapping[str, Trial]
    deleted: int
    closed: Mapping[str, str]
    spec_json: str

    @property
    def runs(self) -> Iterator[RunRecord]:
        """All runs that are not deleted."""
        for trial in self.trials:
            yield from (*trial.runs, *trial.confirmed)


def departures(plan: Plan, records: Records) -> list[str]:
    """Return everything that was done otherwise than planned, each as a sentence."""
    return [
        *_trials(plan, records),
        *_confirmations(plan, records),
        *_deleted(records),
        *_changes(plan, records),
        *_versions(plan, records),
        *_costs(plan, records),
    ]


def _trials(plan: Plan, records: Records) -> Iterator[str]:
    planned: int = plan.question["trials_of_each_arm"]
    for arm in plan.question["arms"]:
        own = [trial for trial in records.trials if trial.arm == arm]
        states = Counter(trial.state for trial in own if trial.is_finished)
        finished = states.total()
        if finished < planned:
            why = f": {records.closed[arm]}" if arm in records.closed else ""
            yield f"{arm} has {finished} of {planned} planned trials{why}."
        if finished > planned:
            yield f"{arm} has {finished} trials, but {planned} were planned."
        bad = {state: n for state, n in states.items() if state is not TrialState.COMPLETED}
        for state, count in bad.items():
            yield f"{count} of {finished} trials of {arm} ended as {state}, without a full score."


def _confirmations(plan: Plan, records: Records) -> Iterator[str]:
    seeds = set(plan.question["confirmation_seeds"])
    for arm in plan.question["arms"]:
        winner = records.winners.get(arm)
        if winner is None:
            yield f"{arm} has no winner, so nothing of it is confirmed."
            continue
        runs = {run.seed: run for run in winner.confirmed}
        done = {s for s, run in runs.items() if run.status is RunStatus.COMPLETED}
        if missing := sorted(seeds - runs.keys()):
            yield f"{arm} lacks {_seeds(missing)} of its confirmation."
        for seed in sorted((seeds & runs.keys()) - done):
            yield f"Seed {seed} of the confirmation of {arm} ended as {runs[seed].status}."
        if more := sorted(s for s in runs.keys() - seeds if s is not None):
            yield f"{arm} was also run on {_seeds(more)}, which {_were(len(more))} not planned."
        others = [t for t in records.trials if t.arm == arm and t.confirmed and t != winner]
        for trial in others:
            yield f"Trial {trial.number} of {arm} was confirmed too, though it is not the winner."


def _seeds(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {words.listed(map(str, seeds))}"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _deleted(records: Records) -> Iterator[str]:
    if records.deleted:
        runs = words.counted(records.deleted, "run")
        yield f"{runs} {_were(records.deleted)} deleted (runs list --deleted)."


def _changes(plan: Plan, records: Records) -> Iterator[str]:
    remembered = json.loads(records.spec_json)
    arms = [arm for arm, since in remembered["since"].items() if since]
    if arms:
        yield f"What is fixed in {words.listed(arms)} was changed after runs had been made."
    if remembered["earlier"]:
        yield "The ranges of the search were changed after runs had been made."
    written = datetime.fromisoformat(plan.written)
    early = sum(run.timestamp < written for run in records.runs)
    if early:
        yield f"{words.counted(early, 'run')} began before the plan was written."


def _versions(plan: Plan, records: Records) -> Iterator[str]:
    found: dict[str, Counter[str]] = {name: Counter() for name in VERSIONS}
    for run in records.runs:
        packages = json.loads(run.env_details_json).get("packages") or {}
        for name in VERSIONS:
            if packages.get(name):
                found[name][packages[name]] += 1
    for name, versions in found.items():
        planned = plan.made_by["packages"].get(name)
        others = {version: n for version, n in versions.items() if version != planned}
        for version, count in others.items():
            runs = words.counted(count, "run")
            made = f"{runs} {_were(count)} made with {name} {version}"
            yield f"{made}, but {planned} was planned."
    for arm, code in plan.made_by["code"].items():
        own = [run for run in records.runs if run.arm == arm and run.code_hash is not None]
        count = sum(run.code_hash != code for run in own)
        if count:
            made = f"{count} of {len(own)} runs of {arm} {_were(count)} made"
            yield f"{made} by other code than planned."


def _costs(plan: Plan, records: Records) -> Iterator[str]:
    match = plan.question["match"]
    metric = next(axis.metric for axis in AXES if axis.name == match["axis"])
    for arm in plan.question["arms"]:
        own = (run for run in records.runs if run.arm == arm)
        errors = _errors(own, metric, match["target"])
        worst = max(errors, default=0.0, key=abs)
        if abs(worst) > match["tolerance"]:
            yield f"Runs of {arm} cost up to {worst:+.1%} other than planned on {match['axis']}."


def _errors(runs: Iterable[RunRecord], metric: str, target: float) -> list[float]:
    return [cost / target - 1 for run in runs if (cost := run.value(metric)) is not None]

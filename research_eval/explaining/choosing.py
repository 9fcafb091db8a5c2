"""From what a person calls two runs, or two groups of seeds, to the records of both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from research_eval.analysis.arms import choose
from research_eval.analysis.evidence import arm_of, configuration_of
from research_eval.analysis.gathering import choose_datasets, gather, is_evaluation
from research_eval.analysis.question import Request
from research_eval.analysis.words import counted
from research_eval.errors import ConfigError, did_you_mean
from research_eval.records import RunRecord

if TYPE_CHECKING:
    from research_eval.store import Store

SHOWN = 5
"""Ids that an error names."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a name stands for.

    Attributes:
        label: What it is called in sentences.
        ids: Of its runs.
        notes: What is to be said about the choice.
    """

    label: str
    ids: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Chooser:
    """Finds what is meant.

    Args:
        store: Open for reading.
        goal: Metric and direction, for "best" and for the winner of a study; None for the usual.
        all_seeds: Take every seed of the configuration of a run that is named.
    """

    def __init__(self, store: Store, goal: str | None, *, all_seeds: bool) -> None:
        self._store = store
        self._goal = goal
        self._all_seeds = all_seeds
        self._runs = store.runs(metrics=())

    def choose(self, name: str) -> Chosen:
        """Return what a name stands for.

        Args:
            name: An id, its beginning, a name of one run or of several seeds, "last", "best", or
                `study:arm`.

        Raises:
            StoreError: If no run is meant, or it is not clear which.
            ConfigError: If the runs of a name are no seeds of one configuration, or it is an
                evaluation.
        """
        found = self._named(name)
        study, colon, arm = name.partition(":")
        if not found and colon and study in {run.study for run in self._runs}:
            return self._arm(name, study, arm)
        if len(found) > 1:
            return self._seeds(name, found)
        run = found[0] if found else self._store.run(name, by=self._best())
        if is_evaluation(run):
            raise ConfigError(
                f"run {run.experiment_id} is an evaluation and learned nothing; name the run that "
                f"it evaluated, {run.parent}"
            )
        same = configuration_of(run)
        alike = [each for each in self._trainings() if configuration_of(each) == same]
        seeds = self._seeds(run.experiment_name, alike)
        if self._all_seeds:
            return seeds
        told = f"{run.experiment_id}: --all-seeds takes the {len(seeds.ids)} seeds on record"
        notes = (told,) if len(seeds.ids) > 1 else ()
        return Chosen(run.experiment_name, (run.experiment_id,), notes)

    def _best(self) -> str:
        return self._goal or "final_val_f1:max"

    def _trainings(self) -> list[RunRecord]:
        return [run for run in self._runs if not is_evaluation(run)]

    def _named(self, name: str) -> list[RunRecord]:
        """Return the runs of this id, or of this name; what else is meant the store knows."""
        whole = [run for run in self._runs if run.experiment_id == name]
        return whole or [run for run in self._trainings() if run.experiment_name == name]

    def _seeds(self, label: str, runs: Sequence[RunRecord]) -> Chosen:
        """Return the seeds of one configuration, newest first: of its newest code and data."""
        newest = {configuration_of(run): run.experiment_id for run in reversed(runs)}
        if len(newest) > 1:
            ids = [*newest.values()][:SHOWN]
            raise ConfigError(
                f"'{label}' names {counted(len(runs), 'run')} of "
                f"{counted(len(newest), 'configuration')}, which are no seeds of one; name one run "
                f"of the one that is meant, with --all-seeds for its other seeds: {', '.join(ids)}"
                + (", ..." if len(newest) > SHOWN else "")
            )
        first = runs[0]
        kept: dict[int | None, RunRecord] = {}
        left_out = 0
        for run in runs:
            is_same = (run.code_hash, run.data_hash) == (first.code_hash, first.data_hash)
            if is_same:
                kept.setdefault(run.seed, run)
            left_out += not is_same
        notes = [f"{counted(left_out, 'run')} of {label} left out: made by older code or data"]
        return Chosen(
            label,
            tuple(run.experiment_id for run in reversed(kept.values())),
            tuple(notes * bool(left_out)),
        )

    def _arm(self, name: str, study: str, arm: str) -> Chosen:
        """Return what stands for an arm of a study: its confirmed winner, or else its best."""
        known = {arm_of(run) for run in self._runs if run.study == study}
        if arm not in known:
            raise ConfigError(f"study {study} has no arm '{arm}'; {did_you_mean(arm, known)}")
        request = Request(study=study, arms=(arm,), goal=self._goal)
        evidence = gather(self._store, choose_datasets(self._store, request)[0], request)
        chosen = choose(evidence, arm)
        if chosen is None:
            raise ConfigError(f"no run of {arm} in study {study} came to a score")
        table = evidence.table
        is_same = table["configuration"] == chosen.configuration
        is_confirmed = table["phase"] == "confirm"
        ids = table.index[is_same & (is_confirmed if chosen.phase == "confirm" else ~is_confirmed)]
        if chosen.phase == "confirm":
            note = f"{name}: the winner of {counted(chosen.tried, 'configuration')}, confirmed"
        else:
            note = (
                f"{name}: the best of {counted(chosen.tried, 'configuration')}, which flatters "
                "itself: its score is the one by which it was chosen"
            )
        return Chosen(name, tuple(ids), (note,))


def read_runs(store: Store, ids: Sequence[str]) -> list[RunRecord]:
    """Return runs with all metrics, and their evaluations, oldest first, in one reading."""
    listed = json.dumps(list(ids), ensure_ascii=False)
    condition = f'experiment_id in {listed} or (run_type == "evaluation" and parent in {listed})'
    return store.runs(filter=condition, sort="timestamp")

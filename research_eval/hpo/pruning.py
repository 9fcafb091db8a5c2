"""Optuna's pruners on shadow studies, one for each arm and objective.

A shadow study has a single objective, so that pruning works with several as well: a trial is
ended when it is unpromising in every objective that has a curve. Steps are counted in reports and
not in optimizer steps, since a batch twice as large takes half as many.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

import optuna
from optuna.trial import TrialState as OptunaState

from research_eval.hpo.spec import Objective

STARTUP_TRIALS = 3
"""Trials of an arm that come to their own end before any is judged by them."""

_STATES = {True: OptunaState.PRUNED, False: OptunaState.COMPLETE}


def choose_pruner(asked: str, objectives: Sequence[Objective]) -> str:
    """Return the pruner that "auto" means.

    An objective without a curve cannot speak for a trial, so then nothing is pruned unless it is
    asked for.
    """
    if asked != "auto":
        return asked
    return "asha" if all(objective.history for objective in objectives) else "none"


class Pruner:
    """Decides for one arm which trials end early.

    Args:
        kind: One of `spec.PRUNERS` but "auto".
        objectives: Those of the study; the ones without a curve have no say.
    """

    def __init__(self, kind: str, objectives: Sequence[Objective]) -> None:
        self.kind = kind
        judged = objectives if kind != "none" else ()
        self._shadows = {o.history: _Shadow(kind, o) for o in judged if o.history}

    @property
    def names(self) -> tuple[str, ...]:
        """Metrics that are to be reported."""
        return tuple(self._shadows)

    def report(self, number: int, place: int, values: Mapping[str, float]) -> bool:
        """Take scores of a trial, and return whether it is to end.

        Args:
            number: Of the trial.
            place: Of the scores among those of the trial, from 1.
            values: By metric.
        """
        told = [
            shadow.report(number, place, values[name])
            for name, shadow in self._shadows.items()
            if name in values
        ]
        return bool(told) and all(told)

    def end(self, number: int, *, is_pruned: bool) -> None:
        """Take note that a trial has ended."""
        for shadow in self._shadows.values():
            shadow.end(number, is_pruned=is_pruned)


class _Shadow:
    """The curves of one objective."""

    def __init__(self, kind: str, objective: Objective) -> None:
        direction: Literal["maximize", "minimize"] = (
            "maximize" if objective.direction == "max" else "minimize"
        )
        self._worst = float("-inf") if objective.direction == "max" else float("inf")
        self._study = optuna.create_study(
            direction=direction, pruner=_optuna_pruner(kind), study_name="shadow"
        )
        self._ended = 0
        self._trials: dict[int, tuple[optuna.Trial, dict[int, float]]] = {}

    def report(self, number: int, place: int, value: float) -> bool:
        if number not in self._trials:
            self._trials[number] = self._study.ask(), {}
        trial, curve = self._trials[number]
        if place not in curve:  # another attempt reports again what an earlier one did
            curve[place] = value if value == value else self._worst
            trial.report(curve[place], place)
        # Asked in any case, since the pruner takes notes.
        return trial.should_prune() and self._ended >= STARTUP_TRIALS

    def end(self, number: int, *, is_pruned: bool) -> None:
        if number in self._trials:
            self._ended += 1
            trial, curve = self._trials.pop(number)
            value = None if is_pruned else curve[max(curve)]
            self._study.tell(trial, value, state=_STATES[is_pruned])


def _optuna_pruner(kind: str) -> optuna.pruners.BasePruner:
    match kind:
        case "asha":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
        case "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=1, reduction_factor=3)
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS)
        case "wilcoxon":
            with warnings.catch_warnings():  # marked experimental; the version of Optuna is pinned
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.pruners.WilcoxonPruner()
    raise ValueError(f"unknown pruner '{kind}'")

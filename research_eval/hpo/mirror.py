"""Finished trials, copied to an Optuna storage for the tools of that world; never read back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial

from research_eval.errors import StoreError
from research_eval.hpo.sampling import ARM
from research_eval.hpo.spec import StudySpec
from research_eval.hpo.trials import Trial, TrialState
from research_eval.knobs import Choice, Knob, LogUniform, Uniform, is_number
from research_eval.redaction import without_password

NUMBER = "research_eval_trial"
"""User attribute of a copied trial: its number here."""

_STATES = {TrialState.COMPLETED: OptunaState.COMPLETE, TrialState.PRUNED: OptunaState.PRUNED}


class Mirror:
    """An Optuna study of the same name in a storage.

    Args:
        url: Of the storage, as Optuna takes it.
        spec: Of the study.

    Raises:
        StoreError: If it cannot be opened.
    """

    def __init__(self, url: str, spec: StudySpec) -> None:
        self._url = url
        self._has_many_values = len(spec.parsed_objectives) > 1
        directions = [f"{o.direction}imize" for o in spec.parsed_objectives]
        try:
            self._study = optuna.create_study(
                storage=url,
                study_name=spec.name,
                directions=directions,  # type: ignore[arg-type]  # "maximize" or "minimize"
                load_if_exists=True,
            )
        except Exception as error:  # a storage fails in the ways of its driver
            raise self._failed(error) from error

    def update(self, trials: Iterable[Trial], spaces: Mapping[str, Mapping[str, Knob]]) -> int:
        """Copy the trials that have ended and are not there yet, and return how many.

        Raises:
            StoreError: If the storage cannot be written.
        """
        try:
            known = {trial.user_attrs.get(NUMBER) for trial in self._study.get_trials()}
            new = [t for t in trials if t.is_finished and t.number not in known]
            for trial in sorted(new, key=lambda trial: trial.number):
                self._study.add_trial(self._copy(trial, spaces))
        except Exception as error:  # likewise
            raise self._failed(error) from error
        return len(new)

    def _copy(
        self, trial: Trial, spaces: Mapping[str, Mapping[str, Knob]]
    ) -> optuna.trial.FrozenTrial:
        space = spaces.get(trial.arm, {})
        arms = sorted({*spaces, trial.arm})
        params = {_name(trial.arm, path): value for path, value in trial.params.items()}
        known = {
            _name(trial.arm, path): _distribution(space.get(path), value)
            for path, value in trial.params.items()
        }
        is_scored = bool(trial.values) and all(map(math.isfinite, trial.values))
        state = _STATES.get(trial.state, OptunaState.FAIL) if is_scored else OptunaState.FAIL
        if state is OptunaState.PRUNED and self._has_many_values:
            state = OptunaState.FAIL  # Optuna has no pruning of several objectives
        return create_trial(
            state=state,
            values=trial.values if state is not OptunaState.FAIL else None,
            params={ARM: trial.arm, **params},
            distributions={ARM: CategoricalDistribution(arms), **known},
            user_attrs={
                NUMBER: trial.number,
                "state": str(trial.state),
                "runs": [run.experiment_id for run in trial.runs],
            },
        )

    def _failed(self, error: Exception) -> StoreError:
        reason = without_password(f"{self._url}: {error}").partition("\n")[0]
        return StoreError(f"the Optuna storage cannot be written: {reason}")


def _name(arm: str, path: str) -> str:
    """Return a name that means one distribution in a study of all arms."""
    section, _, field = path.partition(".")
    return f"{section}[{arm}].{field}" if section == "model_params" else path


def _distribution(knob: Knob | None, value: object) -> BaseDistribution:
    """Return the range as Optuna has it; of a value outside of it, the value alone."""
    if knob is None or not knob.contains(value):
        return CategoricalDistribution([value])  # type: ignore[list-item]  # any JSON scalar
    match knob:
        case Choice(options=options):
            return CategoricalDistribution(options)
        case LogUniform(low=low, high=high):
            return optuna.distributions.FloatDistribution(low, high, log=True)
        case Uniform(low=low, high=high) if is_number(value):
            return optuna.distributions.FloatDistribution(low, high)
    return CategoricalDistribution([value])  # type: ignore[list-item]  # likewise

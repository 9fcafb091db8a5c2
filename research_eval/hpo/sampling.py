"""Optuna's samplers on a study in memory, rebuilt from the store.

A sampler is made anew for every suggestion, seeded from the study's seed, the arm, the trial's
number and the try. All it knows are trials, so a study that was killed and rebuilt goes on with
the same suggestions. That is the test for a sampler to be offered: seven trials, a rebuild and
seven more equal fourteen in one go. Optuna's QMC and NSGA-II keep state elsewhere and fail it.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial

from research_eval.errors import ConfigError, Issue
from research_eval.hpo.space import Space, grid_values, rounded
from research_eval.hpo.spec import Objective
from research_eval.knobs import Choice, Knob, LogUniform, Uniform, is_number

optuna.logging.set_verbosity(optuna.logging.ERROR)

ARM = "model_type"
"""Name of the architecture in a space that all arms share."""

LARGEST_GRID = 1_000_000


def seed_of(*parts: object) -> int:
    """Return a seed of 32 bits that follows from what it is for."""
    text = "\x00".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def choose_sampler(asked: str, size: int | None, trials: int) -> str:
    """Return the sampler that "auto" means: a grid where it can be tried out, else TPE."""
    if asked != "auto":
        return asked
    return "grid" if size is not None and size <= trials else "tpe"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sampler is told of a trial.

    Attributes:
        values: One finite value for each objective; None where there is none yet to compare with.
        pruned_after: Number of reports of a trial that was pruned.
        excess: By how much each constraint is broken.
    """

    values: tuple[float, ...] | None
    pruned_after: int | None = None
    excess: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class _Axis:
    """One parameter as Optuna sees it. Options that are numbers are ordered: places in a row."""

    knob: Knob
    is_integer: bool

    @property
    def _ordered(self) -> tuple[Any, ...] | None:
        if isinstance(self.knob, Choice) and all(is_number(o) for o in self.knob.options):
            return tuple(sorted(self.knob.options))
        return None

    def distribution(self) -> BaseDistribution:
        match self.knob:
            case Choice(options=options):
                if self._ordered:
                    return IntDistribution(0, len(options) - 1)
                return CategoricalDistribution(options)
            case LogUniform(low=low, high=high):
                if self.is_integer:
                    return IntDistribution(int(low), int(high), log=True)
                return FloatDistribution(low, high, log=True)
            case Uniform(low=low, high=high, step=step):
                if self.is_integer:
                    return IntDistribution(int(low), int(high), step=int(step or 1))
                return FloatDistribution(low, high, step=step)
        raise TypeError(f"unknown knob {self.knob!r}")

    def decode(self, value: Any) -> Any:
        if isinstance(self.knob, Choice):
            return self._ordered[value] if self._ordered else value
        return min(max(rounded(value, self.is_integer), self.knob.low), self.knob.high)  # type: ignore[attr-defined]  # the other knobs have ends

    def encode(self, value: Any) -> Any:
        """Return what Optuna is told; a repair may have left the grid, so the nearest counts."""
        if self._ordered:
            nearest = self.knob.nearest(value) if is_number(value) else self._ordered[0]
            return self._ordered.index(nearest)
        return self.knob.nearest(value) if is_number(value) else value

    def contains(self, value: Any) -> bool:
        return self.knob.contains(value)


class Sampler:
    """Proposes parameters for one arm, or for all of them together.

    Args:
        kind: One of `spec.SAMPLERS` but "auto".
        spaces: What is searched, by arm.
        objectives: What is best.
        seed: Of the study.
    """

    def __init__(
        self, kind: str, spaces: Mapping[str, Space], objectives: Sequence[Objective], seed: int
    ) -> None:
        self.kind = kind
        self._seed = seed
        self._objectives = tuple(objectives)
        self._axes = {
            arm: {path: _Axis(knob, path in space.integers) for path, knob in space.knobs.items()}
            for arm, space in spaces.items()
        }
        self._is_joint = len(spaces) > 1
        self._grid = self._points(spaces) if kind == "grid" else []
        self._running: dict[int, int] = {}
        directions: list[Literal["maximize", "minimize"]] = [
            "maximize" if o.direction == "max" else "minimize" for o in objectives
        ]
        self._study = optuna.create_study(directions=directions)

    def propose(self, number: int, attempt: int) -> tuple[str, dict[str, Any]] | None:
        """Return arm and parameters for a trial; None if every point of a grid was proposed.

        Args:
            number: Of the trial.
            attempt: How many proposals for it were turned down.
        """
        if self.kind == "grid":
            return self._grid.pop(0) if self._grid else None
        self.withdraw(number)
        seed = seed_of(self._seed, "+".join(self._axes), number, attempt)
        arm = next(iter(self._axes))
        if self._is_joint:
            self._study.sampler = _optuna_sampler(self.kind, seed, None)
            trial = self._study.ask()
            arm = trial.suggest_categorical(ARM, list(self._axes))
        else:
            space = self._distributions(arm)
            self._study.sampler = _optuna_sampler(self.kind, seed, space)
            trial = self._study.ask()
        sampled = {
            path: trial._suggest(self._name(arm, path), axis.distribution())
            for path, axis in self._axes[arm].items()
        }
        self._running[number] = trial.number
        return arm, {path: self._axes[arm][path].decode(v) for path, v in sampled.items()}

    def withdraw(self, number: int) -> None:
        """Forget a proposal that was not carried out, or that an outcome replaces."""
        if number in self._running:
            self._study.tell(self._running.pop(number), state=OptunaState.FAIL)

    def learn(self, number: int, arm: str, params: Mapping[str, Any], outcome: Outcome) -> bool:
        """Take what became of a trial, and return whether it lies in the present space."""
        axes = self._axes[arm]
        self._grid = [point for point in self._grid if point != (arm, dict(params))]
        if set(params) != set(axes) or not all(
            _is_known(axis, params[path]) for path, axis in axes.items()
        ):
            self.withdraw(number)
            return False
        self.withdraw(number)
        if self.kind == "grid" or outcome.values is None:
            return True
        told = {self._name(arm, path): axis.encode(params[path]) for path, axis in axes.items()}
        known = self._distributions(arm)
        if self._is_joint:
            told[ARM], known[ARM] = arm, CategoricalDistribution(list(self._axes))
        is_pruned = outcome.pruned_after is not None and len(self._objectives) == 1
        steps = {outcome.pruned_after or 0: outcome.values[0]} if is_pruned else None
        self._study.add_trial(
            create_trial(
                state=OptunaState.PRUNED if is_pruned else OptunaState.COMPLETE,
                values=None if is_pruned else outcome.values,
                params=told,
                distributions=known,
                intermediate_values=steps,
                constraints={str(i): excess for i, excess in enumerate(outcome.excess)} or None,
            )
        )
        return True

    def _distributions(self, arm: str) -> dict[str, BaseDistribution]:
        axes = self._axes[arm]
        return {self._name(arm, path): axis.distribution() for path, axis in axes.items()}

    def _name(self, arm: str, path: str) -> str:
        """Return the name of a parameter: in a joint space one name means one distribution."""
        section, _, field = path.partition(".")
        is_own = self._is_joint and section == "model_params"
        return f"{section}[{arm}].{field}" if is_own else path

    def _points(self, spaces: Mapping[str, Space]) -> list[tuple[str, dict[str, Any]]]:
        """Return every point of the grid in an order that follows from the seed."""
        found: list[tuple[str, dict[str, Any]]] = []
        for arm, space in spaces.items():
            size = space.size()
            if size is None or size > LARGEST_GRID:
                told = "is continuous" if size is None else f"has {size:,} points"
                issue = Issue("sampler", f"the space of {arm} {told}; narrow it with --search")
                raise ConfigError("there is no grid to search", [issue])
            values = [grid_values(knob, p in space.integers) for p, knob in space.knobs.items()]
            points = itertools.product(*values)
            found += [(arm, dict(zip(space.knobs, point, strict=True))) for point in points]
        random.Random(seed_of(self._seed, *spaces)).shuffle(found)
        return found


def _is_known(axis: _Axis, value: Any) -> bool:
    """Return whether Optuna can be told the value: ordered ones are moved to the nearest."""
    return axis.contains(value) or (isinstance(axis.knob, Choice) and is_number(value))


class _KnownSpace:
    """A sampler of a space that never changes, so that it need not be inferred from trials.

    The inference costs a third of the time of TPE.
    """

    space: dict[str, BaseDistribution]

    def infer_relative_search_space(
        self,
        study: optuna.Study,  # noqa: ARG002 - Optuna's signature
        trial: optuna.trial.FrozenTrial,  # noqa: ARG002 - likewise
    ) -> dict[str, BaseDistribution]:
        return {name: known for name, known in self.space.items() if not known.single()}


class _TPE(_KnownSpace, optuna.samplers.TPESampler):
    """TPE of one arm."""


class _GP(_KnownSpace, optuna.samplers.GPSampler):
    """A Gaussian process of one arm."""


def _optuna_sampler(
    kind: str, seed: int, space: dict[str, BaseDistribution] | None
) -> optuna.samplers.BaseSampler:
    """Return a sampler; without a `space` it learns which parameters go with which arm."""
    if kind == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if space is not None:
        sampler = _GP(seed=seed) if kind == "gp" else _TPE(seed=seed)
        sampler.space = space
        return sampler
    if kind == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    with warnings.catch_warnings():
        # `group` and `multivariate` are marked experimental; the version of Optuna is pinned.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)

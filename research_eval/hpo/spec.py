"""What a study is asked to do, as data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from research_eval.errors import ConfigError, Issue, did_you_mean
from research_eval.hpo.names import DEFAULT_NAME, DEFAULT_TRIALS, PRUNERS, SAMPLERS
from research_eval.matching.target import Target
from research_eval.metrics import Direction, find_metric

_NAME = re.compile(r"\w[\w.-]{0,199}")
_SIGNS: dict[str, Literal[1, -1]] = {"<=": 1, ">=": -1}


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric of a run, and which way is better.

    Attributes:
        name: As the finished run records it.
        history: Name of the same quantity while the run goes on; None if there is none.
    """

    name: str
    direction: Direction
    history: str | None

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read `metric` or `metric:max`.

        Raises:
            ConfigError: If the direction is missing or wrong, or the metric is one of the test
                split, which a study never sees.
        """
        name, _, direction = text.partition(":")
        if name.startswith("final_test_"):
            raise ConfigError(
                f"a study never looks at the test split, so '{name}' cannot be its objective; "
                f"'{name.replace('test', 'val')}' can"
            )
        known = find_metric(name)
        direction = direction or (known.direction if known else None) or ""
        if direction not in ("max", "min"):
            raise ConfigError(
                f"an objective is a metric and a direction, as in final_val_f1:max, not '{text}'"
            )
        if known is not None and known.direction not in (None, direction):
            raise ConfigError(f"of {name} better is {known.direction}, so '{text}' cannot be meant")
        history = known.history if known is not None else name
        return cls(name, "max" if direction == "max" else "min", history)

    def is_better(self, value: float, other: float) -> bool:
        """Return whether a value is better than another one."""
        return value > other if self.direction == "max" else value < other

    def __str__(self) -> str:
        return f"{self.name}:{self.direction}"


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit that the metrics of a trial must keep, for example `param_count<=5e6`."""

    metric: str
    sign: Literal["<=", ">="]
    limit: float

    @classmethod
    def parse(cls, text: str) -> Bound:
        """Read `metric<=number` or `metric>=number`.

        Raises:
            ConfigError: If it is neither.
        """
        found = re.fullmatch(r"\s*([\w/.-]+)\s*(<=|>=)\s*(\S+)\s*", text)
        try:
            limit = float(found[3]) if found else math.nan
        except ValueError:
            limit = math.nan
        if found is None or not math.isfinite(limit):
            raise ConfigError(
                f"a constraint is a metric and a limit, as in param_count<=5e6, not '{text}'"
            )
        return cls(found[1], "<=" if found[2] == "<=" else ">=", limit)

    def excess(self, value: float) -> float:
        """Return by how much a value breaks the limit; zero or less if it keeps it."""
        return _SIGNS[self.sign] * (value - self.limit)

    def __str__(self) -> str:
        return f"{self.metric}{self.sign}{self.limit:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySpec:
    """A study: what is varied, what is best, and how much may be spent.

    Attributes:
        n_trials: The total; a study that has 60 of 100 continues with the 61st.
        base: The fixed part of every configuration, as JSON values. What it sets is not searched,
            unless `search` says so.
        base_dir: Folder that relative paths in it start from.
        arms: Model types that share the trials equally; empty for the base's own.
        search: `path=range` for each range that differs from the declared one: `1e-4:1e-2:log`,
            `1:4`, `0:0.3:0.05` (a step), `4,8,16` (options), `8` (fixed), or `path` alone for the
            declared range of something that the base sets. `model_params[moe].top_k` is for one
            arm.
        objectives: `metric:max` or `metric:min`; several make a Pareto front. Empty for what
            suits the task: final_val_f1:max, or final_val_loss:min for language modelling.
        constraints: Limits such as `param_count<=5e6`.
        sampler: One of `SAMPLERS`; likewise `pruner`.
        seed: Of the sampling; the runs' own seeds start at the base's.
        seeds: Runs of each configuration; its score is their mean.
        share_budget: One sampler over all arms; then no verdict between them is given.
        confirm: Runs of each arm's winner on fresh seeds, after the search.
        warm_start: A study, or a condition on runs: what they tried of this study's space is told
            to the samplers before the first trial, and not tried again.
        own: What an arm's base has in place of the fields of `base`, by the name of the arm; the
            arm may then be called otherwise than its model type, so that one can be there twice.
        match: A cost that every configuration is scaled to, as in `active_params=5M`. The first
            field that the model's `SPEC.scale` names and the base leaves open is not searched.
    """

    name: str = DEFAULT_NAME
    n_trials: int = DEFAULT_TRIALS
    base: Mapping[str, Any] = field(default_factory=dict)
    base_dir: Path = field(default_factory=Path.cwd)
    arms: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    sampler: str = "auto"
    pruner: str = "auto"
    seed: int = 0
    seeds: int = 1
    share_budget: bool = False
    confirm: int = 0
    warm_start: str | None = None
    match: str | None = None
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Name every mistake at once.

        Raises:
            ConfigError: If something is out of range or cannot be read.
        """
        issues = [*self._issues()]
        asked = (
            ("objective", Objective.parse, self.objectives),
            ("bound", Bound.parse, self.constraints),
            ("match", Target.parse, () if self.match is None else (self.match,)),
        )
        for name, parse, texts in asked:
            for text in texts:
                try:
                    parse(text)
                except ConfigError as error:
                    issues.append(Issue(name, str(error)))
        if issues:
            raise ConfigError("the study cannot be carried out", issues)

    def _issues(self) -> list[Issue]:
        found = []
        if not _NAME.fullmatch(self.name):
            told = f"'{self.name}' must be up to 200 letters, digits, '_', '-' and '.'"
            found.append(Issue("name", told))
        for name, least in (("n_trials", 1), ("seeds", 1), ("confirm", 0), ("seed", 0)):
            value = getattr(self, name)
            if value < least:
                found.append(Issue(name, f"must be {least} or more, but is {value}"))
        for name, known in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
            value = getattr(self, name)
            if value not in known:
                found.append(Issue(name, f"unknown '{value}'; {did_you_mean(value, known)}"))
        if len(set(self.arms)) < len(self.arms):
            found.append(Issue("arms", f"each may be named once, but they are {self.arms}"))
        return found

    @property
    def parsed_objectives(self) -> tuple[Objective, ...]:
        """The objectives."""
        return tuple(Objective.parse(text) for text in self.objectives)

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """The constraints."""
        return tuple(Bound.parse(text) for text in self.constraints)

    def shares(self, arms: Sequence[str]) -> dict[str, int]:
        """Return how many trials each arm gets if it can take them; the first ones get the rest."""
        base, rest = divmod(self.n_trials, len(arms))
        return {arm: base + (place < rest) for place, arm in enumerate(arms)}

"""Makes the configuration of another architecture that costs as much as a given one.

What both have is carried over: all but the model, and of the model every parameter of a name that
both declare, with the value that it has in the given configuration, a default or not. Parameters
that only the other architecture has keep its defaults, unless settings say otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from research_eval.config import Experiment, moving, validate
from research_eval.config.experiment import CostAxis, MatchedCost
from research_eval.config.reading import value_of
from research_eval.errors import ConfigError, Issue, NoMatchError
from research_eval.files import safe_name
from research_eval.matching.cost import Cost, Counter
from research_eval.matching.scaling import Scaled, Scaling, moved
from research_eval.matching.target import Target, parse_axis
from research_eval.matching.timing import Steps, race
from research_eval.metrics import EQUAL_TIME
from research_eval.prepare import Prepared, prepare, prepare_with
from research_eval.registry import MODELS_MAP
from research_eval.repair import Repair, repair
from research_eval.spec import TransformerParams
from research_eval.training.device import cpu_threads
from research_eval.training.progress import Nobody, Watcher

ATTEMPTS = 3
"""How often a match of measured times is looked for, if a second measurement contradicts."""


@dataclass(frozen=True, slots=True)
class Match:
    """Two configurations of equal cost.

    Attributes:
        given: Where it started.
        made: The other one; its `origin` tells what it is.
        axis: On which they are equal.
        costs: Of `given` and of `made`.
        carried: Parameters of the model that have the value of the given one: neither set, nor
            moved, nor made legal.
    """

    given: Experiment
    made: Experiment
    axis: CostAxis
    costs: tuple[Cost, Cost]
    carried: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Arm:
    """The other architecture before it is scaled.

    Attributes:
        settings: What was asked of it, by dotted path.
        carried: Parameters of the model that both have.
        repairs: Carried values that it cannot have.
    """

    experiment: Experiment
    settings: Mapping[str, Any]
    carried: tuple[str, ...]
    repairs: tuple[Repair, ...]

    def fields_set(self) -> set[str]:
        """Return the parameters of the model that were asked for."""
        aliases = self.experiment.model.params.all_aliases()
        names = {path.removeprefix("model_params.") for path in self.settings}
        return {aliases.get(name, name) for name in names}


def match(
    experiment: Experiment,
    to: str,
    on: str,
    *,
    settings: Iterable[str] = (),
    timed: bool = True,
    watcher: Watcher | None = None,
) -> Match:
    """Return the configuration of another architecture that costs as much as a given one.

    Args:
        experiment: The given one.
        to: A model, or `./file.py:Name` relative to the given configuration.
        on: What is to be equal: one of `AXES`.
        settings: `path=value` for what the other one is to have besides; a parameter that is set
            is not moved.
        timed: Whether step times are measured even if they need not be equal.
        watcher: Told while data is prepared and steps are timed.

    Raises:
        ConfigError: If something asked is not legal.
        NoMatchError: If the other one cannot cost as much.
        DataError: If the data cannot be had.
    """
    axis, watcher = parse_axis(on), watcher or Nobody()
    arm = arm_of(experiment, to, tuple(settings))
    scaling = Scaling(arm.experiment.model, fixed=arm.fields_set())
    prepared = prepare(experiment, watcher)
    given = Counter(experiment, prepared.dataset).cost(experiment.config.model_params)
    other = prepare_with(prepared.dataset, arm.experiment)
    counter = Counter(arm.experiment, prepared.dataset)
    times: tuple[float, float] | None = None
    with cpu_threads(experiment.config.training_params.num_threads):
        if axis == "step_time":
            watcher.say("steps of both are timed until they take as long")
            scaled, times = _scaled_by_time(scaling, prepared, other, given)
        else:
            scaled = _scaled_by_count(scaling, counter, Target(axis, given.on(axis)))
            if timed:
                watcher.say("steps of both are timed")
                times = race(Steps(prepared), Steps(_having(other, scaled.params)))
    made = counter.cost(scaled.params)
    if times is not None:
        given, made = replace(given, step_time=times[0]), replace(made, step_time=times[1])
    matched = MatchedCost.of(axis, given.on(axis), made.on(axis))
    with_origin = _with_origin(prepared, arm, scaled, matched)
    return Match(experiment, with_origin, axis, (given, made), _carried(arm, scaled.params))


def arm_of(experiment: Experiment, to: str, settings: tuple[str, ...]) -> Arm:
    """Return the other architecture with all that both have.

    Raises:
        ConfigError: If there is no such model, or the settings are not legal.
    """
    kind = MODELS_MAP.find(to, experiment.base_dir).params
    config = experiment.config
    shared = [name for name in type(config.model_params).model_fields if name in kind.model_fields]
    values = config.model_params.model_dump(mode="json", include=set(shared))
    legal, repairs = repair(kind, values)
    said = config.model_params.model_fields_set
    told = {n: v for n, v in legal.items() if n in said or v != _default(kind, n)}
    tree = config.model_dump(mode="json", by_alias=True, exclude_unset=True)
    tree |= {
        "experiment_name": f"{config.experiment_name}_as_{short_name(to)}"[:200],
        "model_type": to,
        "model_params": told,
        "origin": None,
    }
    made = validate(tree, overrides=settings, base_dir=experiment.base_dir)
    _require_same_data(experiment, made)
    pairs = (each.partition("=") for each in settings)
    asked = {path.strip(): value_of(text) for path, _, text in pairs}
    return Arm(made, asked, tuple(shared), repairs)


def _carried(arm: Arm, made: TransformerParams) -> tuple[str, ...]:
    changed = arm.fields_set() | {each.field for each in arm.repairs}
    changed |= moved(arm.experiment.config.model_params, made).keys()
    return tuple(name for name in arm.carried if name not in changed)


def _default(kind: type[TransformerParams], name: str) -> Any:
    return kind.model_fields[name].get_default(call_default_factory=True)


def short_name(model: str) -> str:
    """Return the name of a model without the file that it is in."""
    return model.rpartition(":")[2]


def file_name(experiment: Experiment) -> str:
    """Return the file name for a configuration, from its name."""
    return f"{safe_name(experiment.config.experiment_name)[:150]}.json"


def files_beside(experiment: Experiment) -> list[str]:
    """Return what a configuration names relative to its own folder: plug-ins and data."""
    tree = experiment.config.model_dump(mode="json", by_alias=True)
    return moving.files_beside(tree, experiment.base_dir)


def _require_same_data(given: Experiment, made: Experiment) -> None:
    issues = []
    if given.config.dataset_name != made.config.dataset_name:
        told = f"is {made.config.dataset_name}, but {given.config.dataset_name} was given"
        issues.append(Issue("dataset_name", told))
    elif given.config.dataset_params != made.config.dataset_params:
        issues.append(Issue("dataset_params", "must be those of the given configuration"))
    if issues:
        raise ConfigError(
            "the arms must learn the same task from the same data; change it in the given "
            "configuration",
            issues,
        )


def _scaled_by_count(scaling: Scaling, counter: Counter, target: Target) -> Scaled:
    return scaling.solve(
        counter.experiment.config.model_params,
        target,
        lambda params: counter.on(target.axis, params),
        builds=counter.network,
    )


def _scaled_by_time(
    scaling: Scaling, prepared: Prepared, other: Prepared, given: Cost
) -> tuple[Scaled, tuple[float, float]]:
    """Return parameters whose steps take as long, and the seconds of both.

    The search starts at equal FLOPs, where there is such a point.
    """
    counter = Counter(other.experiment, prepared.dataset)
    start = other.experiment.config.model_params
    with suppress(NoMatchError):
        start = _scaled_by_count(scaling, counter, Target("flops", given.flops)).params
    own = Steps(prepared)
    seconds = race(own, own)[0]

    def seconds_of(params: TransformerParams) -> float:
        mine, theirs = race(own, Steps(_having(other, params)))
        return seconds * theirs / mine

    target = Target("step_time", seconds)
    for _ in range(ATTEMPTS):
        scaled = scaling.solve(
            start, target, seconds_of, builds=counter.network, exact=EQUAL_TIME / 2
        )
        times = race(own, Steps(_having(other, scaled.params)))
        if abs(times[1] / times[0] - 1) <= EQUAL_TIME:
            return scaled, times
        start = scaled.params
    raise NoMatchError(
        f"step times vary too much on this machine now: measured again, they differ by "
        f"{times[1] / times[0] - 1:+.0%}; try when it is idle, or match on flops"
    )


def _having(prepared: Prepared, params: TransformerParams) -> Prepared:
    config = prepared.experiment.config.model_copy(update={"model_params": params})
    return replace(prepared, experiment=replace(prepared.experiment, config=config))


def _with_origin(prepared: Prepared, arm: Arm, scaled: Scaled, matched: MatchedCost) -> Experiment:
    before = arm.experiment.config.model_params
    changed = {f"model_params.{name}": v for name, v in moved(before, scaled.params).items()}
    model_type = arm.experiment.config.model_type
    origin = {
        "kind": "match",
        "parent": prepared.config_hash,
        "changed": {"model_type": model_type, **arm.settings, **changed},
        "repairs": [f"model_params.{each}" for each in arm.repairs],
        "reason": f"costs as much as {prepared.experiment.config.experiment_name}",
        "match": matched.model_dump(),
    }
    return arm.experiment.with_fields({**changed, "origin": origin})

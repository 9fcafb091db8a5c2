"""From recorded runs to what a search learns from: which count, and what is left out and why."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from research_eval.config import Experiment, canonical_json, load_text
from research_eval.errors import ConfigError, DataError, did_you_mean, require_known
from research_eval.hpo.configurations import Configurations
from research_eval.hpo.space import Space, declared_knobs, declared_space
from research_eval.hpo.spec import Objective, StudySpec
from research_eval.knobs import (
    Choice,
    LogUniform,
    Params,
    Uniform,
    is_execution_only,
    is_number,
)
from research_eval.prepare import code_hash
from research_eval.records import RunRecord, RunStatus, leaves
from research_eval.repair import settled
from research_eval.store import Store
from research_eval.suggest.axes import Point
from research_eval.suggest.evidence import Outcome, Tried

ENOUGH = 10
"""Configurations of an arm after which what they all share is taken as meant to stay."""

ARM_SECTIONS = ("model_type", "model_params", "optimizer_params", "scheduler_params")
_PASSED_OVER = ("experiment_name", "origin", "$schema")

SECONDS = "total_training_time_seconds"


@dataclass(frozen=True, slots=True)
class Question:
    """Which runs a search learns from.

    Attributes:
        dataset: Name of a data set; None for that of the latest run.
        models: Model types; empty for all.
        metric: `metric` or `metric:max`; None for what the latest run selected its weights by.
        filter: A condition in the language of `research_eval.filters`.
        any_code: Whether runs of other code count too.
    """

    dataset: str | None = None
    models: tuple[str, ...] = ()
    metric: str | None = None
    filter: str | None = None
    any_code: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run whose configuration is still legal.

    Attributes:
        searched: Values of everything that declares a range, by path.
        setting: What runs must share to be compared: data, epochs and how they are trained.
        arm: What tells arms apart: the model, and everything of it that declares no range.
    """

    run: RunRecord
    experiment: Experiment
    searched: Mapping[str, Any]
    setting: str
    arm: str


@dataclass
class Arm:
    """Configurations that differ only in what is searched.

    Attributes:
        recorded: Oldest first.
        held: What all of them share although it declares a range: it is not searched.
    """

    name: str
    recorded: list[Recorded] = field(default_factory=list)

    @property
    def model_type(self) -> str:
        """The architecture."""
        return self.recorded[0].experiment.config.model_type

    @cached_property
    def held(self) -> dict[str, Any]:
        """Return what is kept as it is in all runs.

        Nothing while there are few, and nothing where the rest has few points left to try.
        """
        points = {canonical_json(each.searched) for each in self.recorded}
        if len(points) < ENOUGH:
            return {}
        first = self.recorded[0].searched
        held = {
            path: value
            for path, value in first.items()
            if all(each.searched[path] == value for each in self.recorded)
        }
        whole = declared_space(self.recorded[-1].experiment)
        free = {path: knob for path, knob in whole.knobs.items() if path not in held}
        size = Space(free, whole.integers).size()
        return {} if size is not None and size < 2 * len(points) else held

    @cached_property
    def configurations(self) -> Configurations:
        """What makes a point of this arm a whole configuration."""
        newest = self.recorded[-1]
        tree = json.loads(newest.run.full_config_json)
        base = {name: value for name, value in tree.items() if name not in _PASSED_OVER}
        # Not the newest: a few runs that confirmed something have other seeds than the search.
        seeds = Counter(each.experiment.config.seed for each in self.recorded)
        base["seed"] = seeds.most_common(1)[0][0]
        return Configurations(
            StudySpec(
                name="suggestion",
                base=base,
                base_dir=newest.experiment.base_dir,
                search=tuple(self._ranges()),
            )
        )

    def _ranges(self) -> Iterator[str]:
        """Yield what is searched: each declared range, with what was tried beyond it."""
        for path, knob in declared_knobs(self.recorded[-1].experiment).items():
            if path in self.held:
                continue
            seen = sorted({v for e in self.recorded if is_number(v := e.searched[path])})
            beyond = [value for value in seen if not knob.contains(value)]
            match knob:
                case Choice(options=options) if beyond and all(map(is_number, options)):
                    numbers = sorted({*options, *beyond})  # type: ignore[type-var]
                    yield f"{path}={','.join(map(json.dumps, numbers))}"
                case Uniform(low=low, high=high) | LogUniform(low=low, high=high) if beyond:
                    yield f"{path}={min(low, seen[0])!r}:{max(high, seen[-1])!r}"
                case _:
                    yield path

    @property
    def space(self) -> Space:
        """What is searched."""
        return self.configurations.spaces[self.model_type]

    def point(self, recorded: Recorded) -> Point:
        """Return the searched part of a configuration."""
        searched = {path: recorded.searched[path] for path in self.space.knobs}
        return self.mend(Point(self.name, searched))

    @cached_property
    def _sections(self) -> dict[str, type[Params]]:
        config = self.recorded[-1].experiment.config
        names = {path.partition(".")[0] for path in self.space.knobs if "." in path}
        return {name: type(getattr(config, name)) for name in names}

    def mend(self, point: Point) -> Point:
        """Return the point with every constraint kept, and at its default what does not matter."""
        mended = dict(point.params)
        config = self.recorded[-1].experiment.config
        for section, params in self._sections.items():
            start = f"{section}."
            ours = {p.removeprefix(start): v for p, v in mended.items() if p.startswith(start)}
            values = {**getattr(config, section).model_dump(mode="json"), **ours}
            legal = settled(params, values, ours)
            mended |= {f"{start}{name}": legal[name] for name in ours}
        return Point(point.arm, mended)


@dataclass(frozen=True)
class Past:
    """What is on record.

    Attributes:
        objective: What is best.
        arms: By name.
        tried: One for each configuration, oldest first.
        runs: Of each configuration, by the key of its point.
        left_out: What does not count and why, in sentences.
        data: Name of the data set.
    """

    objective: Objective
    data: str
    arms: Mapping[str, Arm]
    tried: tuple[Tried, ...]
    runs: Mapping[object, Sequence[RunRecord]]
    left_out: tuple[str, ...]

    @property
    def sign(self) -> int:
        """Makes a loss of a value of the metric, and the other way round."""
        return -1 if self.objective.direction == "max" else 1


def read_past(store: Store, question: Question) -> Past:
    """Read what there is to learn from.

    Raises:
        ConfigError: If a data set or an architecture is named that no run has, or the metric is
            none that can be searched for.
        DataError: If no run is left to learn from.
    """
    runs = _runs(store, question)
    objective = _objective(question.metric, runs)
    asked = [objective.name, SECONDS, *([objective.history] if objective.history else [])]
    wanted = {run.experiment_id for run in runs}
    detailed = store.runs(filter=question.filter, sort="timestamp", metrics=[*asked, "param_count"])
    left_out: list[str] = []
    recorded = [*_legal([run for run in detailed if run.experiment_id in wanted], left_out)]
    if not question.any_code:
        recorded = _of_this_code(recorded, left_out)
    recorded = _of_one_setting(recorded, left_out)
    if not recorded:
        told = f"no run is left to learn from: {'; '.join(left_out)}"
        raise DataError(told)
    arms: dict[str, Arm] = {}
    for each in recorded:
        arms.setdefault(each.arm, Arm(each.arm)).recorded.append(each)
    _require_metric(objective, [each.run for each in recorded], store)
    groups: dict[object, tuple[Point, list[RunRecord]]] = {}
    for each in recorded:
        point = arms[each.arm].point(each)
        groups.setdefault(point.key(), (point, []))[1].append(each.run)
    tried = tuple(_tried(point, runs, objective) for point, runs in groups.values())
    by_key = {key: tuple(found) for key, (_, found) in groups.items()}
    data = recorded[-1].experiment.config.dataset_name
    return Past(objective, data, arms, tried, by_key, tuple(left_out))


def _runs(store: Store, question: Question) -> list[RunRecord]:
    """Return the trainings that are asked for, oldest first."""
    runs = [
        run
        for run in store.runs(filter=question.filter, sort="timestamp", metrics=())
        if run.config_hash is not None and run.run_type in ("json", "optuna_trial")
    ]
    if not runs:
        told = " that meets the filter" if question.filter else ""
        raise DataError(
            f"there is no run{told} to learn from; record some first: research-eval run cfg.json"
        )
    dataset = question.dataset or runs[-1].dataset_name
    require_known("data set", [dataset], (run.dataset_name for run in runs))
    runs = [run for run in runs if run.dataset_name == dataset]
    require_known("architecture", question.models, (run.model_type for run in runs))
    return [run for run in runs if not question.models or run.model_type in question.models]


def _objective(asked: str | None, runs: Sequence[RunRecord]) -> Objective:
    if asked is not None:
        return Objective.parse(asked)
    settings = json.loads(runs[-1].full_config_json).get("training_params", {})
    return Objective.parse(f"final_{settings.get('monitor') or 'val_f1:max'}")


def _legal(runs: Iterable[RunRecord], left_out: list[str]) -> Iterable[Recorded]:
    """Yield the runs whose configuration this installation can read."""
    reasons: Counter[str] = Counter()
    for run in runs:
        base_dir = json.loads(run.env_details_json or "{}").get("base_dir", ".")
        try:
            experiment = load_text(run.full_config_json, base_dir=Path(base_dir))
        except ConfigError as error:
            reasons[str(error.issues[0]) if error.issues else str(error)] += 1
            continue
        yield _recorded(run, experiment)
    left_out += [f"{_count(n)}: not legal here any more: {why}" for why, n in reasons.items()]


def _recorded(run: RunRecord, experiment: Experiment) -> Recorded:
    values = dict(leaves(experiment.config.model_dump(mode="json", by_alias=True)))
    paths = [path for path in declared_knobs(experiment) if path in values]
    fixed = {
        path: value
        for path, value in leaves(_result_fields(experiment.config))
        if path not in paths
    }
    of_arm = {p: v for p, v in fixed.items() if p.partition(".")[0] in ARM_SECTIONS}
    setting = {p: v for p, v in fixed.items() if p not in of_arm} | {"data": run.data_hash}
    searched = {path: values[path] for path in paths}
    return Recorded(run, experiment, searched, canonical_json(setting), canonical_json(of_arm))


def _result_fields(params: Params) -> dict[str, Any]:
    """Return everything that the result depends on."""
    kept: dict[str, Any] = {}
    for name, info in type(params).model_fields.items():
        value = getattr(params, name)
        if not is_execution_only(info):
            kept[name] = _result_fields(value) if isinstance(value, Params) else value
    return kept


def _of_this_code(recorded: Sequence[Recorded], left_out: list[str]) -> list[Recorded]:
    """Return the runs that were made by the code that is installed now."""
    now: dict[str, str] = {}
    kept = []
    for each in recorded:
        if each.arm not in now:
            now[each.arm] = code_hash(each.experiment)
        if each.run.code_hash == now[each.arm]:
            kept.append(each)
    if len(kept) < len(recorded):
        count = _count(len(recorded) - len(kept))
        left_out.append(f"{count}: made by other code (--any-code takes them too)")
    return kept


def _of_one_setting(recorded: Sequence[Recorded], left_out: list[str]) -> list[Recorded]:
    """Return the runs of the setting that most configurations share, of equals the latest."""
    points: dict[str, set[str]] = {}
    for each in recorded:  # the order is that of the latest run
        found = points.pop(each.setting, set())
        points[each.setting] = found | {each.run.config_hash or ""}
    if not points:
        return []
    chosen = max(reversed(points), key=lambda setting: len(points[setting]))
    kept = [each for each in recorded if each.setting == chosen]
    if len(kept) < len(recorded):
        ours = json.loads(chosen)
        others = [json.loads(setting) for setting in points if setting != chosen]
        paths = [path for path in ours if any(o.get(path) != ours[path] for o in others)]
        count = _count(len(recorded) - len(kept))
        left_out.append(f"{count}: trained on other terms ({', '.join(sorted(paths))})")
    return kept


def _require_metric(objective: Objective, runs: Sequence[RunRecord], store: Store) -> None:
    completed = [run for run in runs if run.status is RunStatus.COMPLETED]
    if completed and not any(objective.name in run.metrics for run in completed):
        known = store.metric_names(completed[-1].experiment_id)
        raise ConfigError(
            f"no run has the metric '{objective.name}'; {did_you_mean(objective.name, known)}"
        )


def _tried(point: Point, runs: Sequence[RunRecord], objective: Objective) -> Tried:
    """Return what is known of a configuration: a seed that diverged speaks for all."""
    sign = -1 if objective.direction == "max" else 1
    outcomes = [_outcome(run, objective) for run in runs]
    known = [each for each in outcomes if each[0] is not Outcome.UNKNOWN]
    order = (Outcome.DIVERGED, Outcome.COMPLETED, Outcome.PRUNED)
    outcome = next((o for o in order if any(o is each[0] for each in known)), Outcome.UNKNOWN)
    losses = tuple(sign * value for found, value in outcomes if found is outcome)
    if outcome in (Outcome.DIVERGED, Outcome.UNKNOWN):
        losses = ()
    times = [s for run in runs if (s := run.value(SECONDS)) and run.status is RunStatus.COMPLETED]
    best = min(runs, key=lambda run: (run.value(objective.name) is None, _loss(run, objective)))
    seconds = sum(times) / len(times) if times else None
    return Tried(point, outcome, losses, seconds, best.experiment_id)


def _loss(run: RunRecord, objective: Objective) -> float:
    value = run.value(objective.name)
    if value is None or not math.isfinite(value):
        return math.inf
    return -value if objective.direction == "max" else value


def _outcome(run: RunRecord, objective: Objective) -> tuple[Outcome, float]:
    """Return what became of a run, and its metric where there is a finite one."""
    if run.status in (RunStatus.DIVERGED, RunStatus.COLLAPSED):
        return Outcome.DIVERGED, math.nan
    is_pruned = run.status is RunStatus.PRUNED
    value = run.value((objective.history or objective.name) if is_pruned else objective.name)
    if value is None or run.status not in (RunStatus.COMPLETED, RunStatus.PRUNED):
        return Outcome.UNKNOWN, math.nan
    if not math.isfinite(value):
        return Outcome.DIVERGED, math.nan
    return (Outcome.PRUNED if is_pruned else Outcome.COMPLETED), value


def _count(runs: int) -> str:
    return "1 run left out" if runs == 1 else f"{runs} runs left out"

"""Configurations as a search sees them: the arms are architectures, the runs are trainings."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from research_eval.config import Experiment, config_hash, load_text, validate
from research_eval.config.experiment import OPTIMIZERS, SCHEDULES
from research_eval.errors import ConfigError, Issue, NoMatchError
from research_eval.hpo.equal_cost import EqualCost
from research_eval.hpo.problem import Candidate, Work
from research_eval.hpo.space import Space, arms_named, paths_of, space_of
from research_eval.hpo.spec import StudySpec
from research_eval.jobs import Job
from research_eval.knobs import Params
from research_eval.matching.target import Target
from research_eval.metrics import default_monitor
from research_eval.prepare import code_hash, prepare
from research_eval.records import NewRun, RunRecord, leaves
from research_eval.registry import MODELS_MAP
from research_eval.repair import repair, settled
from research_eval.spec import Dataset, Task
from research_eval.training.progress import Nobody

DEFAULT_DATASET = "parity"

LEFT_OPEN = ("precision", "monitor")
"""Settings that a run may decide when it begins, and then records."""


class Configurations:
    """The `Problem` of tuning configurations.

    Args:
        spec: Of the study.

    Raises:
        ConfigError: With every mistake in the base, the arms and the ranges.
    """

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        names = spec.arms or _arms_of(spec.base)
        trees = {arm: _base_of(spec, arm, names) for arm in names}
        self._experiments: dict[str, Experiment] = {}
        self._code: dict[str, str] = {}
        self._equal: dict[str, EqualCost] = {}
        issues: list[Issue] = []
        for arm, tree in trees.items():
            try:
                self._experiments[arm] = validate(tree, base_dir=spec.base_dir)
            except ConfigError as error:
                issues += error.issues or (Issue("model_type", str(error)),)
        if not issues:
            self.spaces, issues = self._search()
        if issues:
            raise ConfigError("the study cannot be carried out", dict.fromkeys(issues))
        first = next(iter(self._experiments.values()))
        best = (f"final_{default_monitor(_task_of(first))}",)
        self.spec = spec if spec.objectives else replace(spec, objectives=best)
        self.data: tuple[str, str] = (first.dataset.dataset_type, first.config.dataset_name)
        self.first_seed = first.config.seed
        self._bases = {
            arm: json.loads(each.config.model_dump_json(by_alias=True, exclude_unset=True))
            for arm, each in self._experiments.items()
        }

    def _search(self) -> tuple[dict[str, Space], list[Issue]]:
        spec = self.spec
        unknown = arms_named(spec.search) - set(self._experiments)
        issues = [Issue("search", f"'{arm}' is no arm of this study") for arm in sorted(unknown)]
        known = {path for each in self._experiments.values() for path in paths_of(each)}
        spaces = {}
        for arm, experiment in self._experiments.items():
            spaces[arm], found = space_of(experiment, arm, spec.search, known)
            if spec.match is not None and not found:
                spaces[arm], found = self._equal_cost(arm, Target.parse(spec.match), spaces[arm])
            issues += found
            if not spaces[arm].knobs and not found:
                told = "nothing is searched: the base sets every parameter; add --search path"
                issues.append(Issue(arm, told))
        return spaces, issues

    def _equal_cost(self, arm: str, target: Target, space: Space) -> tuple[Space, list[Issue]]:
        """Return what is searched while every configuration is scaled to a cost."""
        try:
            self._equal[arm] = EqualCost(target, self._experiments[arm], space)
            return self._equal[arm].space(space, self.spec.search), []
        except ConfigError as error:
            return space, [Issue("match", str(error))]

    @cached_property
    def _dataset(self) -> Dataset:
        """The data that all arms learn from; costs depend on its vocabulary and its length."""
        return prepare(next(iter(self._experiments.values())), Nobody()).dataset

    def fixed_part(self, arm: str) -> Mapping[str, Any]:
        """Return what is the same in all trials of an arm."""
        ignored = ("experiment_name", "project", "tags", "seed", "origin", "$schema")
        base = {key: value for key, value in self._bases[arm].items() if key not in ignored}
        matched = {} if self.spec.match is None else {"match": self.spec.match}
        return {"base": base, "fixed": self.spaces[arm].fixed, **matched}

    def code_hash(self, arm: str) -> str | None:
        """Return the identity of the arm's source."""
        if arm not in self._code:
            self._code[arm] = code_hash(self._experiments[arm])
        return self._code[arm]

    def complete(self, arm: str, sampled: Mapping[str, Any], name: str) -> Candidate | None:
        """Return the proposal made legal; None if only another fixed value could do so.

        Raises:
            NoMatchError: If it cannot be scaled to the cost that the study asks.
        """
        space = self.spaces[arm]
        tree = json.loads(json.dumps(self._bases[arm]))
        for path, value in {**(space.fixed or {}), **sampled}.items():
            _put(tree, path, value)
        asked = dict(leaves(tree))
        changed: dict[str, Any] = {}
        for section, params in self._classes(arm, tree).items():
            legal, repairs = repair(params, tree.get(section, {}))
            changed |= {f"{section}.{each.field}": each.after for each in repairs}
            searched = [name for name in legal if f"{section}.{name}" in space.knobs]
            tree[section] = settled(params, legal, searched)
            changed |= {
                f"{section}.{name}": value
                for name, value in tree[section].items()
                if value != legal.get(name, value)
            }
        if any(path in asked and path not in space.knobs for path in changed):
            return None
        tree["experiment_name"] = name
        match: dict[str, Any] = {}
        if arm in self._equal:
            made = load_text(json.dumps(tree), base_dir=self.spec.base_dir, source=name)
            equal = self._equal[arm].scale(made, self._dataset)
            match = {"match": equal.match.model_dump()}
            for path, value in equal.changes.items():
                _put(tree, path, value)
                changed[path] = value
        params_now = {path: changed.get(path, value) for path, value in sampled.items()}
        told = tuple(f"{path}={json.dumps(value)}" for path, value in changed.items())
        tree["origin"] = {
            "kind": "study",
            "parent": self.spec.name,
            "changed": params_now,
            "repairs": list(told),
            **match,
            **({"arm": arm} if arm != tree["model_type"] else {}),
        }
        text = json.dumps(tree)
        load_text(text, base_dir=self.spec.base_dir, source=name)
        return Candidate(arm, params_now, told, text)

    def _classes(self, arm: str, tree: Mapping[str, Any]) -> dict[str, type[Params]]:
        """Return the classes of the sections; two of them follow from what they name."""
        config = self._experiments[arm].config
        named = {
            section: known[tree.get(section, {}).get("name", getattr(config, section).name)]
            for section, known in (
                ("optimizer_params", OPTIMIZERS),
                ("scheduler_params", SCHEDULES),
            )
        }
        return {
            "model_params": type(config.model_params),
            "training_params": type(config.training_params),
            **named,
        }

    def tried_by(self, run: RunRecord) -> Candidate | None:
        """Return what a recorded run tried, if the arm with these values is the same run."""
        arm = run.arm or ""
        if arm not in self.spaces or run.code_hash != self.code_hash(arm):
            return None
        try:
            recorded = load_text(run.full_config_json, base_dir=self.spec.base_dir)
        except ConfigError:  # of another version, or with files that are elsewhere
            return None
        values = dict(leaves(recorded.config.model_dump(mode="json", by_alias=True)))
        sampled = {path: values.get(path) for path in self.spaces[arm].knobs}
        try:
            candidate = self.complete(arm, sampled, self.spec.name)
        except NoMatchError:
            return None
        if candidate is None or candidate.params != sampled:
            return None
        ours = load_text(candidate.config_json, base_dir=self.spec.base_dir)
        ours = ours.with_fields(
            {
                f"training_params.{name}": getattr(recorded.config.training_params, name)
                for name in LEFT_OPEN
                if getattr(ours.config.training_params, name) in ("auto", None)
            }
        )
        return candidate if config_hash(ours) == run.config_hash else None

    def task(self, work: Work) -> Job:
        """Return the job that trains and records a configuration."""
        return Job(
            config_json=work.candidate.config_json,
            base_dir=self.spec.base_dir,
            seed=work.seed,
            source=f"study {self.spec.name}",
            again=True,
            place=work.place,
            continued=work.continued,
            reports=work.reports,
        )

    def unstarted(self, work: Work) -> NewRun:
        """Return the record of a run that could not even begin."""
        tree = json.loads(work.candidate.config_json) | {"seed": work.seed}
        dataset_type, dataset_name = self.data
        return NewRun(
            experiment_id=secrets.token_hex(6),
            run_type="optuna_trial",
            experiment_name=tree["experiment_name"],
            full_config_json=json.dumps(tree),
            env_details_json=json.dumps({"base_dir": str(self.spec.base_dir)}),
            model_type=tree["model_type"],
            dataset_name=dataset_name,
            dataset_type=dataset_type,
            seed=work.seed,
            study=work.place.study,
            trial=work.place.trial,
            phase=work.place.phase,
            parent=work.place.parent,
        )


def _task_of(experiment: Experiment) -> Task:
    """Return what the data is used for: as its parameters say, else its only use."""
    asked: Task | None = getattr(experiment.config.dataset_params, "task", None)
    return asked or experiment.dataset.tasks[0]


def _arms_of(base: Mapping[str, Any]) -> tuple[str, ...]:
    named = base.get("model_type")
    return (str(named),) if named is not None else tuple(MODELS_MAP)


def _base_of(spec: StudySpec, arm: str, arms: tuple[str, ...]) -> dict[str, Any]:
    """Return the base of an arm: what belongs to the models of other arms is left out."""
    tree = {"experiment_name": spec.name, "dataset_name": DEFAULT_DATASET, **spec.base}
    if arm in spec.own:
        return {**tree, **spec.own[arm]}
    tree["model_type"] = arm
    params = tree.get("model_params")
    if isinstance(params, Mapping) and len(arms) > 1:
        own = _spellings(spec, arm)
        others = {name for other in arms for name in _spellings(spec, other)}
        tree["model_params"] = {k: v for k, v in params.items() if k in own or k not in others}
    return tree


def _spellings(spec: StudySpec, arm: str) -> set[str]:
    """Return the names of a model's parameters, aliases included; none if there is no such one."""
    try:
        params = MODELS_MAP.find(arm, spec.base_dir).params
    except ConfigError:  # told when the base of that arm is validated
        return set()
    return {*params.model_fields, *params.all_aliases()}


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, leaf = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[leaf] = value

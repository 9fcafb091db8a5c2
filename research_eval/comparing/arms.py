"""The arms of a comparison: the candidate, and baselines that learn the same task at its cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research_eval.config import Experiment, load_file, validate
from research_eval.errors import ConfigError, Issue
from research_eval.files import safe_name
from research_eval.knobs import plugin_kind_of
from research_eval.matching.arms import files_beside, short_name
from research_eval.records import leaves
from research_eval.registry import MODELS_MAP
from research_eval.repair import repair

OWN = ("model_type", "model_params", "optimizer_params", "scheduler_params")
"""What arms may have of their own; all else is the same in every arm."""

NAMING = ("schema_ref", "experiment_name", "project", "tags", "seed", "origin", "dataset_type")
"""Fields that say what a configuration is called or where it came from."""

TASK = ("dataset_name", "dataset_params")


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a comparison.

    Attributes:
        label: What reports call it.
        source: The file or the model that was asked for.
        own: What it has of its own, as JSON values: some of `OWN`.
    """

    label: str
    source: str
    own: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Arms:
    """The candidate, its baselines, and what all have in common.

    Attributes:
        candidate: As it was given.
        common: Fields of every configuration, as JSON values.
        arms: The candidate first.
    """

    candidate: Experiment
    common: Mapping[str, Any]
    arms: tuple[Arm, ...]


def gather(path: Path, baselines: Sequence[str]) -> Arms:
    """Return the arms that are asked for.

    A baseline is a model, `./file.py:Name` beside the candidate's file, or a configuration file. A
    model gets every parameter that the candidate's file sets and that it has too, but for
    components such as the router: those are the idea. The field that is solved to make costs equal
    is left open in every arm.

    Raises:
        ConfigError: If two arms have one name, or one is about another task or trained otherwise.
    """
    given = load_file(path)
    tree = _tree(given)
    common = {name: value for name, value in tree.items() if name not in OWN}
    common.pop("experiment_name")
    for name in ("$schema", "origin"):
        common.pop(name, None)
    first = Arm(safe_name(path.stem), path.name, _own(tree, given))
    arms = [first, *(_baseline(each, given, path) for each in baselines)]
    if len(arms) < 2:
        raise ConfigError("name at least one baseline, as in --baselines dense,moe")
    labels = [arm.label for arm in arms]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ConfigError(
            f"two arms are called {', '.join(twice)}; a file gives its arm its name, so rename one"
        )
    return Arms(given, common, tuple(arms))


def _tree(experiment: Experiment) -> dict[str, Any]:
    """Return what a configuration says, as JSON values."""
    dumped = experiment.config.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return {"model_params": {}, **dumped}


def _own(tree: Mapping[str, Any], experiment: Experiment) -> dict[str, Any]:
    own = {name: tree[name] for name in OWN if name in tree}
    solved = experiment.model.scale[:1]
    own["model_params"] = {k: v for k, v in own["model_params"].items() if k not in solved}
    return own


def _baseline(text: str, given: Experiment, path: Path) -> Arm:
    if text.endswith(".json"):
        return _from_file(Path(text), given, path)
    kind = MODELS_MAP.find(text, given.base_dir).params
    components = {n for n, info in kind.model_fields.items() if plugin_kind_of(info) is not None}
    params = given.config.model_params
    shared = params.model_fields_set & set(kind.model_fields) - components
    said = params.model_dump(mode="json", include=shared)
    legal, _ = repair(kind, said)
    tree = _tree(given) | {
        "model_type": text,
        "model_params": {name: legal[name] for name in said},
        "origin": None,
    }
    return Arm(
        safe_name(short_name(text)), text, _own(tree, validate(tree, base_dir=given.base_dir))
    )


def _from_file(file: Path, given: Experiment, path: Path) -> Arm:
    experiment = load_file(file)
    ours, theirs = (each.config.model_dump(mode="json") for each in (given, experiment))
    _require_same(_differences(ours, theirs, TASK), file, path, "are about different tasks")
    rest = [name for name in ours if name not in {*OWN, *TASK, *NAMING}]
    _require_same(_differences(ours, theirs, rest), file, path, "are trained differently")
    beside = files_beside(experiment)
    if beside and experiment.base_dir != given.base_dir:
        raise ConfigError(
            f"{file} names {', '.join(beside)} relative to its folder, so it must be in the folder "
            f"of {path} too"
        )
    return Arm(safe_name(file.stem), file.name, _own(_tree(experiment), experiment))


def _differences(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], names: Sequence[str]
) -> list[Issue]:
    one, other = (dict(leaves({name: each[name] for name in names})) for each in (theirs, ours))
    return [
        Issue(
            path,
            f"is {json.dumps(one.get(path))}, but {json.dumps(other.get(path))} in the candidate",
        )
        for path in {**other, **one}
        if one.get(path) != other.get(path)
    ]


def _require_same(issues: list[Issue], file: Path, path: Path, told: str) -> None:
    if issues:
        raise ConfigError(f"{file} and {path} {told}, so their scores cannot be compared", issues)

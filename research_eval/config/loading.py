"""The one door: every configuration, wherever it comes from, is validated here as JSON text."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from pydantic import Field, ValidationError, create_model

from research_eval.config.experiment import OPTIMIZERS, SCHEDULES, ExperimentConfig
from research_eval.config.messages import issues_of
from research_eval.config.reading import apply_aliases, move, read_json, without_unreadable
from research_eval.errors import ConfigError, Issue, did_you_mean
from research_eval.knobs import Params, plugin_kind_of
from research_eval.registry import DATASETS_MAP, MAPS, MODELS_MAP
from research_eval.repair import check
from research_eval.spec import DatasetSpec, ModelSpec, RouterSpec

SECTIONS = ("model_params", "dataset_params", "optimizer_params", "scheduler_params")
"""The sections whose class depends on what the configuration names."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """A configuration that validated, with the components that it names.

    Attributes:
        config: The configuration; its `model_params` are of the model's own class, and so on.
        base_dir: Folder that relative paths in it start from.
    """

    config: ExperimentConfig
    model: ModelSpec
    dataset: DatasetSpec
    base_dir: Path

    def find_router(self, name: str) -> RouterSpec:
        """Return the router of a registered name or of a plug-in file."""
        found: RouterSpec = MAPS["router"].find(name, self.base_dir)
        return found

    def with_fields(self, changes: Mapping[str, Any]) -> Experiment:
        """Return this experiment with the fields at some dotted paths replaced, validated anew.

        Raises:
            ConfigError: If the result is not legal.
        """
        overrides = [f"{path}={json.dumps(value)}" for path, value in changes.items()]
        text = self.config.model_dump_json(by_alias=True, exclude_unset=True)
        return load_text(text, overrides=overrides, base_dir=self.base_dir)


def load_file(path: Path, overrides: Iterable[str] = ()) -> Experiment:
    """Read and validate a configuration file.

    Args:
        path: A JSON file.
        overrides: `path=value` settings that replace what the file says.

    Raises:
        ConfigError: If it cannot be read, or with every mistake that is in it.
    """
    base_dir = path.resolve().parent
    return load_text(_text_of(path), overrides=overrides, base_dir=base_dir, source=str(path))


def read_tree(path: Path) -> dict[str, Any]:
    """Return the JSON values of a file that need not be a whole configuration.

    Raises:
        ConfigError: If it cannot be read, is no JSON object, or has a key twice.
    """
    tree, issues = read_json(_text_of(path), str(path))
    if issues:
        raise ConfigError(f"{path} is not legal", issues)
    return tree


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors put a mark before the text
    except FileNotFoundError:
        raise ConfigError(
            f"there is no file {path}; `research-eval new config` writes one"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: see byte {error.start}") from None


def validate(
    tree: Mapping[str, Any], *, overrides: Iterable[str] = (), base_dir: Path | None = None
) -> Experiment:
    """Validate a configuration that was made in Python.

    Args:
        tree: JSON values.
        overrides: `path=value` settings that replace what the tree says.
        base_dir: Folder that relative paths start from; the working directory by default.

    Raises:
        ConfigError: With every mistake that is in it.
    """
    try:
        text = json.dumps(tree)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the configuration holds what is no JSON value: {error}") from None
    base_dir = base_dir or Path.cwd()
    return load_text(text, overrides=overrides, base_dir=base_dir, source="the configuration")


def load_text(
    text: str, *, overrides: Iterable[str] = (), base_dir: Path, source: str = "configuration"
) -> Experiment:
    """Validate the text of a configuration.

    Args:
        text: One JSON object.
        overrides: `path=value` settings that replace what the text says; a value that is not
            JSON is taken as text.
        base_dir: Folder that relative paths start from.
        source: What to call it in messages.

    Raises:
        ConfigError: With every mistake that is in it.
    """
    tree, issues = read_json(text, source, overrides)
    tree, unreadable = without_unreadable(tree)
    issues += unreadable
    components, found = _components(tree, base_dir)
    issues += found
    sections = _section_types(tree, components, issues)
    issues += move(tree, ExperimentConfig.moved, sections)
    for name, params in sections.items():
        if isinstance(tree.get(name), dict):
            issues += _inside(name, apply_aliases(tree[name], params.all_aliases()))
    config, found = _build(tree, sections)
    reported = {issue.path for issue in unreadable}
    issues += [issue for issue in found if issue.path not in reported]
    wrong = {issue.path for issue in issues}
    for name, params in sections.items():
        if isinstance(tree.get(name), dict):
            issues += _legal_together(params, tree[name], wrong, name)
            issues += _inside(name, _plugins_found(params, tree[name], base_dir))
    if "dataset_type" not in wrong:
        issues += _type_matches(tree, components.get("dataset_name"))
    if issues:
        raise ConfigError(f"{source} is not legal", _sorted(issues))
    return Experiment(
        cast("ExperimentConfig", config),
        cast("ModelSpec", components["model_type"]),
        cast("DatasetSpec", components["dataset_name"]),
        base_dir,
    )


def _components(
    tree: Mapping[str, Any], base_dir: Path
) -> tuple[dict[str, ModelSpec | DatasetSpec], list[Issue]]:
    found: dict[str, ModelSpec | DatasetSpec] = {}
    issues = []
    for field, registry in (("model_type", MODELS_MAP), ("dataset_name", DATASETS_MAP)):
        name = tree.get(field)
        if isinstance(name, str):
            try:
                found[field] = registry.find(name, base_dir)
            except ConfigError as error:
                issues.append(Issue(field, str(error)))
    return found, issues


def _section_types(
    tree: Mapping[str, Any],
    components: Mapping[str, ModelSpec | DatasetSpec],
    issues: list[Issue],
) -> dict[str, type[Params]]:
    """Return the class of each section that can be known; name those that cannot in `issues`."""
    types: dict[str, type[Params]] = {}
    if "model_type" in components:
        types["model_params"] = components["model_type"].params
    if "dataset_name" in components:
        types["dataset_params"] = components["dataset_name"].params
    choices: tuple[tuple[str, Mapping[str, type[Params]], str], ...] = (
        ("optimizer_params", OPTIMIZERS, "adamw"),
        ("scheduler_params", SCHEDULES, "cosine_warmup"),
    )
    for section, known, default in choices:
        given = tree.get(section)
        name = given.get("name", default) if isinstance(given, dict) else default
        if isinstance(name, str) and name in known:
            types[section] = known[name]
        else:
            told = f"unknown {json.dumps(name)}; {did_you_mean(str(name), known)}"
            issues.append(Issue(f"{section}.name", told))
    return types


@cache
def concrete_type(sections: tuple[tuple[str, type[Params]], ...]) -> type[ExperimentConfig]:
    """Return `ExperimentConfig` with the given classes as the types of its sections."""
    fields: dict[str, Any] = {
        name: (params, Field(default_factory=params, description=f"{params.__doc__}"))
        for name, params in sections
    }
    return create_model("ExperimentConfig", __base__=ExperimentConfig, **fields)


def _build(
    tree: dict[str, Any], sections: Mapping[str, type[Params]]
) -> tuple[ExperimentConfig | None, list[Issue]]:
    # A section that is left out is an empty one, so that what it lacks is told with its path.
    given = {k: v for k, v in tree.items() if k not in SECTIONS or k in sections}
    known = {**{name: {} for name in sections}, **given}
    made = concrete_type(tuple(sorted(sections.items())))
    try:
        return made.model_validate_json(json.dumps(known)), []
    except ValidationError as error:
        return None, issues_of(error, made)


def _legal_together(
    params: type[Params], section: Mapping[str, Any], wrong: Collection[str], name: str
) -> list[Issue]:
    """Check the constraints between those fields of a section that are legal one by one."""
    legal = {field: v for field, v in section.items() if f"{name}.{field}" not in wrong}
    skipped = frozenset(section) - frozenset(legal)
    return _inside(name, check(params, legal, skip=skipped))


def _plugins_found(params: type[Params], section: Mapping[str, Any], base_dir: Path) -> list[Issue]:
    """Look up every component that the fields of a section name."""
    issues = []
    for name, info in params.model_fields.items():
        kind = plugin_kind_of(info)
        value = section.get(name)
        if kind is not None and isinstance(value, str):
            try:
                MAPS[kind].find(value, base_dir)
            except ConfigError as error:
                issues.append(Issue(name, str(error)))
    return issues


def _type_matches(tree: Mapping[str, Any], dataset: object) -> list[Issue]:
    given = tree.get("dataset_type")
    if not isinstance(dataset, DatasetSpec) or given in (None, dataset.dataset_type):
        return []
    return [Issue("dataset_type", f"{dataset.name} is {dataset.dataset_type}, not {given}")]


def _inside(section: str, issues: Iterable[Issue]) -> list[Issue]:
    return [Issue(f"{section}.{issue.path}", issue.message) for issue in issues]


def _sorted(issues: Iterable[Issue]) -> list[Issue]:
    """Return the issues without repetition, in the order of their paths."""
    return sorted(dict.fromkeys(issues), key=lambda issue: issue.path)

"""What identifies a configuration, and how it describes itself."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel

from research_eval.config.experiment import (
    OPTIMIZERS,
    SCHEDULES,
    TRAINING_VERSION,
    ExperimentConfig,
)
from research_eval.config.loading import SECTIONS, Experiment, concrete_type
from research_eval.knobs import Params, is_execution_only, plugin_kind_of
from research_eval.registry import DATASETS_MAP, MODELS_MAP


def config_hash(experiment: Experiment) -> str:
    """Return the identity of a configuration: equal for equal results, whatever else differs.

    It is the sha256 of the fields that affect the result, those at their default left out, and
    of the versions of model, data set and training. Names, tags, seed, paths, device and other
    execution fields do not enter. Resolve "auto" first (`execute` does), or the hash says auto.
    """
    config = experiment.config
    identity: dict[str, Any] = {
        "config": _result_fields(config),
        # Each section is compared with the defaults of its own class, so the class is named.
        "classes": [config.optimizer_params.name, config.scheduler_params.name],
        "versions": [experiment.model.version, experiment.dataset.version, TRAINING_VERSION],
    }
    routers = _router_versions(experiment)
    if routers:
        identity["routers"] = routers
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


def _router_versions(experiment: Experiment) -> dict[str, int]:
    """Return the versions of the routers that the model names, first versions left out."""
    params = experiment.config.model_params
    named = {
        field: experiment.find_router(getattr(params, field)).version
        for field, info in type(params).model_fields.items()
        if plugin_kind_of(info) == "router"
    }
    return {field: version for field, version in named.items() if version != 1}


def canonical_json(value: object) -> str:
    """Return JSON text with sorted keys and no optional white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _result_fields(params: BaseModel) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, info in type(params).model_fields.items():
        value = getattr(params, name)
        if is_execution_only(info):
            continue
        if isinstance(value, BaseModel):
            inner = _result_fields(value)
            kept |= {name: inner} if inner else {}
        elif value != info.get_default(call_default_factory=True):
            kept[name] = value
    return kept


def json_schema(experiment: Experiment | None = None) -> dict[str, Any]:
    """Return the JSON Schema of configurations, with ranges and meanings.

    Args:
        experiment: Describe configurations of this model, data set, optimizer and schedule;
            None describes those of every registered one, told apart by what they name.
    """
    if experiment is not None:
        sections = {name: type(getattr(experiment.config, name)) for name in SECTIONS}
        return _schema(concrete_type(tuple(sorted(sections.items()))))
    schema = _schema(ExperimentConfig)
    models = {name: spec.params for name, spec in MODELS_MAP.items()}
    datasets = {name: spec.params for name, spec in DATASETS_MAP.items()}
    cases = [_case({"model_type": _is(n)}, n, "model_params", p) for n, p in models.items()]
    cases += [_case({"dataset_name": _is(n)}, n, "dataset_params", p) for n, p in datasets.items()]
    for section, named in (("optimizer_params", OPTIMIZERS), ("scheduler_params", SCHEDULES)):
        default = ExperimentConfig.model_fields[section].get_default(call_default_factory=True).name
        for name, params in named.items():
            is_named: dict[str, Any] = {"properties": {"name": _is(name)}}
            if name != default:
                is_named["required"] = ["name"]
            cases.append(_case({section: is_named}, name, section, params))
    for section in SECTIONS:
        whole = schema["properties"][section]
        schema["$defs"].pop(whole["$ref"].rpartition("/")[2])
        schema["properties"][section] = {"type": "object", "description": whole["description"]}
    for _, definitions in cases:
        schema["$defs"].update(definitions)
    return {**schema, "allOf": [case for case, _ in cases]}


def _is(value: str) -> dict[str, Any]:
    return {"const": value}


def _case(
    condition: dict[str, Any], name: str, section: str, params: type[Params]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return "if `condition`, then the section is of class `params`", and its definitions."""
    part = _schema(params)
    key = f"{name}.{section}"
    case = {
        "if": {"properties": condition, "required": [f for f in condition if f != section]},
        "then": {"properties": {section: {"$ref": f"#/$defs/{key}"}}},
    }
    return case, {**part.pop("$defs", {}), key: part}


def _schema(params: type[Params]) -> dict[str, Any]:
    return params.model_json_schema(ref_template="#/$defs/{model}")

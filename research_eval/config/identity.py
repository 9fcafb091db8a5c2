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
from research_eval.config.loading import Experiment, concrete_type
from research_eval.knobs import Params, is_execution_only
from research_eval.registry import DATASETS_MAP, MODELS_MAP


def config_hash(experiment: Experiment) -> str:
    """Return the identity of a configuration: equal for equal results, whatever else differs.

    It is the sha256 of the fields that affect the result, those at their default left out, and
    of the versions of model, data set and training. Names, tags, seed, paths, device and other
    execution fields do not enter. Resolve "auto" first (`execute` does), or the hash says auto.
    """
    identity = {
        "config": _result_fields(experiment.config),
        "versions": [experiment.model.version, experiment.dataset.version, TRAINING_VERSION],
    }
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


def canonical_json(value: object) -> str:
    """Return JSON text with sorted keys and no optional white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _result_fields(params: BaseModel) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, info in type(params).model_fields.items():
        value = getattr(params, name)
        if is_execution_only(info) or value == info.get_default(call_default_factory=True):
            continue
        kept[name] = _result_fields(value) if isinstance(value, BaseModel) else value
    return kept


def json_schema(experiment: Experiment | None = None) -> dict[str, Any]:
    """Return the JSON Schema of configurations, with ranges and meanings.

    Args:
        experiment: Describe configurations of this model, data set, optimizer and schedule;
            None describes those of every registered one, told apart by what they name.
    """
    if experiment is not None:
        sections = {
            name: type(getattr(experiment.config, name))
            for name in ("model_params", "dataset_params", "optimizer_params", "scheduler_params")
        }
        return _schema(concrete_type(tuple(sorted(sections.items()))))
    schema = _schema(ExperimentConfig)
    definitions = schema.setdefault("$defs", {})
    cases: list[dict[str, Any]] = []
    for field, section, types in (
        ("model_type", "model_params", {n: s.params for n, s in MODELS_MAP.items()}),
        ("dataset_name", "dataset_params", {n: s.params for n, s in DATASETS_MAP.items()}),
    ):
        schema["properties"][section] = {"type": "object"}
        cases += [_case({field: {"const": n}}, section, t, definitions) for n, t in types.items()]
    for section, named in (("optimizer_params", OPTIMIZERS), ("scheduler_params", SCHEDULES)):
        schema["properties"][section] = {"type": "object"}
        cases += [
            _case(
                {section: {"properties": {"name": {"const": n}}, "required": ["name"]}},
                section,
                t,
                definitions,
            )
            for n, t in named.items()
        ]
    return {**schema, "allOf": cases}


def _case(
    condition: dict[str, Any], section: str, params: type[Params], definitions: dict[str, Any]
) -> dict[str, Any]:
    part = _schema(params)
    definitions.update(part.pop("$defs", {}))
    definitions[params.__name__] = part
    then = {"properties": {section: {"$ref": f"#/$defs/{params.__name__}"}}}
    return {"if": {"properties": condition, "required": list(condition)}, "then": then}


def _schema(params: type[Params]) -> dict[str, Any]:
    return params.model_json_schema(ref_template="#/$defs/{model}")

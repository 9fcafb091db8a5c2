"""Defaults are part of what a recorded run means: they change only together with a version.

A configuration's hash leaves out what stands at its default, so a default that changed silently
would pool runs that are not alike. `defaults.json` remembers the defaults of each version:

    python tests/config/test_defaults.py    # records new components, fields and versions
"""

import json
from pathlib import Path
from typing import Any

import pytest

from research_eval.config.experiment import (
    OPTIMIZERS,
    SCHEDULES,
    TRAINING_VERSION,
    ExperimentConfig,
    TrainingParams,
)
from research_eval.knobs import Params, is_execution_only
from research_eval.registry import DATASETS_MAP, MODELS_MAP

FILE = Path(__file__).with_name("defaults.json")


def defaults_of(params: type[Params]) -> dict[str, Any]:
    """Return the default of each plain field that affects results."""
    return {
        name: value
        for name, info in params.model_fields.items()
        if not is_execution_only(info) and not info.is_required()
        for value in [info.get_default(call_default_factory=True)]
        if not isinstance(value, Params)
    }


def current() -> dict[str, dict[str, Any]]:
    """Return the defaults of everything, by kind, name and version."""
    training = {
        "experiment": ExperimentConfig,
        "training_params": TrainingParams,
        **{f"optimizer {name}": params for name, params in OPTIMIZERS.items()},
        **{f"schedule {name}": params for name, params in SCHEDULES.items()},
    }
    classes = {f"{name} v{TRAINING_VERSION}": params for name, params in training.items()}
    for registry in (MODELS_MAP, DATASETS_MAP):
        for name, spec in registry.items():
            classes[f"{registry.kind} {name} v{spec.version}"] = spec.params
    found = {name: defaults_of(params) for name, params in sorted(classes.items())}
    return json.loads(json.dumps(found))


@pytest.mark.parametrize("name", current())
def test_a_default_changes_only_with_a_version(name):
    recorded = json.loads(FILE.read_text()).get(name, {})
    now = current()[name]
    changed = {field for field, value in recorded.items() if field in now and now[field] != value}
    assert not changed, "raise the version of the component: recorded runs would change meaning"
    assert set(now) == set(recorded), "record the new fields: see the top of this file"


if __name__ == "__main__":
    FILE.write_text(json.dumps(current(), indent=2) + "\n")

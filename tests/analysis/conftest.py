"""A laboratory: runs with given scores, recorded through the store, and the evidence they make."""

import json
from itertools import count

import pytest

from research_eval.analysis.gathering import choose_datasets, gather
from research_eval.analysis.question import Request
from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.testing.runs import new_run

SCHEMA = {
    "properties": {
        "model_type": {"x-plugin": "model"},
        "origin": {"x-execution-only": True},
        "model_params": {"$ref": "#/$defs/Model"},
        "optimizer_params": {"$ref": "#/$defs/Optimizer"},
    },
    "$defs": {
        "Model": {
            "properties": {
                "router": {"x-plugin": "router"},
                "top_k": {"x-knob": {"kind": "Choice", "options": [1, 2, 4]}},
            }
        },
        "Optimizer": {
            "properties": {"lr": {"x-knob": {"kind": "LogUniform", "low": 1e-4, "high": 1e-2}}}
        },
    },
}


class Lab:
    """A store, and short ways to record runs in it."""

    def __init__(self, path):
        self.path = path
        self.store = Store.open(path, create=True)
        self._ids = count()

    def run(self, arm="moe", value=0.5, seed=0, *, config=None, status="COMPLETED", **more):
        """Record a run and return its id.

        `metrics` are points at the last step, `curves` maps names to {step: value}, `arrays` is a
        list of (name, layer, step, array), `flags` maps names to reasons; other arguments are
        fields of `NewRun`.
        """
        metrics = {"final_val_f1": value, **more.pop("metrics", {})}
        curves, arrays = more.pop("curves", {}), more.pop("arrays", ())
        flags, contended = more.pop("flags", {}), more.pop("contended", False)
        error = more.pop("error", None)
        settings = {"model_type": arm, "dataset_name": "parity", **(config or {})}
        usual = {
            "experiment_name": f"{arm} run",
            "model_type": arm,
            "dataset_name": "parity",
            "project": "lab",
            "seed": seed,
            "full_config_json": json.dumps({**settings, "seed": seed}),
            "config_schema_json": json.dumps(SCHEMA),
            "config_hash": f"{arm}-{json.dumps(config, sort_keys=True)}",
            "code_hash": f"code of {arm}",
            "data_hash": "data",
            "hardware": "cpu:a processor:1 threads",
        }
        writer = self.store.start(new_run(f"run{next(self._ids):04}", **usual | more))
        for name, curve in curves.items():
            for step, point in curve.items():
                writer.log({name: point}, step=step)
        for name, layer, step, array in arrays:
            writer.log_array(name, array, layer=layer, step=step)
        for name, reason in flags.items():
            writer.flag(name, reason)
        if status == "COMPLETED":
            known = {name: point for name, point in metrics.items() if point is not None}
            writer.log(known, step=100)
        if status != "RUNNING":
            writer.finish(RunStatus(status), error=error, contended=contended)
        return writer.experiment_id

    def seeds(self, arm, values, **more):
        """Record a run for each value, with seeds from 0, and return their ids."""
        return [self.run(arm, value, seed, **more) for seed, value in enumerate(values)]

    def evidence(self, **request):
        """Return the evidence about the first data set that is meant."""
        asked = Request(**request)
        return gather(self.store, choose_datasets(self.store, asked)[0], asked)


@pytest.fixture
def lab(tmp_path):
    made = Lab(tmp_path / "runs.db")
    with made.store, made.store.kept_open():
        yield made

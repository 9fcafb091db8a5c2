"""A laboratory: runs of real configurations whose scores a formula says, recorded in a store."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from research_eval.config import canonical_json, config_hash, load_text
from research_eval.prepare import code_hash
from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.suggest.past import Question
from research_eval.suggest.suggesting import Request, Suggester
from research_eval.testing.runs import new_run

BASE = {
    "experiment_name": "lab",
    "model_type": "moe",
    "dataset_name": "parity",
    "epochs": 2,
    "dataset_params": {"num_samples": 200, "val_samples": 40, "test_samples": 40, "seq_len": 6},
    "training_params": {"precision": "fp32", "monitor": "val_f1:max"},
}


def moe(**params):
    return BASE | {"model_params": params}


def score(tree):
    """Return something with a best learning rate and width."""
    lr = tree.get("optimizer_params", {}).get("lr", 1e-3)
    width = tree.get("model_params", {}).get("embed_dim", 64)
    return 0.9 - 0.1 * math.log10(lr / 2e-3) ** 2 - 0.1 * (width != 64)


class Lab:
    def __init__(self, path):
        self.path = path
        self.store = Store.open(path, create=True)
        self._number = 0

    def run(self, tree=BASE, value=None, *, seed=0, status="COMPLETED", metrics=None, **more):
        """Record a run and return its id; `more` are fields of `NewRun`."""
        self._number += 1
        experiment = load_text(json.dumps(tree | {"seed": seed}), base_dir=Path.cwd())
        config = experiment.config
        usual = {
            "experiment_name": config.experiment_name,
            "model_type": config.model_type,
            "dataset_name": config.dataset_name,
            "seed": seed,
            "full_config_json": config.model_dump_json(by_alias=True),
            "env_details_json": canonical_json({"base_dir": str(Path.cwd())}),
            "config_hash": config_hash(experiment),
            "code_hash": code_hash(experiment),
            "data_hash": "data",
        }
        writer = self.store.start(new_run(f"run{self._number:04}", **usual | more))
        told = {"final_val_f1": score(tree) if value is None else value}
        told |= {"total_training_time_seconds": 2.0} | (metrics or {})
        writer.log({name: v for name, v in told.items() if v is not None}, step=1)
        if status != "RUNNING":
            writer.finish(RunStatus(status), error="why" if status == "FAILED" else None)
        return writer.experiment_id

    def history(self, count, seed=0):
        """Record so many different configurations of moe."""
        rng = np.random.default_rng(seed)
        for _ in range(count):
            self.run(random_tree(rng))

    def suggester(self, question=None, **request):
        self.store.close()
        self.store = Store.open(self.path)
        return Suggester(self.store, question or Question(), Request(**request), Silent())

    def suggest(self, question=None, **request):
        return self.suggester(question, **request).suggestions()


class Silent:
    def say(self, line):
        pass

    def progress(self, now):
        pass


def random_tree(rng):
    lr = float(f"{10 ** rng.uniform(-4, -2):.6g}")
    params = {
        "embed_dim": int(rng.choice([32, 64, 128])),
        "num_layers": int(rng.integers(1, 5)),
        "num_experts": int(rng.choice([4, 8, 16])),
        "dropout": float(rng.choice([0.0, 0.1, 0.2])),
    }
    return moe(**params) | {"optimizer_params": {"lr": lr}}


@pytest.fixture
def lab(tmp_path):
    made = Lab(tmp_path / "lab.db")
    yield made
    made.store.close()

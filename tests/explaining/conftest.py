"""Two groups of runs with given numbers, recorded through the store, and what explains them."""

import json
from itertools import count

import pytest

from research_eval.explaining.explanation import explain_in
from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.testing.runs import new_run

PARAMS = {
    "model_type": "moe",
    "dataset_name": "parity",
    "epochs": 10,
    "batch_size": 32,
    "dataset_params": {"seq_len": 8},
    "model_params": {
        "num_experts": 4,
        "router": "softmax",
        "balance": "aux",
        "aux_loss_weight": 0.01,
        "dropout": 0.0,
        "capacity_factor": 1.0,
        "z_loss_weight": 0.001,
    },
    "optimizer_params": {"name": "adamw", "lr": 0.001, "grad_clip_norm": 1.0},
    "training_params": {"select": "last", "log_every": 50, "keep_checkpoints": "best"},
}


class Lab:
    """A store, and short ways to record runs in it."""

    def __init__(self, path):
        self.store = Store.open(path, create=True)
        self._ids = count()

    def run(self, name, metrics=None, *, seed=0, params=None, status="COMPLETED", **more):
        """Record a run and return its id.

        `params` are laid over the usual ones by dotted path, `curves` maps names to
        {step: value}, `flags` maps names to reasons; other arguments are fields of `NewRun`.
        """
        settings = json.loads(json.dumps(PARAMS))
        for path, value in (params or {}).items():
            section, _, field = path.rpartition(".")
            (settings[section] if section else settings)[field] = value
        curves, flags, error = (more.pop(key, None) for key in ("curves", "flags", "error"))
        usual = {
            "experiment_name": name,
            "model_type": settings["model_type"],
            "dataset_name": settings["dataset_name"],
            "seed": seed,
            "full_config_json": json.dumps({**settings, "seed": seed}),
            "config_hash": json.dumps([name, settings], sort_keys=True),
            "code_hash": "code",
            "data_hash": "data",
        }
        writer = self.store.start(new_run(f"run{next(self._ids):04}", **usual | more))
        for metric, curve in (curves or {}).items():
            for step, value in curve.items():
                writer.log({metric: value}, step=step)
        for flag, reason in (flags or {}).items():
            writer.flag(flag, reason)
        if metrics:
            writer.log(metrics, step=100)
        if status == "RUNNING":
            writer.flush()
        else:
            writer.finish(RunStatus(status), error=error)
        return writer.experiment_id

    def seeds(self, name, values, metrics=None, **more):
        """Record a run of each score, with seeds from 0; metrics may be lists, one of each."""
        ids = []
        for seed, value in enumerate(values):
            own = {k: v[seed] if isinstance(v, list) else v for k, v in (metrics or {}).items()}
            ids.append(self.run(name, {"final_val_f1": value} | own, seed=seed, **more))
        return ids

    def evaluation(self, run, metrics, *, split="validation", routing="learned", names=()):
        """Record an evaluation of a run."""
        asked = {"split": split, "routing": routing, "weights": "last", "learned_part": "it"}
        writer = self.store.start(
            new_run(
                f"run{next(self._ids):04}",
                run_type="evaluation",
                parent=run,
                data_hash="data",
                full_config_json=json.dumps(asked),
                env_details_json=json.dumps({"label_names": names, "domain_names": names}),
            )
        )
        writer.log(metrics, step=0)
        writer.finish(RunStatus.COMPLETED)

    def explain(self, first="weak", second="strong", **options):
        """Return the explanation."""
        return explain_in(self.store, first, second, **options)


@pytest.fixture
def lab(tmp_path):
    made = Lab(tmp_path / "runs.db")
    with made.store, made.store.kept_open():
        yield made

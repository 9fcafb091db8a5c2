"""How long `analyze --run-all` takes on 1,000 runs with 20 metrics each, and how much memory.

    python benchmarks/analyze.py

The store is made through its public API in a temporary folder: two architectures in a study of 480
trials each, random search, 20 confirmed runs of each winner; every metric has ten points. The
command runs in a process of its own, which must not have loaded torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from research_eval.records import NewRun, RunStatus
from research_eval.store import Store

ARMS = {"dense": (0.80, 1e5), "moe": (0.82, 4e5)}
TRIALS, CONFIRMED, POINTS = 480, 20, 10

OTHERS = (
    "final_val_f1", "final_test_f1", "final_val_acc", "final_test_acc", "final_val_loss",
    "final_test_loss", "param_count", "active_param_count", "flops_per_token",
    "inference_latency_ms_batch_p50", "inference_latency_ms_batch_p95", "peak_memory_mb",
    "total_training_time_seconds", "train_tokens_per_second",
)  # fmt: skip
CURVES = ("val_f1", "val_acc", "val_loss", "train_loss", "learning_rate", "tokens_seen")

KNOBS = {
    "properties": {
        "optimizer_params": {"$ref": "#/$defs/O"},
        "model_params": {"$ref": "#/$defs/M"},
    },
    "$defs": {
        "O": {"properties": {"lr": {"x-knob": {"kind": "LogUniform", "low": 1e-4, "high": 1e-2}}}},
        "M": {
            "properties": {
                "top_k": {"x-knob": {"kind": "Choice", "options": [1, 2, 4, 8]}},
                "dropout": {"x-knob": {"kind": "Uniform", "low": 0.0, "high": 0.3, "step": None}},
            }
        },
    },
}

MEASURED = """
import resource, sys, time
from research_eval.cli import main
started = time.perf_counter()
code = main(["analyze", "--run-all", "--candidate", "moe", "--output-dir", sys.argv[1]])
taken = time.perf_counter() - started
assert code == 0, code
assert "torch" not in sys.modules
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
cpu = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
print(f"{taken:.1f} s of work, {cpu:.1f} s of CPU in all, {peak:.0f} MiB at most, no torch")
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder, "runs.db")
        with Store.open(database, create=True) as store, store.kept_open():
            fill(store)
        command = [sys.executable, "-c", MEASURED, str(Path(folder, "reports"))]
        environment = {**os.environ, "RESEARCH_EVAL_DB": str(database)}
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        print(done.stdout.splitlines()[-1])
        print(f"{len([*Path(folder, 'reports').iterdir()])} files")


def fill(store: Store) -> None:
    random = np.random.default_rng(0)
    asked = {"sampler": "random", "pruner": "none", "seed": 0}
    store.save_study("s", json.dumps({"asked": asked, "spaces": {}}))
    for arm in ARMS:
        best, trial = (-np.inf, {}), 0
        for trial in range(TRIALS):
            params = {
                "optimizer_params": {"lr": 10 ** random.uniform(-4, -2)},
                "model_params": {
                    "top_k": int(random.choice([1, 2, 4, 8])),
                    "dropout": random.uniform(0, 0.3),
                },
            }
            score = record(store, random, arm, params, trial, 0, "search")
            best = max(best, (score, params), key=lambda each: each[0])
        for seed in range(1, CONFIRMED + 1):
            record(store, random, arm, best[1], trial, seed, "confirm")


def record(store, random, arm, params, trial, seed, phase) -> float:
    level, size = ARMS[arm]
    off = np.log10(params["optimizer_params"]["lr"]) + 3
    score = level - 0.03 * off**2 + 0.006 * random.normal()
    config = {"model_type": arm, "dataset_name": "parity", "seed": seed, **params}
    writer = store.begin(
        NewRun(
            experiment_id=f"{arm}-{trial}-{seed}",
            run_type="optuna_trial",
            experiment_name=arm,
            project="benchmark",
            model_type=arm,
            dataset_name="parity",
            seed=seed,
            full_config_json=json.dumps(config),
            config_schema_json=json.dumps(KNOBS),
            config_hash=json.dumps(params),
            code_hash=arm,
            data_hash="data",
            study="s",
            trial=trial,
            phase=phase,
            hardware="cpu",
            env_details_json=json.dumps({"python": "3.11", "packages": {"torch": "2.13.0"}}),
        )
    )
    for step in range(1, POINTS + 1):
        rest = 0.4 * np.exp(-step / 3)
        writer.log(dict.fromkeys(CURVES, score - rest), step=step)
    for name in OTHERS:
        writer.log({name: score if name.endswith(("f1", "acc")) else size}, step=POINTS)
    writer.finish(RunStatus.COMPLETED)
    return score


if __name__ == "__main__":
    main()

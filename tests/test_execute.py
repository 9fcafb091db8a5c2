"""One configuration in, one recorded run out: on a real store, with real data and models."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from research_eval.config import load_text
from research_eval.errors import ConfigError, DivergedError, RunError, StoppedError
from research_eval.execute import run
from research_eval.prepare import plan, prepare
from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.training.progress import Nobody, Progress

TINY = {
    "experiment_name": "tiny",
    "model_type": "moe",
    "dataset_name": "parity",
    "epochs": 2,
    "batch_size": 32,
    "dataset_params": {"num_samples": 200, "val_samples": 50, "test_samples": 50, "seq_len": 6},
    "model_params": {"embed_dim": 8, "num_heads": 2, "num_layers": 1, "num_experts": 4},
    "training_params": {"device": "cpu"},
}


def prepared(folder: Path, **fields):
    return prepare(load_text(json.dumps({**TINY, **fields}), base_dir=folder), Nobody())


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "runs.db", create=True) as opened:
        yield opened


def test_every_run_has_its_line_in_the_csv_beside_the_store(tmp_path, store):
    run(prepared(tmp_path), store, Nobody())
    config = {"optimizer_params": {"name": "sgd", "lr": 1e30, "grad_clip_norm": None}}
    with pytest.raises(DivergedError):
        run(prepared(tmp_path, **config), store, Nobody())
    with tmp_path.joinpath("json_experiment_results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["status"] for line in lines] == ["COMPLETED", "DIVERGED"]
    assert float(lines[0]["final_val_f1"]) == store.runs()[1].value("final_val_f1")


def test_a_run_is_recorded_whole(tmp_path, store):
    outcome = run(prepared(tmp_path), store, Nobody())
    record = outcome.record
    assert outcome.action == "ran"
    assert record.status is RunStatus.COMPLETED
    for name in (
        "final_val_f1",
        "final_val_loss",
        "final_test_acc",
        "last_val_f1",
        "best_val_f1_across_epochs",
        "param_count",
        "active_param_count",
        "flops_per_token",
        "train_tokens_per_second",
        "total_training_time_seconds",
        "inference_latency_ms_batch_p95",
        "peak_memory_mb",
    ):
        assert record.value(name) is not None, name
    assert record.value("active_param_count") < record.value("param_count")
    config = json.loads(record.full_config_json)
    assert config["model_params"]["top_k"] == 2  # defaults are filled in
    assert config["training_params"]["precision"] == "fp32"  # auto is decided
    assert store.config_schema(record.experiment_id)["properties"]["epochs"]["minimum"] == 1
    steps = store.history(record.experiment_id, "val_loss").steps
    assert list(steps) == [7, 14]
    folder = store.artifact_dir / record.experiment_id
    assert sorted(path.name for path in folder.iterdir()) == ["best.safetensors", "run.log"]
    assert "step 14/14" in folder.joinpath("run.log").read_text()


def test_what_is_recorded_is_not_run_again_unless_asked(tmp_path, store):
    first = run(prepared(tmp_path), store, Nobody())
    renamed = run(prepared(tmp_path, experiment_name="other name"), store, Nobody())
    assert (renamed.action, renamed.record.experiment_id) == ("skipped", first.record.experiment_id)
    again = run(prepared(tmp_path), store, Nobody(), again=True)
    assert again.record.experiment_id != first.record.experiment_id
    same = {"final_val_loss", "final_test_f1", "last_val_loss"}
    assert {n: again.record.value(n) for n in same} == {n: first.record.value(n) for n in same}
    other_seed = run(prepared(tmp_path).with_seed(1), store, Nobody())
    assert other_seed.action == "ran"
    assert other_seed.record.config_hash == first.record.config_hash
    assert other_seed.record.value("final_val_loss") != first.record.value("final_val_loss")


class InterruptAt(Nobody):
    """Sends this process the signal of Ctrl-C once training has come to a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def progress(self, now: Progress) -> None:
        import os
        import signal

        if now.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_run_continues_to_the_same_result(tmp_path, store, monkeypatch):
    monkeypatch.setattr("research_eval.training.train.PROGRESS_INTERVAL_S", 0.0)
    with pytest.raises(StoppedError):
        run(prepared(tmp_path), store, InterruptAt(9))
    (interrupted,) = store.runs()
    assert interrupted.status is RunStatus.INTERRUPTED
    outcome = run(prepared(tmp_path), store, Nobody())
    assert outcome.action == "resumed"
    assert outcome.record.experiment_id == interrupted.experiment_id
    assert (outcome.record.status, outcome.record.attempt) == (RunStatus.COMPLETED, 2)
    whole = run(prepared(tmp_path), store, Nobody(), again=True).record
    for name in ("final_val_loss", "final_test_loss", "last_val_loss", "train_loss"):
        assert outcome.record.value(name) == whole.value(name), name
    parts = store.history(interrupted.experiment_id, "val_loss")
    unbroken = store.history(whole.experiment_id, "val_loss")
    assert list(parts.steps) == list(unbroken.steps)
    assert list(parts.values) == list(unbroken.values)


def test_divergence_is_recorded_with_its_step(tmp_path, store):
    config = {"optimizer_params": {"name": "sgd", "lr": 1e30, "grad_clip_norm": None}}
    with pytest.raises(DivergedError):
        run(prepared(tmp_path, **config), store, Nobody())
    (record,) = store.runs()
    assert record.status is RunStatus.DIVERGED
    assert "step" in record.error


BROKEN_MODEL = """
from torch import nn
class Broken(nn.Module):
    def __init__(self, params, context):
        super().__init__()
        self.layer = nn.Linear(params.embed_dim, params.embed_dim)
    def forward(self, batch):
        raise ZeroDivisionError("by design")
"""


def test_a_failing_model_leaves_its_traceback_and_source(tmp_path, store):
    tmp_path.joinpath("broken.py").write_text(BROKEN_MODEL)
    config = {"model_type": "./broken.py:Broken", "model_params": {"embed_dim": 8, "num_heads": 2}}
    with pytest.raises(RunError, match="ZeroDivisionError: by design"):
        run(prepared(tmp_path, **config), store, Nobody())
    (record,) = store.runs()
    assert record.status is RunStatus.FAILED
    assert "raise ZeroDivisionError" in record.error
    (source,) = [a for a in store.artifacts(record.experiment_id) if a.kind == "plugin"]
    assert store.artifact_dir.joinpath(source.path).read_text() == BROKEN_MODEL


LEAKY_MODEL = """
import torch
from torch import nn
from research_eval.spec import BodyOutput
class Leaky(nn.Module):
    '''Adds to each position the embedding of the next one.'''
    def __init__(self, params, context):
        super().__init__()
        self.mix = nn.Linear(params.embed_dim, params.embed_dim)
    def forward(self, batch):
        return BodyOutput(self.mix(torch.roll(batch.hidden_BLD, -1, dims=1)))
"""


def test_a_model_that_reads_the_future_is_flagged_beside_its_score(tmp_path, store):
    tmp_path.joinpath("leaky.py").write_text(LEAKY_MODEL)
    outcome = run(
        prepared(
            tmp_path,
            model_type="./leaky.py:Leaky",
            model_params={"embed_dim": 16, "num_heads": 2},
            dataset_name="markov",
            epochs=12,
            optimizer_params={"lr": 1e-2},
        ),
        store,
        Nobody(),
    )
    assert "below_loss_floor" in outcome.record.flags


def test_a_router_that_does_not_learn_is_declared(tmp_path, store):
    model = {**TINY["model_params"], "router": "hash"}
    outcome = run(prepared(tmp_path, model_params=model), store, Nobody())
    assert "router_not_learned" in outcome.record.flags
    assert not run(prepared(tmp_path), store, Nobody()).record.flags


@pytest.mark.parametrize(
    ("changed", "because"),
    [({"router": "expert_choice"}, "experts pick"), ({"capacity_factor": 1.0}, "others fill")],
)
def test_what_the_parameters_waive_stands_beside_the_scores(tmp_path, store, changed, because):
    model = {**TINY["model_params"], **changed}
    outcome = run(prepared(tmp_path, model_params=model), store, Nobody())
    assert because in outcome.record.flags["waives_batch_independent"]


def test_checkpoints_are_kept_as_asked(tmp_path, store):
    kept = {}
    for keep in ("none", "last", "both"):
        training = {"device": "cpu", "keep_checkpoints": keep}
        record = run(
            prepared(tmp_path, training_params=training), store, Nobody(), again=True
        ).record
        kept[keep] = sorted(
            Path(a.path).name
            for a in store.artifacts(record.experiment_id)
            if a.kind == "checkpoint"
        )
    best, last = "best.safetensors", "last.safetensors"
    assert kept == {"none": [], "last": [last], "both": [best, last]}


def test_a_monitor_that_the_task_does_not_have_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"val_perplexity.*known: val_loss, val_f1, val_acc"):
        prepared(tmp_path, training_params={"monitor": "val_perplexity:min"})


def test_a_plan_counts_what_a_run_will_do(tmp_path, store):
    made = prepared(tmp_path)
    planned = plan(made)
    record = run(made, store, Nobody()).record
    assert planned.steps == 14
    assert planned.param_count == record.value("param_count")
    assert planned.tokens == record.value("tokens_seen") == 2 * 200 * 6
    assert planned.flops == pytest.approx(record.value("train_flops"))
    checkpoint = store.artifact_dir / record.experiment_id / "best.safetensors"
    assert planned.disk_bytes > checkpoint.stat().st_size


KILLED = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_execute import TINY, prepared
from research_eval.execute import run
from research_eval.store import Store
from research_eval.training import train
from research_eval.training.progress import Nobody
train.PROGRESS_INTERVAL_S = 0.0
class Kill(Nobody):
    def progress(self, now):
        if now.step == 9:
            os.kill(os.getpid(), signal.SIGKILL)
folder = Path({folder!r})
with Store.open(folder / "runs.db", create=True) as store:
    run(prepared(folder), store, Kill())
"""


def test_a_killed_run_is_lost_and_the_same_call_continues_it(tmp_path):
    script = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    killed = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    with Store.open(tmp_path / "runs.db") as store:
        (record,) = store.runs()
        assert record.status is RunStatus.LOST
        outcome = run(prepared(tmp_path), store, Nobody())
        assert (outcome.action, outcome.record.experiment_id) == ("resumed", record.experiment_id)
        whole = run(prepared(tmp_path), store, Nobody(), again=True).record
        assert outcome.record.value("final_test_loss") == whole.value("final_test_loss")
        assert list(store.history(record.experiment_id, "val_loss").steps) == [7, 14]

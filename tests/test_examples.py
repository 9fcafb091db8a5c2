"""Every example runs, in a reduced form; and every architecture has one on parity."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from research_eval import MODELS_MAP, run
from research_eval.records import RunStatus
from research_eval.store import Store

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples" / "configs").glob("*.json"))

SMALL = (
    "batch_size=16",
    "model_params.embed_dim=8",
    "model_params.num_heads=2",
    "model_params.num_layers=1",
    "training_params.max_steps=2",
    "training_params.device=cpu",
)
FEW_ROWS = {
    "parity": ("dataset_params.num_samples=100", "dataset_params.val_samples=20"),
    "ag_news": ("dataset_params.train_samples=100", "dataset_params.val_samples=20"),
    # Its whole text is tokenised before rows are chosen: 10 s with gpt2, 1 s with bytes.
    "wikitext-2": (
        "dataset_params.train_samples=4",
        "dataset_params.val_samples=2",
        "dataset_params.tokenizer=byte",
    ),
    "tiny_shakespeare": ("dataset_params.train_samples=4", "dataset_params.val_samples=2"),
}


def tree(file):
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_example_runs(file, request, monkeypatch, tmp_path):
    data = tree(file)["dataset_name"]
    few = FEW_ROWS[data]
    if data != "parity":
        monkeypatch.setenv("RESEARCH_EVAL_DATA", str(request.getfixturevalue("shared_data")))
        few = (*few, "dataset_params.test_samples=20")
    record = run(file, overrides=[*SMALL, *few], db=tmp_path / "runs.db")
    assert record.status is RunStatus.COMPLETED
    assert record.value("final_val_loss") > 0
    assert record.value("final_test_loss") > 0


def test_every_model_has_an_example_on_parity_at_the_reference_setting():
    on_parity = {
        t["model_type"]: t for t in map(tree, EXAMPLES) if "_parity" in t["experiment_name"]
    }
    assert set(on_parity) == set(MODELS_MAP)
    for example in on_parity.values():
        assert (example["epochs"], example["batch_size"]) == (10, 64)
        assert example["optimizer_params"]["lr"] == 1e-3
        assert example["scheduler_params"]["name"] == "cosine_warmup"
        sizes = {"num_samples": 20000, "val_samples": 4000, "seq_len": 16, "vocab_size": 8}
        assert example["dataset_params"] == sizes


def test_the_script_that_is_tracked():
    script = Path(__file__).resolve().parents[1] / "examples" / "track.py"
    command = [sys.executable, "-W", "error", str(script), "--steps", "50", "--lr", "0.2"]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    assert told.stderr == ""
    with Store.open("experiment_results.db", mode="ro") as store:
        record = store.run("last")
    assert record.experiment_id in told.stdout
    assert json.loads(record.full_config_json) == {"lr": 0.2, "steps": 50, "seed": 0}
    assert record.metrics["train/loss"].count == 50
    assert record.value("final/loss") < 1

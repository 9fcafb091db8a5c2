"""The WikiText-2 study: its files work on a made-up text, and its models cost the same."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from research_eval import run, track
from research_eval.metrics import EQUAL_COST
from research_eval.records import RunStatus

STUDY = Path(__file__).resolve().parents[1] / "examples" / "studies" / "wikitext2"
NAMES = sorted(file.stem for file in STUDY.glob("*.json"))
COST = json.loads((STUDY / "dense_4x128.json").read_text())["origin"]["match"]["target"]
WORDS = [f"w{number}" for number in range(4095)]
FEW = (
    "batch_size=2",
    "dataset_params.val_samples=2",
    "dataset_params.test_samples=2",
    "training_params.max_steps=2",
    "training_params.eval_every=1",
    "training_params.keep_checkpoints=none",
)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return a copy of the study with a tokenizer of as many tokens and a text of its words."""
    folder = tmp_path / "study"
    shutil.copytree(STUDY, folder)
    vocabulary = {word: number for number, word in enumerate(["<end>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    made.save_pretrained(folder / "bpe4096")
    data = tmp_path / "data" / "wikitext-2"
    data.mkdir(parents=True)
    for split, start in (("train", 0), ("validation", 1500), ("test", 3000)):
        lines = ["", f" = {split} = \n", "", " ".join(WORDS[start : start + 900]) + "\n"]
        pq.write_table(pa.table({"text": lines}), data / f"{split}-00000-of-00001.parquet")
    monkeypatch.setenv("RESEARCH_EVAL_DATA", str(data.parent))
    monkeypatch.setenv("RESEARCH_EVAL_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_configurations_run_and_cost_the_same(study, name):
    record = run(study / f"{name}.json", overrides=FEW, db=study / "runs.db")
    assert record.status is RunStatus.COMPLETED
    assert record.value("flops_per_token") == pytest.approx(COST, rel=EQUAL_COST)


def test_the_report_says_what_the_runs_say(tmp_path):
    """Made-up losses: a base for each configuration, a tenth of a nat less per doubling."""
    for name in NAMES:
        for experts in (2, 4, 8, 16) if name in ("gnn_moe_2x8", "gnn_moe_sum") else (8,):
            for seed in range(3):
                base = {"gnn_moe_2x8": 5.0, "moe_top2": 4.0}.get(name, 5.5)
                record(tmp_path / "runs.db", name, seed, experts, base - 0.1 * math.log2(experts))
    command = [sys.executable, "-W", "error", STUDY / "report.py", "runs.db", "out"]
    told = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert told.stderr == ""

    costs = pd.read_csv(tmp_path / "out" / "equal_cost.csv")
    assert (costs["name"][0], costs["val loss"][0]) == ("moe_top2", pytest.approx(3.7))
    assert sorted(costs["name"]) == NAMES
    assert (costs["n"] == 3).all()
    contrasts = pd.read_csv(tmp_path / "out" / "contrasts.csv").set_index("contrast")
    assert contrasts["nats"]["gnn_moe_2x8 - moe_top2"] == pytest.approx(1)
    assert contrasts["nats"]["gnn_moe_2x8 - gnn_moe_sum"] == pytest.approx(-0.5)
    assert (contrasts["high"] - contrasts["low"]).min() > 0
    experts = pd.read_csv(tmp_path / "out" / "experts.csv")
    assert experts["experts"].tolist() == [2, 4, 8, 16] * 3
    trends = pd.read_csv(tmp_path / "out" / "trends.csv")
    assert trends["nats per doubling"][:2].tolist() == pytest.approx([-0.1, -0.1])
    assert (tmp_path / "out" / "wikitext2.png").stat().st_size > 10_000


def test_a_report_without_its_runs_says_what_to_run(tmp_path):
    def told(database):
        command = [sys.executable, "-W", "error", STUDY / "report.py", database, "out"]
        return subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)

    nothing = told("nothing.db")
    assert (nothing.returncode, nothing.stderr.count("\n")) == (1, 1)
    assert nothing.stderr.startswith("error: there is no database")
    for name in NAMES:
        for experts in (2, 4, 8, 16) if name in ("gnn_moe_2x8", "gnn_moe_sum") else (8,):
            if (name, experts) != ("gnn_moe_sum", 4):
                record(tmp_path / "runs.db", name, 0, experts, 5.0)
    part = told("runs.db")
    assert part.stderr.startswith("error: no completed run of gnn_moe_sum with 4 experts;")
    record(tmp_path / "runs.db", "gnn_moe_sum", 0, 4, 5.0)
    record(tmp_path / "runs.db", "goe", 1, 4, 5.0)
    uneven = told("runs.db")
    assert "lack seeds that others have" in uneven.stderr
    assert not (tmp_path / "out").exists()


def record(database, name, seed, experts, loss):
    noise = 0.01 * (seed - 1) * (1 + len(name) / 100)
    config = {"model_params": {"num_experts": experts, "num_layers": 2}}
    with track(name, config=config, db=database, project="wikitext2", seed=seed) as one:
        one.log({"final_val_loss": loss + noise, "final_val_perplexity": math.exp(loss + noise)})


def test_both_protocols_are_scored_by_both(study):
    small = ("model_params.embed_dim=8", "dataset_params.tokenizer=../bpe4096")
    settings = [*FEW[:1], *FEW[3:-1], *small]
    ids = [
        run(
            study / "protocols" / f"{name}.json", overrides=settings, db=study / "runs.db"
        ).experiment_id
        for name in ("theirs", "ours")
    ]
    command = [sys.executable, "-W", "error", "protocol.py", "runs.db", *ids]
    told = subprocess.run(command, cwd=study, check=True, capture_output=True, text=True)
    left_out, _, *rows = told.stdout.splitlines()
    assert left_out == "targets that are left out as token 0: 0"
    # One line of 900 words: cut to 127 targets, or packed with its title, which is no known word.
    targets = [int(row[32:41].replace(",", "")) for row in rows]
    assert targets[:2] == [127, 127]
    assert targets[2] == targets[3] > 900


@pytest.mark.parametrize("name", NAMES)
def test_configurations_differ_in_the_model_only(name):
    given = json.loads((STUDY / f"{name}.json").read_text(encoding="utf-8"))
    base = json.loads((STUDY / "gnn_moe_2x8.json").read_text(encoding="utf-8"))
    for key in ("dataset_params", "optimizer_params", "scheduler_params", "training_params"):
        assert given[key] == base[key]
    assert (given["batch_size"], given["experiment_name"]) == (base["batch_size"], name)

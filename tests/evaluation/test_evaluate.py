"""A recorded run evaluated again: what is recorded of it, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import research_eval
from research_eval.breakdown import COLUMNS
from research_eval.errors import ConfigError, DataError, PluginError, RunError, StoreError
from research_eval.evaluation import evaluate as module
from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.store.schema import flags
from research_eval.testing.runs import record as record_other
from research_eval.testing.runs import set_columns

PLUGIN = """
import torch
from research_eval.spec import BodyOutput

class Scaled(torch.nn.Module):
    def __init__(self, params, context):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, given):
        return BodyOutput(given.hidden_BLD * self.scale)
"""
PARITY = {
    "dataset_name": "parity",
    "dataset_params": {"num_samples": 300, "val_samples": 60, "test_samples": 50, "seq_len": 5},
}
TINY = {
    "epochs": 2,
    "batch_size": 32,
    "model_params": {"embed_dim": 8, "num_heads": 2, "num_layers": 2, "num_experts": 3},
    "training_params": {"device": "cpu", "keep_checkpoints": "best"},
    **PARITY,
}
PLAIN = {"embed_dim": 8, "num_heads": 2, "num_layers": 1}
TEXTS = [
    {"text": f"{word} {'very ' * (row % 7)}{row}", "label": word, "domain": f"site {row % 3}"}
    for row in range(120)
    for word in ("good", "bad")
]
FILES = {
    "dataset_name": "files",
    "dataset_params": {"path": "texts.jsonl", "domain_field": "domain", "max_length": 48},
}
CONFIGS = {
    "moe": TINY | {"model_type": "moe"},
    "plugin": TINY | {"model_type": "./scaled.py:Scaled", "model_params": PLAIN},
    "texts": TINY | FILES | {"model_type": "goe", "epochs": 1},
    "lm": TINY
    | {"model_type": "goe", "epochs": 1, "dataset_name": "files"}
    | {"dataset_params": FILES["dataset_params"] | {"task": "language_modeling"}},
    "bare": TINY
    | {"model_type": "dense", "model_params": PLAIN}
    | {"training_params": {"device": "cpu", "keep_checkpoints": "none"}},
}
DB = "experiment_results.db"

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder in which one run of each configuration was made."""
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "scaled.py").write_text(PLUGIN)
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, TEXTS)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, config in CONFIGS.items():
            research_eval.run({"experiment_name": name, **config})
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of that folder, which a test may change."""
    copy = tmp_path / "work"
    shutil.copytree(made, copy)
    with Store.open(copy / DB) as store:  # the runs are to look for their files in the copy
        for record in store.runs():
            moved = record.env_details_json.replace(str(made), str(copy))
            set_columns(store, record.experiment_id, env_details_json=moved)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def runs():
    """The recorded runs, by name."""
    with Store.open(DB, mode="ro") as store:
        return {record.experiment_name: record for record in store.runs()}


@pytest.fixture
def refused():
    """Return a function that asserts that an evaluation is refused, with nothing recorded."""

    def check(error, match, run="moe", **options):
        with Store.open(DB, mode="ro") as store:
            before = len(store.runs())
        with pytest.raises(error, match=match):
            research_eval.evaluate(run, **options)
        with Store.open(DB, mode="ro") as store:
            assert len(store.runs()) == before

    return check


def children():
    with Store.open(DB, mode="ro") as store:
        return store.runs(filter='run_type == "evaluation"')


# -------------------------------------------------------------------------------- what is recorded


def test_the_scores_are_those_of_the_run_and_stand_in_the_table(runs):
    run = runs["moe"]
    for split, prefix in (("validation", "final_val"), ("test", "final_test")):
        found = research_eval.evaluate(run, split=split)
        for score in ("f1", "acc", "loss"):
            recorded = run.value(f"{prefix}_{score}")
            assert found.record.value(f"eval_{score}") == pytest.approx(recorded, rel=1e-6)
        table = found.predictions()
        assert tuple(table.columns) == COLUMNS
        assert table["id"].tolist() == list(range(len(table)))
        assert (table["label"] == table["prediction"]).mean() == pytest.approx(
            run.value(f"{prefix}_acc")
        )
        assert table["loss"].mean() == pytest.approx(run.value(f"{prefix}_loss"), rel=1e-5)
        assert table["label"].cat.categories.tolist() == ["even", "odd"]
        assert table["probability"].between(0.5, 1).all()


def test_labels_are_those_of_the_data_row_by_row(runs):
    table = research_eval.evaluate(runs["moe"], split="test").predictions()
    labels = research_eval.load_data(runs["moe"], "test").labels_N
    assert table["label"].cat.codes.tolist() == labels.tolist()


def test_an_evaluation_is_a_child_that_nobody_takes_for_a_run(runs):
    found = research_eval.evaluate("moe", split="test").record
    assert (found.run_type, found.parent) == ("evaluation", runs["moe"].experiment_id)
    assert found.status is RunStatus.COMPLETED
    assert not any(name.startswith(("final_", "val_", "best_")) for name in found.metrics)
    assert (found.study, found.phase, found.group) == (None, None, None)
    assert found.params["split"] == "test"
    with Store.open(DB, mode="ro") as store:
        [kept] = store.artifacts(found.experiment_id)
        assert (kept.kind, kept.path) == (
            "predictions",
            f"{found.experiment_id}/predictions.parquet",
        )
        assert store.run("last").experiment_name == "bare"
    with pytest.raises(ConfigError, match=rf"is an evaluation .* evaluated, {found.parent}"):
        research_eval.load_model(found)


def test_an_evaluation_does_not_stand_for_the_run(runs):
    research_eval.evaluate("moe")
    config = {"experiment_name": "moe", **CONFIGS["moe"]}
    assert research_eval.run(config).experiment_id == runs["moe"].experiment_id


def test_a_repeated_evaluation_is_shown_and_not_made_again():
    first = research_eval.evaluate("moe")
    second = research_eval.evaluate("moe")
    assert (first.action, second.action) == ("ran", "skipped")
    assert second.record.experiment_id == first.record.experiment_id
    other = research_eval.evaluate("moe", split="test")
    third = research_eval.evaluate("moe", again=True)
    ids = {each.record.experiment_id for each in (first, other, third)}
    assert len(ids) == 3
    pd.testing.assert_frame_equal(first.predictions(), third.predictions())


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"other")])
def test_predictions_that_changed_or_vanished_are_made_anew(harm):
    first = research_eval.evaluate("moe")
    harm(first.path)
    second = research_eval.evaluate("moe")
    assert second.action == "ran"
    assert len(second.predictions()) == 60


def test_what_stands_beside_the_scores_of_the_run_stands_here_too(runs):
    run_id = runs["moe"].experiment_id
    with Store.open(DB) as store:
        set_columns(store, run_id, code_hash="other")
        with store._writing() as connection:
            row = {"experiment_id": run_id, "name": "router_not_learned", "reason": "a control"}
            connection.execute(flags.insert().values(row))
    found = research_eval.evaluate("moe", routing="random")
    known = {*runs["moe"].flags, "router_not_learned", "other_code"}
    assert set(found.record.flags) == known
    assert "though no router learned it" in found.verdict


# --------------------------------------------------------------------------------------- its table


def test_experts_are_the_shares_of_the_choices_by_layer():
    table = research_eval.evaluate("moe").predictions()
    shares_NPE = np.array(table["experts"].map(np.vstack).tolist())
    assert shares_NPE.shape == (60, 2, 3)
    np.testing.assert_allclose(shares_NPE.sum(axis=2), 1, rtol=1e-6)
    # 5 tokens take 2 of 3 experts each
    np.testing.assert_allclose(shares_NPE * 10, (shares_NPE * 10).round(), atol=1e-5)


def test_texts_have_domains_lengths_and_a_path():
    found = research_eval.evaluate("texts")
    table = found.predictions()
    data = research_eval.load_data("texts")
    assert table["length"].tolist() == data.lengths_N.tolist()
    assert table["domain"].cat.codes.tolist() == data.domains_N.tolist()
    details = json.loads(found.record.env_details_json)
    assert details["domain_names"] == table["domain"].cat.categories.tolist()
    rows = [found.record.value(f"eval_rows_domain{d}") for d in range(3)]
    assert rows == table["domain"].value_counts(sort=False).tolist()
    steps = np.array(table["experts"].map(np.vstack).tolist())
    assert steps.shape == (len(table), 2, 3)
    assert set(np.unique(steps)) == {0, 1}  # a sample is in one place


def test_a_language_model_has_losses_and_no_labels(runs):
    found = research_eval.evaluate("lm")
    table = found.predictions()
    assert table[["label", "prediction", "probability"]].isna().all(axis=None)
    loss = (table["loss"] * table["targets"]).sum() / table["targets"].sum()
    assert loss == pytest.approx(found.record.value("eval_loss"), rel=1e-5)
    for score in ("loss", "perplexity", "bits_per_byte"):
        recorded = runs["lm"].value(f"final_val_{score}")
        assert found.record.value(f"eval_{score}") == pytest.approx(recorded, rel=1e-6)
    shares = np.array(table["experts"].map(np.vstack).tolist())
    np.testing.assert_allclose(shares.sum(axis=2), 1, rtol=1e-5)
    assert research_eval.evaluate("lm", routing="random").verdict is not None


# ---------------------------------------------------------------------------------------- controls


@pytest.mark.parametrize("routing", ["random", "uniform", "shuffled"])
def test_a_control_is_compared_with_the_learned_routing_row_by_row(routing):
    found = research_eval.evaluate("moe", split="test", routing=routing)
    assert found.learned is not None
    assert found.learned.record.params["routing"] == "learned"
    for score, sign in (("f1", 1), ("loss", -1)):
        before, after = (each.record.value(f"eval_{score}") for each in (found.learned, found))
        cost = found.record.value(f"eval_routing_cost_{score}")
        assert cost == pytest.approx(sign * (before - after), abs=1e-6)
        low, high = (found.record.value(f"eval_routing_cost_{score}_{x}") for x in ("low", "high"))
        assert low <= cost <= high
    assert found.verdict.startswith(f"{routing} routing ")
    table, learned = found.predictions(), found.learned.predictions()
    assert table["label"].tolist() == learned["label"].tolist()
    assert not np.allclose(table["loss"], learned["loss"])
    again = research_eval.evaluate("moe", split="test", routing=routing, again=True)
    pd.testing.assert_frame_equal(table, again.predictions())
    assert found.verdict == research_eval.evaluate("moe", split="test", routing=routing).verdict


def test_rows_that_exchange_decisions_are_mixed_whatever_their_order():
    """Sorted by label, the rows of a batch would exchange decisions with their own kind."""
    network = research_eval.load_model("moe", device="cpu")
    data = research_eval.load_data("moe")
    seen = []

    class Seen(nn.Module):
        training = False

        def eval(self):
            return self

        def train(self, _mode):
            return self

        def __call__(self, ids_BL, mask_BL, labels):
            seen.extend(ids_BL.tolist())
            return network(ids_BL, mask_BL, labels)

    from contextlib import nullcontext

    from research_eval.evaluation.predicting import predict

    with Store.open(DB, mode="ro") as store:
        dataset = research_eval.recorded.recall("moe", store, device="cpu").prepared.dataset
    options = {"batch_size": 16, "device": torch.device("cpu"), "autocast": nullcontext}
    plain = predict(Seen(), dataset, data, **options).table
    mixed = predict(Seen(), dataset, data, mixed_by=3, **options).table
    assert seen[:60] == data.ids_NL.tolist() != seen[60:]
    assert sorted(seen[:60]) == sorted(seen[60:])
    assert plain["id"].equals(mixed["id"])
    assert plain["label"].to_pylist() == mixed["label"].to_pylist()
    np.testing.assert_allclose(plain["loss"], mixed["loss"], rtol=1e-5)


def test_routing_of_a_model_without_any_is_refused(refused):
    refused(ConfigError, "has no routing that could be replaced", "plugin", routing="random")


def test_the_words_of_python_are_checked(refused):
    refused(ConfigError, "there is no better routing; there is learned, random", routing="better")
    refused(ConfigError, "there is no split 'dev'; the splits are", split="dev")
    refused(StoreError, "did not keep its worst weights, only best", weights="worst")
    refused(ConfigError, "'cuda:7' is not on this machine", device="cuda:7")


# -------------------------------------------------------------------------------------- other data


def test_other_data_that_fit_are_evaluated_and_named():
    longer = {**PARITY, "dataset_params": {**PARITY["dataset_params"], "data_seed": 5}}
    Path("other.json").write_text(json.dumps({**longer, "model_type": "ignored"}))
    found = research_eval.evaluate("moe", dataset="other.json", split="train")
    assert len(found.predictions()) == 300
    assert found.record.params["dataset.dataset_params.data_seed"] == 5
    own = research_eval.evaluate("moe", split="train").record
    assert own.data_hash != found.record.data_hash
    assert research_eval.evaluate("moe", dataset=longer, split="train").action == "skipped"


def test_other_data_that_do_not_fit_are_refused_with_every_reason(refused):
    refused(
        ConfigError,
        r"task: .* vocabulary size: .* tokenizer: .*none, here it is byte; labels: .*even, odd, "
        r"here it is none; length: rows have up to 48 tokens, the network 5",
        dataset=FILES | {"dataset_params": CONFIGS["lm"]["dataset_params"]},
    )


@pytest.mark.parametrize(
    ("content", "error", "match"),
    [
        (None, ConfigError, "there is no file other.json"),
        ("{", ConfigError, "other.json"),
        ("{}", ConfigError, "dataset_name"),
        ('{"dataset_name": "parities"}', ConfigError, "did you mean 'parity'"),
        ('{"dataset_name": "parity", "dataset_params": {"x": 1}}', ConfigError, "unknown field"),
        ('{"dataset_name": "files", "dataset_params": {"path": "no.csv"}}', DataError, "no.csv"),
    ],
)
def test_a_file_that_describes_no_data_is_refused(refused, content, error, match):
    if content is not None:
        Path("other.json").write_text(content)
    refused(error, match, dataset="other.json")


# ------------------------------------------------------------------------------------ what is wrong


def test_runs_that_cannot_be_evaluated_are_refused(refused):
    refused(StoreError, "no run is called 'nobody'", "nobody")
    refused(StoreError, "did not keep its best weights, none", "bare")
    with Store.open(DB) as store:
        record_other(store, "tracked", {"loss": 1.0}, run_type="track")
    refused(ConfigError, "tracked was not made by `research-eval run`", "tracked")
    child = research_eval.evaluate("moe").record.experiment_id
    refused(ConfigError, rf"{child} is an evaluation", child)


def test_only_a_completed_run_is_evaluated(refused, runs):
    for status in ("FAILED", "RUNNING", "INTERRUPTED"):
        with Store.open(DB) as store:
            set_columns(store, runs["moe"].experiment_id, status=status)
        refused(ConfigError, f"is {status}; only a COMPLETED run")


def test_a_split_that_the_data_lack_is_named(refused):
    refused(DataError, "has no test split", "texts", split="test")
    refused(
        DataError, "has no test split", split="test", dataset={
            **PARITY, "dataset_params": {**PARITY["dataset_params"], "test_samples": 0}
        },
    )  # fmt: skip


def test_what_changed_since_training_is_refused(refused, runs, folder):
    Path("scaled.py").write_text(PLUGIN + "# changed\n")
    refused(PluginError, "scaled.py is not what run", "plugin")
    Path("texts.jsonl").unlink()
    refused(DataError, "texts.jsonl", "texts")
    [kept] = (folder / f"{DB}.artifacts" / runs["moe"].experiment_id).glob("*.safetensors")
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    refused(StoreError, "its sha256 differs")


def test_a_trial_of_a_search_is_tested_once_somebody_confirmed_it(refused, runs):
    trial = {"study": "s", "trial": 3}
    with Store.open(DB) as store:
        set_columns(store, runs["moe"].experiment_id, phase="search", **trial)
    refused(ConfigError, "is a trial of the search of study s, and a search never", split="test")
    assert research_eval.evaluate("moe", split="validation").action == "ran"
    with Store.open(DB) as store:
        record_other(store, "other", {}, phase="confirm", study="s", trial=4)
    refused(ConfigError, "a search never looks at test", split="test")
    with Store.open(DB) as store:
        record_other(store, "winner", {}, phase="confirm", **trial)
    assert research_eval.evaluate("moe", split="test").action == "ran"


def test_a_folder_that_cannot_be_made_is_told_and_nothing_recorded(refused, monkeypatch):
    monkeypatch.setattr(module.secrets, "token_hex", lambda _count: "taken")
    Path(f"{DB}.artifacts/taken").write_text("in the way")
    refused(StoreError, "cannot make the folder .*taken")


def test_an_evaluation_that_fails_is_recorded_as_such(monkeypatch):
    monkeypatch.setattr(module.secrets, "token_hex", lambda _count: "taken")
    Path(f"{DB}.artifacts/taken/predictions.parquet").mkdir(parents=True)
    with pytest.raises(RunError, match=r"run taken failed: StoreError: .* cannot be written"):
        research_eval.evaluate("moe")
    [child] = children()
    assert child.status is RunStatus.FAILED
    monkeypatch.undo()


# ----------------------------------------------------------------------------------------- latency


def _disturbed(experiment_id, is_so):
    with Store.open(DB) as store:
        set_columns(store, experiment_id, contended=is_so)


def test_latency_is_a_child_of_its_own_and_measured_once_per_machine():
    found = research_eval.evaluate("moe", latency=True)
    assert found.latency.run_type == "evaluation"
    assert found.latency.params["latency_of_batches"] == [1, 8, 32, 60]
    assert set(found.latency.metrics) == {
        f"eval_latency_ms_p{share}_batch{size}" for share in (50, 95) for size in (1, 8, 32, 60)
    }
    _disturbed(found.latency.experiment_id, False)
    again = research_eval.evaluate("moe", latency=True)
    assert again.latency.experiment_id == found.latency.experiment_id
    anew = research_eval.evaluate("moe", latency=True, again=True)
    assert anew.latency.experiment_id != found.latency.experiment_id


def test_a_latency_that_other_work_disturbed_is_measured_anew():
    disturbed = research_eval.evaluate("moe", latency=True)
    _disturbed(disturbed.latency.experiment_id, True)
    anew = research_eval.evaluate("moe", latency=True)
    assert anew.latency.experiment_id != disturbed.latency.experiment_id
    _disturbed(anew.latency.experiment_id, False)
    again = research_eval.evaluate("moe", latency=True)
    assert again.latency.experiment_id == anew.latency.experiment_id
    assert again.action == "skipped"  # the scores are no worse for it

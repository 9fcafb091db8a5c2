"""A recorded run is brought back: the same scores, or a reason why not."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

import research_eval
from research_eval.errors import ConfigError, DataError, PluginError, StoreError
from research_eval.store import Store
from research_eval.testing.runs import record as record_other
from research_eval.testing.runs import set_columns
from research_eval.training.batches import Batches
from research_eval.training.evaluate import evaluate

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
CONFIG = {
    "experiment_name": "tiny",
    "model_type": "./scaled.py:Scaled",
    "dataset_name": "parity",
    "epochs": 2,
    "batch_size": 64,
    "dataset_params": {"num_samples": 200, "val_samples": 40, "test_samples": 40, "seq_len": 6},
    "model_params": {"embed_dim": 8, "num_heads": 2, "num_layers": 1},
    "training_params": {"device": "cpu", "keep_checkpoints": "best"},
}
DB = "experiment_results.db"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which one run was made."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "scaled.py").write_text(PLUGIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        research_eval.run(CONFIG)
    return folder


@pytest.fixture
def record(finished, monkeypatch):
    """The run, in the folder where it was made, which is put back as it was afterwards."""
    monkeypatch.chdir(finished)
    kept = [finished / "scaled.py", *finished.rglob("*.safetensors")]
    before = {path: path.read_bytes() for path in kept}
    with Store.open(DB, mode="ro") as store:
        found = store.run("last")
    yield found
    for path, content in before.items():
        path.write_bytes(content)


def test_a_loaded_model_scores_on_loaded_data_what_was_recorded(record):
    network = research_eval.load_model("last", device="cpu")
    assert not network.training
    data = research_eval.load_data(record)
    batches = Batches(data, "classification", torch.device("cpu"))
    scores = evaluate(network, batches, batch_size=64, autocast=nullcontext).named("final_val")
    assert scores["final_val_loss"] == pytest.approx(record.value("final_val_loss"), rel=1e-6)
    assert scores["final_val_f1"] == record.value("final_val_f1")


def test_every_split_is_loaded(record):
    sizes = [len(research_eval.load_data(record, name)) for name in ("train", "validation", "test")]
    assert sizes == [200, 40, 40]


def test_weights_that_were_not_kept_are_named(record):
    with pytest.raises(StoreError, match=r"did not keep its last weights, only best; .*=last"):
        research_eval.load_model(record.experiment_id, weights="last")


def test_a_checkpoint_that_changed_or_vanished_is_refused(record):
    [path] = Path(f"{DB}.artifacts").rglob("best.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StoreError, match="its sha256 differs"):
        research_eval.load_model(record)
    path.unlink()
    with pytest.raises(StoreError, match="cannot be read: No such file"):
        research_eval.load_model(record)


def test_a_plugin_that_changed_or_vanished_is_told_with_its_copy(record):
    plugin = Path("scaled.py")
    plugin.write_text(PLUGIN + "# changed\n")
    with pytest.raises(PluginError, match=r"scaled.py is not what run .* own copy is .*scaled.py"):
        research_eval.load_model(record)
    plugin.unlink()
    with pytest.raises(ConfigError, match=r"there is no plug-in file .* own copy is .*scaled.py"):
        research_eval.load_data(record)


@pytest.fixture
def changed(record, tmp_path):
    """A copy of the store of which a test may change the record."""
    copy = tmp_path / "copy.db"
    shutil.copyfile(DB, copy)
    shutil.copytree(f"{DB}.artifacts", f"{copy}.artifacts")
    with Store.open(copy) as store:
        yield store, record.experiment_id


def test_what_means_something_else_today_is_refused(changed):
    store, run_id = changed
    set_columns(store, run_id, data_hash="other")
    with pytest.raises(DataError, match="the data is not what run"):
        research_eval.load_data(run_id, db=store.path)
    set_columns(store, run_id, config_hash="other")
    with pytest.raises(ConfigError, match="means something else to this version"):
        research_eval.load_model(run_id, db=store.path)


def test_a_tracked_run_has_no_model_here(changed):
    store, _ = changed
    record_other(store, "tracked", {})
    with pytest.raises(StoreError, match=r"did not keep its last weights, none"):
        research_eval.load_model("tracked", db=store.path)
    with pytest.raises(ConfigError, match="was not made by `research-eval run`"):
        research_eval.load_data("tracked", db=store.path)

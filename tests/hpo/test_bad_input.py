"""Wrong questions get a clear word, and nothing that was recorded is lost."""

import math
from pathlib import Path

import pytest

from research_eval.errors import ConfigError, StoreError
from research_eval.hpo import Study, StudySpec, optimize
from research_eval.hpo.remembering import recall
from research_eval.knobs import Uniform
from research_eval.store import Store

from .conftest import SPACE, recorded, states

LINE = {"x": Uniform(0.0, 1.0)}


def complaints(**asked):
    with pytest.raises(ConfigError) as caught:
        Study(StudySpec(**asked))
    return str(caught.value)


def test_all_mistakes_are_named_at_once():
    said = complaints(
        name="a/b",
        n_trials=0,
        seeds=0,
        sampler="tpee",
        objectives=("final_val_f1:best", "final_val_loss:max"),
        constraints=("param_count<5",),
    )
    for part in (
        "a/b",
        "n_trials",
        "seeds",
        "did you mean 'tpe'",
        "final_val_f1:best",
        "is min",
        "param_count<=5e6",
    ):
        assert part in said  # fmt: skip


@pytest.mark.parametrize(
    ("search", "part"),
    [
        ("optimizer_params.lr=1e-2:1e-4", "low"),
        ("optimizer_params.lr=0:1:log", "0 < low"),
        ("model_params.num_layers=0:3", "0 is not legal"),
        ("model_params.dropout=0.1:1.5", "1.5 is not legal"),
        ("model_params.num_layers=1:4:x", "is no step"),
        ("model_params.num_layer=1:4", "did you mean 'model_params.num_layers'"),
        ("model_params.activation", "no range is declared"),
        ("model_params.activation=relu,gelu", '"relu" is not legal'),
        ("dataset_params.seq_len=4:8", "data is never tuned"),
        ("seed=0:5", "--seeds"),
        ("model_type=moe,dense", "--model-type"),
        ("training_params.num_threads=1:2", "does not change results"),
        ("model_params[gpt].top_k=1,2", "'gpt' is no arm"),
    ],
)
def test_a_range_that_cannot_be_searched_is_named(search, part):
    assert part in complaints(arms=("dense",), search=(search,))


def test_two_ranges_for_one_parameter_contradict_each_other():
    twice = ("batch_size=16,32", "batch_size=64,128")
    assert "two ranges" in complaints(arms=("dense",), search=twice)


def test_a_base_that_sets_everything_leaves_nothing_to_search():
    search = tuple(
        f"{path}={value}"
        for path, value in {
            "batch_size": 32,
            "model_params.embed_dim": 32,
            "model_params.num_layers": 1,
            "model_params.num_heads": 2,
            "model_params.ff_factor": 2.0,
            "model_params.dropout": 0.0,
            "optimizer_params.lr": 0.001,
            "optimizer_params.weight_decay": 0.01,
            "optimizer_params.grad_clip_norm": 1.0,
            "scheduler_params.warmup_factor": 0.1,
        }.items()
    )
    assert "nothing is searched" in complaints(arms=("dense",), search=search)


def test_a_wrong_base_is_told_with_its_path():
    assert "epochs" in complaints(base={"epochs": 0}, arms=("dense",))
    assert "unknown" in complaints(arms=("dens",)) or "dens" in complaints(arms=("dens",))


def test_an_objective_that_no_trial_records_stops_the_study_with_what_there_is(search):
    def objective(trial):
        return {"accuracy": trial.params["x"]}

    with pytest.raises(ConfigError, match=r"records no 'acuracy'.*it records accuracy"):
        search(objective, LINE, objectives=["acuracy:max"])
    assert len(recorded()) == 1
    result = search(objective, LINE, n_trials=3, objectives=["accuracy:max"])
    assert states(result) == ["COMPLETED"] * 3


def test_an_objective_that_is_nowhere_finite_leaves_no_winner(search):
    result = search(lambda _: math.nan, LINE, n_trials=14)
    assert states(result) == ["DIVERGED"] * 14
    assert result.best == {}
    assert result.files == {}


def test_an_arm_whose_first_trials_all_fail_gets_no_more(search):
    def objective(trial):
        if trial.arm == "broken":
            raise RuntimeError("no such layer")
        return trial.params["x"]

    result = search(objective, LINE, n_trials=20, arms=("fine", "broken"))
    assert len([t for t in result.trials if t.arm == "fine"]) == 10
    assert len([t for t in result.trials if t.arm == "broken"]) == 3
    assert "no such layer" in result.closed["broken"]


def test_a_changed_space_is_said_and_keeps_earlier_trials_as_history(search, told):
    search(n_trials=6, sampler="random")
    narrow = SPACE | {"x": Uniform(0.5, 1.0)}
    result = search(n_trials=12, space=narrow, sampler="random")
    assert any("the space has changed: objective: x" in line for line in told.lines)
    assert len(result.trials) == 12
    assert all(trial.params["x"] >= 0.5 for trial in result.trials[6:])
    assert result.best["objective"].params["x"] >= 0.5


def test_who_only_reads_a_study_knows_its_history_too(search):
    def low_is_good(trial):
        return trial.params["x"]

    search(low_is_good, n_trials=6, sampler="random")
    high = SPACE | {"x": Uniform(0.9, 1.0)}
    result = search(low_is_good, n_trials=8, space=high, sampler="random")
    with Store.open("s.db", mode="ro") as store:
        (study,) = store.studies(result.name)
        read = recall(study, store.study_runs(result.name))
    assert read.best()["objective"].number == result.best["objective"].number
    assert read.best()["objective"].params["x"] >= 0.9


def test_a_study_of_other_data_is_refused(search):
    search(n_trials=2)

    def other(trial):
        return trial.params["x"]

    with pytest.raises(ConfigError, match="choose another --study-name"):
        search(other, n_trials=4)
    assert len(recorded()) == 2


def test_a_store_that_cannot_be_written_is_told_before_anything_runs(search):
    Path("s.db").mkdir()
    with pytest.raises(StoreError):
        search(n_trials=2)


def test_more_workers_than_memory_are_refused(search):
    with pytest.raises(ConfigError, match="fits"):
        search(workers=1_000_000)
    assert list(Path().iterdir()) == []


def test_a_gpu_that_is_not_there_is_refused(search):
    with pytest.raises(ConfigError, match="no GPU 97"):
        search(gpus=[97])
    assert list(Path().iterdir()) == []


def test_a_file_that_is_no_base_is_told():
    with pytest.raises(ConfigError, match="there is no file"):
        optimize("missing.json")
    Path("list.json").write_text("[]")
    with pytest.raises(ConfigError, match="one JSON object"):
        optimize("list.json")

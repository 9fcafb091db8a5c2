"""A study that begins with what earlier runs found: learned from, not counted, not tried again."""

import json

import pytest

from research_eval.errors import ConfigError, FilterError
from research_eval.hpo import Study, StudySpec, optimize
from research_eval.knobs import Choice, Uniform
from research_eval.store import Store

from .conftest import SPACE, recorded, tried

GRID = {"a": Choice(1, 2, 4, 8), "b": Choice("x", "y")}


def height(trial):
    return trial.params["a"] + (trial.params["b"] == "x")


def test_what_another_study_tried_is_learned_from_and_not_tried_again(search, told):
    first = search(height, GRID, n_trials=5, name="first")
    second = search(height, GRID, n_trials=8, name="second", warm_start="first")
    assert len(second.trials) == 3, "the space has eight points, five of which are known"
    assert not set(tried(first)) & set(tried(second))
    assert any("5 of objective are known" in line for line in told.lines)
    assert {run.study for run in recorded("second")} == {"second"}


def test_known_scores_lead_the_sampler(search):
    """The same seed proposes other points where 25 earlier ones are known, and better ones."""
    search(n_trials=25, name="first", sampler="random", seed=7)
    cold = search(n_trials=10, name="cold", sampler="tpe")
    warm = search(n_trials=10, name="warm", sampler="tpe", warm_start='study == "first"')

    def total(result):
        return sum(trial.values[0] for trial in result.trials)

    assert total(warm) < total(cold)


def test_a_continued_study_keeps_what_it_was_told_at_first(search):
    search(n_trials=12, name="first", sampler="random")
    asked = {"sampler": "tpe", "warm_start": "first"}
    whole = search(n_trials=14, name="whole", **asked)
    search(n_trials=7, name="parts", **asked)
    search(n_trials=20, name="first", sampler="random")
    del asked["warm_start"]  # said once, it need not be said again
    assert tried(search(n_trials=14, name="parts", **asked)) == tried(whole)


def test_what_cannot_be_used_is_told_and_nothing_is_recorded(search):
    search(height, GRID, n_trials=2, name="first")
    with pytest.raises(ConfigError, match="of 2 runs none is a completed one of this space"):
        search(name="second", warm_start="first")  # another function over another space
    with pytest.raises(ConfigError, match="no study 'frist' to start from; did you mean 'first'"):
        search(height, GRID, name="second", warm_start="frist")
    with pytest.raises(FilterError):
        search(height, GRID, name="second", warm_start="first and")
    with Store.open("s.db") as store:
        assert [study.name for study in store.studies()] == ["first"]


BASE = {
    "dataset_name": "parity",
    "epochs": 1,
    "dataset_params": {"num_samples": 64, "seq_len": 6, "val_samples": 32, "test_samples": 0},
    "model_params": {"num_layers": 1, "num_heads": 2},
    "training_params": {"num_threads": 1, "device": "cpu"},
}


def test_a_configuration_that_differs_in_the_fixed_part_is_of_no_use():
    def study(name, **asked):
        search = ("model_params.embed_dim=8,16", "model_params.dropout=0.0")
        base = {**BASE, **asked.pop("base", {})}
        return optimize(
            base, arms=("dense",), search=search, name=name, n_trials=2, db="s.db", **asked
        )

    one = study("one")
    two = study("two", warm_start="one")
    assert not set(tried(one)) & set(tried(two))
    with pytest.raises(ConfigError, match="none is a completed one"):
        study("three", base={"batch_size": 32}, warm_start='study == "one"')
    with Store.open("s.db") as store:
        told = json.loads(store.studies("two")[0].spec_json)
    assert [each["params"] for each in told["known"]] == [dict(t.params) for t in one.trials]


def test_the_plan_says_so():
    from research_eval.cli._study_plan import in_words

    spec = Study(StudySpec(arms=("dense",), warm_start="first")).spec
    assert "warm start from first" in in_words(spec, ("dense",))


def test_a_range_that_has_changed_leaves_out_what_lies_outside(search):
    search(n_trials=6, name="first", sampler="random")
    narrow = SPACE | {"x": Uniform(0.5, 1.0)}
    outside = sum(run.params["params.x"] < 0.5 for run in recorded("first"))
    assert outside > 0
    result = search(n_trials=6, name="second", space=narrow, warm_start="first")
    assert len(result.trials) == 6
    assert all(trial.params["x"] >= 0.5 for trial in result.trials)

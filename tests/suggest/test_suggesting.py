"""From recorded runs to files that `run` accepts; what cannot be learnt from, and what is said."""

import json
import math
from pathlib import Path

import pytest

from research_eval.config import config_hash, load_file
from research_eval.errors import ConfigError, DataError
from research_eval.registry import MODELS_MAP
from research_eval.suggest.past import Question, read_past
from research_eval.suggest.suggesting import Request, write_files

from .conftest import BASE, moe


def written(lab, question=None, folder="out", **request):
    suggester = lab.suggester(question, **request)
    found = suggester.suggestions()
    return found, write_files(found, suggester.past, Path(folder))


# --------------------------------------------------------------------------------- what is written


def test_each_file_is_a_legal_configuration_that_says_why(lab):
    lab.history(12)
    recorded = {run.config_hash for run in lab.store.runs()}
    found, paths = written(lab)
    assert len(paths) == 6
    made = [load_file(path) for path in paths]
    hashes = [config_hash(each) for each in made]
    assert len(set(hashes)) == 6
    assert not set(hashes) & recorded
    for each, path, identity in zip(made, paths, hashes, strict=True):
        config = each.config
        assert path.stem == config.experiment_name
        assert config.experiment_name.startswith("lab_var")
        assert path.stem.endswith(identity[:8])
        assert config.origin.kind == "suggestion"
        assert config.origin.reason
        assert lab.store.run(config.origin.parent).status == "COMPLETED"
        assert config.dataset_params.seq_len == 6
        assert config.epochs == 2
    expected = made[0].config.origin.prediction
    assert expected["final_val_f1"] == pytest.approx(found[0].mean)
    assert 0 <= expected["probability_better"] <= 1


def test_what_is_said_to_change_is_what_changes(lab):
    lab.history(12)
    found, paths = written(lab, strategy="perturb")
    for each, path in zip(found, paths, strict=True):
        now = load_file(path).config.model_dump(mode="json")
        parent = json.loads(lab.store.run(each.parent).full_config_json)
        changed = {
            f"{section}.{name}": value
            for section in ("model_params", "optimizer_params", "scheduler_params")
            for name, value in now[section].items()
            if parent[section][name] != value
        }
        changed |= (
            {"batch_size": now["batch_size"]} if parent["batch_size"] != now["batch_size"] else {}
        )
        assert dict(each.changed) == changed


def test_the_same_runs_and_seed_give_the_same_files(lab):
    lab.history(12)
    first = [path.read_text() for path in written(lab, folder="a")[1]]
    again = [path.read_text() for path in written(lab, folder="b")[1]]
    other = [path.read_text() for path in written(lab, folder="c", seed=1)[1]]
    assert first == again != other


def test_a_suggestion_of_a_suggestion_keeps_the_first_name(lab):
    lab.run(BASE | {"experiment_name": "lab_var3_0123abcd"}, 0.5)
    assert {each.name.partition("_var")[0] for each in lab.suggest(strategy="perturb")} == {"lab"}


def test_the_best_are_varied_in_turn(lab):
    ids = [lab.run(moe(num_layers=n), value) for n, value in ((1, 0.1), (2, 0.9), (3, 0.5))]
    found = lab.suggest(strategy="perturb", top_n=2, variations=2)
    assert [each.parent for each in found] == [ids[1], ids[1], ids[2], ids[2]]


def test_a_loss_is_minimised(lab):
    ids = [
        lab.run(moe(num_layers=n), metrics={"final_val_loss": value})
        for n, value in ((1, 0.1), (2, 0.9))
    ]
    found = lab.suggest(Question(metric="final_val_loss"), strategy="perturb", top_n=1)
    assert {each.parent for each in found} == {ids[0]}


def test_another_seed_of_what_was_run(lab):
    """Two clear leaders that differ by less than the noise, in a space that is known well."""
    for n in range(14):
        lab.run(moe(num_layers=n % 4 + 1, num_experts=(4, 8, 16)[n % 3]), 0.2 + n / 1000)
    for seed, value in enumerate((0.89, 0.70)):
        lab.run(moe(num_layers=1, num_experts=8, dropout=0.1), value, seed=seed)
    lab.run(moe(num_layers=1, num_experts=4, dropout=0.1), 0.79)
    found, paths = written(lab, strategy="gp", n=8)
    again = [(f, p) for f, p in zip(found, paths, strict=True) if f.kind == "replicate"]
    assert again
    suggestion, path = again[0]
    config = load_file(path).config
    assert config.origin.kind == "replicate"
    assert suggestion.changed == {"seed": config.seed}
    parent = lab.store.run(suggestion.parent)
    assert config_hash(load_file(path)) == parent.config_hash
    assert config.seed != parent.seed


def test_suggestions_have_the_seed_of_the_search_and_not_of_what_confirmed_it(lab):
    for layers in (1, 2, 3):
        lab.run(moe(num_layers=layers), seed=7)
    for seed in (8, 9):
        lab.run(moe(num_layers=2), seed=seed)
    assert {each.config["seed"] for each in lab.suggest()} == {7}


def test_what_all_runs_share_stays(lab):
    lab.history(14)
    kept = lab.suggester().past.arms
    (arm,) = kept.values()
    assert "model_params.top_k" in arm.held
    assert "model_params.num_layers" not in arm.held
    assert {each.config["model_params"]["top_k"] for each in lab.suggest()} == {2}


def test_few_runs_leave_everything_open(lab):
    lab.history(3)
    assert len({json.dumps(each.changed) for each in lab.suggest()}) == 6
    assert any("model_params.top_k" in each.changed for each in lab.suggest(n=12))


def test_what_was_tried_beyond_a_declared_range_is_within_reach(lab):
    for lr in (0.02, 0.03, 0.05):
        lab.run(BASE | {"optimizer_params": {"lr": lr}, "model_params": {"embed_dim": 16}})
    (arm,) = lab.suggester().past.arms.values()
    assert arm.space.knobs["optimizer_params.lr"].high == 0.05
    assert arm.space.knobs["model_params.embed_dim"].options == (16, 32, 64, 128)


def test_architectures_are_told_apart_and_may_be_chosen(lab):
    lab.history(8)
    for layers in (1, 2, 3, 4):
        for lr in (1e-3, 2e-3):
            tree = {"model_type": "dense", "model_params": {"num_layers": layers}}
            lab.run(BASE | tree | {"optimizer_params": {"lr": lr}})
    assert {each.model_type for each in lab.suggest(n=12)} == {"dense", "moe"}
    only = lab.suggest(Question(models=("dense",)), n=4)
    assert {each.model_type for each in only} == {"dense"}


def test_a_plug_in_is_named_from_the_new_folder(lab):
    Path("mine").mkdir()
    source = "from research_eval.models.dense import SPEC as dense\nSPEC = dense\n"
    Path("mine/idea.py").write_text(source)
    lab.run(BASE | {"model_type": "./mine/idea.py:SPEC"}, 0.5)
    _, paths = written(lab, folder="deep/down", strategy="perturb", n=1)
    assert load_file(paths[0]).config.model_type == "../../mine/idea.py:SPEC"


# ------------------------------------------------------------------------------------------ limits


def test_no_more_parameters_than_allowed(lab):
    from research_eval.matching.cost import Counter
    from research_eval.prepare import prepare

    from .conftest import Silent

    lab.history(12)
    found, paths = written(lab, max_params=200_000, n=4)
    assert found
    for path in paths:
        prepared = prepare(load_file(path), Silent())
        counter = Counter(prepared.experiment, prepared.dataset)
        assert counter.on("params", prepared.experiment.config.model_params) <= 200_000


def test_a_budget_that_nothing_fits_gives_nothing(lab):
    lab.history(12)
    assert lab.suggest(budget=0.01) == []


def test_a_budget_needs_times(lab):
    lab.run(metrics={"total_training_time_seconds": None})
    with pytest.raises(DataError, match="no finished run tells how long one takes"):
        lab.suggest(budget=60)


# --------------------------------------------------------------------------------------- bad input


def test_no_runs(lab):
    with pytest.raises(DataError, match="no run to learn from; record some first"):
        lab.suggest()


def test_one_run(lab):
    lab.run()
    assert lab.suggester().learnt_from() == [
        "learnt from 1 configuration of moe on parity, for final_val_f1:max"
    ]
    found = lab.suggest()
    assert [each.kind for each in found] == ["spread"] * 4 + ["perturb"] * 2
    with pytest.raises(DataError, match=r"gp needs 2 or more finished configurations.*there are 1"):
        lab.suggest(strategy="gp")


@pytest.mark.parametrize("status", ["FAILED", "DIVERGED", "INTERRUPTED"])
def test_only_runs_that_came_to_nothing(lab, status):
    for n in (1, 2, 3):
        lab.run(moe(num_layers=n), math.nan if status == "DIVERGED" else None, status=status)
    assert {each.kind for each in lab.suggest()} == {"spread"}
    with pytest.raises(DataError, match="perturb needs 1 or more finished"):
        lab.suggest(strategy="perturb")


def test_a_run_that_failed_is_not_suggested_again(lab):
    tree = BASE | {"model_type": "dense"}
    lab.run(tree, status="FAILED", value=None)
    past = lab.suggester().past
    assert past.tried[0].outcome == "unknown"


def test_old_configurations_whose_keys_are_gone(lab):
    lab.history(4)
    old = json.loads(lab.store.runs()[0].full_config_json)
    old["model_params"]["warp"] = 9
    lab.run(full_config_json=json.dumps(old), config_hash="old")
    past = lab.suggester().past
    assert len(past.tried) == 4
    (said,) = past.left_out
    assert "1 run left out: not legal here any more: model_params.warp: unknown field" in said


def test_a_model_that_is_no_longer_installed(lab):
    lab.history(3)
    tree = json.loads(lab.store.runs()[0].full_config_json) | {"model_type": "gone"}
    lab.run(full_config_json=json.dumps(tree), config_hash="gone", model_type="gone")
    assert "model_type" in lab.suggester().past.left_out[0]
    with pytest.raises(DataError, match=r"no run is left to learn from: 1 run left out.*gone"):
        lab.suggest(Question(models=("gone",)))


def test_other_code_is_not_pooled_in_silence(lab):
    lab.history(3)
    lab.run(moe(num_layers=3, dropout=0.3), 0.99, code_hash="other")
    past = lab.suggester().past
    assert len(past.tried) == 3
    assert past.left_out == ("1 run left out: made by other code (--any-code takes them too)",)
    assert len(lab.suggester(Question(any_code=True)).past.tried) == 4


def test_other_data_is_not_pooled_in_silence(lab):
    lab.history(3)
    lab.run(moe(num_layers=3, dropout=0.3), 0.99, data_hash="other")
    lab.run(BASE | {"epochs": 50}, 0.99)
    past = lab.suggester().past
    assert len(past.tried) == 3
    assert past.left_out == ("2 runs left out: trained on other terms (data, epochs)",)


def test_a_metric_that_is_not_finite_counts_as_diverged(lab):
    lab.run(moe(num_layers=1), math.nan)
    lab.run(moe(num_layers=2), 0.5)
    assert [each.outcome for each in lab.suggester().past.tried] == ["diverged", "completed"]


def test_seeds_of_a_configuration_are_one(lab):
    lab.run(value=0.4, seed=0)
    lab.run(value=0.6, seed=1)
    (only,) = lab.suggester().past.tried
    assert only.loss == pytest.approx(-0.5)
    assert only.run == "run0002"


def test_a_pruned_run_counts_with_its_last_value(lab):
    lab.run(status="PRUNED", value=None, metrics={"val_f1": 0.7})
    (only,) = lab.suggester().past.tried
    assert (only.outcome, only.loss) == ("pruned", -0.7)


def test_what_cannot_matter_is_not_suggested(lab):
    """Another value of it is another hash, and the same result."""
    for number in range(6):
        lab.run(moe(num_layers=number % 4 + 1, bias_update_rate=1e-3 * (number + 1)), 0.5)
    same = {lab.run(moe(embed_dim=32, bias_update_rate=rate), 0.6) for rate in (1e-4, 1e-2)}
    suggester = lab.suggester(n=6)
    assert [len(each.losses) for each in suggester.past.tried if each.run in same] == [2]
    usual = MODELS_MAP["moe"].params().bias_update_rate
    for each in suggester.suggestions():
        params = each.config["model_params"]
        assert "model_params.threshold" not in each.changed
        if params.get("balance", "aux") == "aux":
            assert params.get("bias_update_rate", usual) == usual


def test_ties(lab):
    for n in range(12):
        lab.run(moe(num_layers=n % 4 + 1, num_experts=(4, 8, 16)[n % 3]), 0.5)
    assert len(lab.suggest()) == 6


@pytest.mark.parametrize(
    ("question", "told"),
    [
        (Question(dataset="imdb"), "no run has the data set 'imdb'.*known: parity"),
        (Question(models=("dense",)), "no run has the architecture 'dense'.*known: moe"),
        (Question(metric="final_val_f2:max"), "no run has the metric 'final_val_f2'; did you mean"),
        (Question(metric="final_test_f1"), "never looks at the test split"),
        (Question(metric="final_val_f1:min"), "better is max"),
    ],
)
def test_a_name_that_is_not_there(lab, question, told):
    lab.run()
    with pytest.raises(ConfigError, match=told):
        lab.suggest(question)


def test_every_number_out_of_range_is_named():
    with pytest.raises(ConfigError) as error:
        Request(
            strategy="gpp",
            top_n=0,
            variations=0,
            n=0,
            magnitude=2,
            max_params=0,
            budget=-1,
            seed=-1,
        )
    assert len(error.value.issues) == 8


def test_evaluations_are_no_runs_to_learn_from(lab):
    lab.run()
    lab.run(moe(num_layers=4), 0.99, run_type="evaluation")
    assert len(read_past(lab.store, Question()).tried) == 1

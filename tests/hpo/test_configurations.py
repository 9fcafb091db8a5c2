"""Configurations: legal by construction, dealt to architectures, and trained."""

import json

import pytest

import research_eval
from research_eval.config import load_file, load_text
from research_eval.errors import DataError
from research_eval.hpo import Study, StudySpec, optimize
from research_eval.hpo import forecast as forecasting
from research_eval.hpo.configurations import Configurations
from research_eval.hpo.sampling import Sampler
from research_eval.prepare import prepare
from research_eval.records import RunStatus, leaves
from research_eval.registry import MODELS_MAP
from research_eval.store import Store
from research_eval.training.progress import Nobody

SMALL = {
    "dataset_name": "parity",
    "epochs": 2,
    "dataset_params": {"num_samples": 120, "seq_len": 6},
    "training_params": {"num_threads": 1},
}
TINY = ("model_params.embed_dim=8,16", "model_params.num_layers=1", "model_params.num_heads=2")


def sampled(spec, arm, number):
    """Return so many proposals for an arm, made legal."""
    problem = Configurations(spec)
    sampler = Sampler("random", {arm: problem.spaces[arm]}, problem.spec.parsed_objectives, 0)
    proposals = [sampler.propose(index, 0) for index in range(number)]
    return [problem.complete(arm, params, "name") for _, params in proposals]


@pytest.mark.parametrize("arm", sorted(MODELS_MAP))
def test_every_sampled_configuration_is_legal(arm, tmp_path):
    odd = ("model_params.embed_dim=24,36,60", "model_params.num_heads=2,4,5,7,8")
    for candidate in sampled(StudySpec(arms=(arm,), search=odd), arm, 60):
        config = load_text(candidate.config_json, base_dir=tmp_path).config
        assert config.model_params.embed_dim % config.model_params.num_heads == 0
        recorded = json.loads(candidate.config_json)["origin"]
        assert recorded["changed"] == candidate.params
        assert recorded["repairs"] == list(candidate.repairs)
        assert config.model_params.num_heads == candidate.params["model_params.num_heads"]


@pytest.mark.parametrize(
    ("data", "objective"),
    [
        ({"dataset_name": "parity"}, "final_val_f1:max"),
        ({"dataset_name": "addition"}, "final_val_f1:max"),
        (
            {"dataset_name": "addition", "dataset_params": {"task": "language_modeling"}},
            "final_val_loss:min",
        ),
        ({"dataset_name": "markov"}, "final_val_loss:min"),
    ],
)
def test_what_is_best_follows_from_the_task(data, objective):
    study = Study(StudySpec(base=data, arms=("dense",)))
    assert study.spec.objectives == (objective,)
    asked = StudySpec(base=data, arms=("dense",), objectives=("param_count:min",))
    assert Study(asked).spec.objectives == ("param_count:min",)


def test_repairs_are_made_and_told():
    search = ("model_params.num_experts=2,4", "model_params.top_k=1,2,4")
    candidates = sampled(StudySpec(arms=("moe",), search=search), "moe", 40)
    repaired = [c for c in candidates if "model_params.top_k=2" in c.repairs]
    assert repaired
    for candidate in candidates:
        params = candidate.params
        assert params["model_params.top_k"] <= params["model_params.num_experts"]


def test_what_the_base_fixes_is_never_repaired():
    base = {"model_params": {"top_k": 4}}
    spec = StudySpec(base=base, arms=("moe",), search=("model_params.num_experts=2,8",))
    for candidate in sampled(spec, "moe", 20):
        if candidate is not None:
            assert candidate.params["model_params.num_experts"] == 8
            assert json.loads(candidate.config_json)["model_params"]["top_k"] == 4


def test_what_cannot_matter_is_not_searched():
    def paths(base, *search):
        return Study(StudySpec(base=base, arms=("moe",), search=search)).spaces["moe"]

    assert "model_params.threshold" not in paths({})
    assert "model_params.threshold" in paths({"model_params": {"router": "threshold"}})
    assert "model_params.threshold" in paths({}, "model_params.router=softmax,threshold")
    assert "model_params.threshold" in paths({}, "model_params.threshold")


def test_what_does_not_matter_in_a_configuration_is_at_its_default_there():
    candidates = sampled(StudySpec(arms=("moe",)), "moe", 30)
    found = [(c.params["model_params.balance"], c.params["model_params.aux_loss_weight"])
             for c in candidates]  # fmt: skip
    default = MODELS_MAP["moe"].params().aux_loss_weight
    assert {weight for balance, weight in found if balance != "aux"} == {default}
    assert len({weight for balance, weight in found if balance == "aux"}) > 1


def test_what_the_base_sets_is_fixed_and_everything_else_declared_is_searched():
    study = Study(StudySpec(base={"model_params": {"embed_dim": 32}}, arms=("moe", "dense")))
    assert study.arms == ("moe", "dense")
    for arm in study.arms:
        assert "model_params.embed_dim" not in study.spaces[arm]
        assert "optimizer_params.lr" in study.spaces[arm]
        assert not any(path.startswith("dataset") for path in study.spaces[arm])
    assert "model_params.top_k" in study.spaces["moe"]
    assert "model_params.top_k" not in study.spaces["dense"]


def test_a_range_in_brackets_is_for_one_arm():
    search = ("model_params[moe].num_layers=1:2", "batch_size")
    spaces = Study(StudySpec(arms=("moe", "dense"), search=search)).spaces
    assert spaces["moe"]["model_params.num_layers"].high == 2
    assert spaces["dense"]["model_params.num_layers"].high == 4


def test_without_a_base_all_architectures_are_arms():
    assert Study(StudySpec()).arms == tuple(MODELS_MAP)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def trained(folder):
    """Return a small study of two architectures with its winners confirmed, and its runs."""
    arms = ("dense", "moe")
    asked = {"n_trials": 4, "arms": arms, "search": TINY, "confirm": 1, "name": "small"}
    result = optimize(SMALL, db=folder / "s.db", **asked)
    again = optimize(SMALL, db=folder / "s.db", **asked)
    assert [trial.values for trial in again.trials] == [t.values for t in result.trials]
    with Store.open(folder / "s.db", mode="ro") as store:
        return result, store.study_runs("small")


def test_trials_are_ordinary_recorded_experiments(trained):
    result, runs = trained
    assert [trial.arm for trial in result.trials] == ["dense", "moe", "dense", "moe"]
    search = [run for run in runs if run.phase == "search"]
    assert [run.trial for run in search] == [0, 1, 2, 3]
    for run in search:
        assert run.run_type == "optuna_trial"
        assert run.status is RunStatus.COMPLETED
        assert run.config_hash
        assert run.value("final_val_f1") is not None
    confirmed = [run for run in runs if run.phase == "confirm"]
    assert sorted(run.model_type for run in confirmed) == ["dense", "moe"]
    assert {run.seed for run in confirmed} == {1}


def test_only_winners_are_tested(trained, folder):
    result, runs = trained
    tested = {run.phase for run in runs if run.value("final_test_f1") is not None}
    assert tested == {"confirm"}
    winner = result.files["dense"]
    of_trial = [run.experiment_id for run in runs if run.model_type == "dense"]
    by_hand = research_eval.run(winner, db=folder / "s.db")
    assert by_hand.experiment_id not in of_trial
    assert by_hand.value("final_test_f1") is not None
    assert research_eval.run(winner, db=folder / "s.db").experiment_id == by_hand.experiment_id


def test_the_best_configurations_are_files_that_run_accepts(trained):
    result, _ = trained
    for arm, path in result.files.items():
        config = load_file(path).config
        assert config.model_type == arm
        best = result.best[arm].params["optimizer_params.lr"]
        assert config.optimizer_params.lr == best
        assert config.origin is None


def test_data_that_cannot_be_had_stops_the_study_and_records_nothing(tmp_path):
    base = {"dataset_name": "files", "dataset_params": {"path": "missing.csv"}}
    with pytest.raises(DataError):
        optimize(base, n_trials=3, arms=["dense"], db=tmp_path / "s.db")
    with Store.open(tmp_path / "s.db", mode="ro") as store:
        assert store.runs() == []


def test_a_forecast_varies_everything_that_changes_costs():
    ranges = ("model_params.num_heads=2", "model_params.embed_dim=8", "model_params.num_layers=2,3")
    spec = StudySpec(base=SMALL, arms=("moe",), search=ranges)
    problem = Configurations(spec)
    dataset = prepare(forecasting._experiment(problem, "moe", {}), Nobody()).dataset
    low, high = (
        forecasting._extreme(problem, "moe", dataset, end).experiment.config for end in (min, max)
    )
    space = problem.spaces["moe"].knobs
    for path in ("model_params.num_layers", "model_params.ff_factor", "batch_size"):
        ends = space[path].corners()
        values = [dict(leaves(each.model_dump(mode="json")))[path] for each in (low, high)]
        assert values == [min(ends), max(ends)], path
    assert low.model_params.moe_layers != "all"
    assert high.model_params.moe_layers == "all"
    assert low.optimizer_params.lr == high.optimizer_params.lr


def test_a_sample_that_takes_long_ends_early(monkeypatch):
    monkeypatch.setattr(forecasting, "LONGEST_SAMPLE_S", 0.0)
    search = ("model_params.embed_dim=8", "model_params.num_layers=1", "model_params.num_heads=2")
    problem = Configurations(StudySpec(base=SMALL, arms=("dense",), search=search))
    [found] = forecasting.forecast(problem, Nobody(), num_threads=1)
    assert found.smallest.seconds > 0
    assert found.largest.seconds > 0

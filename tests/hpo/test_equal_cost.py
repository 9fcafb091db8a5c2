"""Studies whose configurations all cost the same, whatever was sampled."""

import json

import pytest

from research_eval.config import load_text
from research_eval.errors import ConfigError, NoMatchError
from research_eval.hpo import Study, StudySpec
from research_eval.hpo.configurations import Configurations
from research_eval.hpo.sampling import Sampler
from research_eval.matching.cost import Counter
from research_eval.prepare import prepare
from research_eval.records import RunStatus
from research_eval.registry import MODELS_MAP
from research_eval.store import Store
from research_eval.training.progress import Nobody

SIZES = {"num_samples": 64, "val_samples": 16, "test_samples": 16, "seq_len": 6}
BASE = {"dataset_name": "parity", "dataset_params": SIZES, "epochs": 1}
FACTOR, WIDTH = "model_params.ff_factor", "model_params.embed_dim"


def proposals(spec, arm, number):
    """Return so many sampled points of an arm, and what became of each."""
    problem = Configurations(spec)
    sampler = Sampler("random", {arm: problem.spaces[arm]}, problem.spec.parsed_objectives, 0)
    points = [sampler.propose(index, 0)[1] for index in range(number)]
    return [(point, problem.complete(arm, point, "name")) for point in points]


@pytest.mark.parametrize("arm", sorted(MODELS_MAP))
@pytest.mark.parametrize("axis", ["active_params", "flops"])
def test_every_sampled_configuration_costs_what_is_asked(arm, axis, tmp_path):
    spec = StudySpec(base=BASE, arms=(arm,), match=f"{axis}=150k")
    for point, candidate in proposals(spec, arm, 5):
        made = load_text(candidate.config_json, base_dir=tmp_path)
        counter = Counter(made, prepare(made, Nobody()).dataset)
        cost = counter.on(axis, made.config.model_params)
        assert cost == pytest.approx(150_000, rel=0.01)
        told = made.config.origin.match
        assert (told.axis, told.target, told.reached) == (axis, 150_000, cost)
        assert FACTOR not in point
        assert FACTOR not in candidate.params
        solved = made.config.model_params.ff_factor
        assert solved == 4.0 or f"{FACTOR}={solved}" in candidate.repairs
        assert candidate.params[WIDTH] == made.config.model_params.embed_dim
        assert made.config.origin.changed == candidate.params
        assert made.config.origin.repairs == list(candidate.repairs)


def test_what_the_base_sets_is_not_moved():
    base = BASE | {"model_params": {"ff_factor": 2.0, "num_heads": 1}}
    spec = StudySpec(base=base, arms=("dense",), match="params=100k")
    for point, candidate in proposals(spec, "dense", 3):
        assert WIDTH not in point
        assert json.loads(candidate.config_json)["model_params"]["ff_factor"] == 2.0
        assert candidate.repairs


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"match": "active_params"}, "active_params=5M"),
        ({"match": "memory=5M"}, "known: active_params, flops, params, step_time"),
        ({"match": "params=0"}, "more than 0"),
        ({"match": "params=-5M"}, "write a number"),
        ({"match": "step_time=0.1"}, "step_time is measured"),
        ({"match": "params=5M", "search": (f"{FACTOR}=1:8",)}, f"{FACTOR} is what --match solves"),
        (
            {
                "match": "params=5M",
                "base": BASE | {"model_params": {"ff_factor": 1, "embed_dim": 8}},
            },
            "leave one of them open",
        ),
    ],
)
def test_a_cost_that_cannot_be_asked_is_refused_before_anything_is_recorded(fields, told, tmp_path):
    with pytest.raises(ConfigError) as error:
        Study(StudySpec(**{"base": BASE, "arms": ("dense",)} | fields), tmp_path / "s.db")
    assert told in str(error.value)
    assert not (tmp_path / "s.db").exists()


def test_a_cost_that_no_sample_can_have_names_the_nearest(tmp_path):
    spec = StudySpec(base=BASE, arms=("dense",), match="params=40", n_trials=2)
    with pytest.raises(NoMatchError, match=r"'dense' cannot cost 40 parameters: the nearest"):
        Study(spec, tmp_path / "s.db").run(workers=None)


def test_tuned_arms_cost_the_same_and_another_cost_is_another_study(tmp_path, told):
    place = tmp_path / "s.db"
    fields = {
        "base": BASE | {"training_params": {"max_steps": 2, "num_threads": 1}},
        "arms": ("dense", "moe"),
        "search": ("model_params.num_layers=1,2", "model_params.num_experts=4"),
        "sampler": "random",
    }
    Study(StudySpec(match="active_params=20k", n_trials=4, **fields), place).run(workers=None)
    with Store.open(place) as store:
        runs = store.runs(limit=None)
    assert [run.status for run in runs] == [RunStatus.COMPLETED] * 4
    costs = [run.value("active_param_count") for run in runs]
    assert costs == pytest.approx([20_000] * 4, rel=0.01)
    assert {run.model_type for run in runs} == {"dense", "moe"}
    again = StudySpec(match="active_params=30k", n_trials=6, **fields)
    Study(again, place).run(workers=None, audience=told)
    assert any("what is fixed has changed" in line for line in told.lines)

"""Equal cost: every pair of architectures, on every axis that is counted, and a clear word else."""

import random
from pathlib import Path

import pytest

from research_eval.config import validate
from research_eval.errors import ConfigError, NoMatchError, PluginError
from research_eval.knobs import Choice, Uniform
from research_eval.matching import timing
from research_eval.matching.arms import arm_of, match
from research_eval.matching.cost import Counter
from research_eval.matching.search import Point, Range, closest
from research_eval.matching.target import Target
from research_eval.metrics import EQUAL_COST
from research_eval.prepare import build_network, prepare
from research_eval.quantities import parse_amount
from research_eval.registry import MODELS_MAP
from research_eval.repair import check, repair
from research_eval.training.progress import Nobody

MODELS = sorted(MODELS_MAP)
COUNTED = ("params", "active_params", "flops")
PAIRS = [(given, made) for given in MODELS for made in MODELS if given != made]
SIZES = {"num_samples": 40, "val_samples": 8, "test_samples": 8}


def experiment(model="moe", **fields):
    tree = {"experiment_name": "given", "dataset_name": "parity", "dataset_params": SIZES}
    return validate(tree | {"model_type": model} | fields)


def drawn(knob, rng):
    """Return a value of a range, whole where the range is."""
    match knob:
        case Choice(options=options):
            return rng.choice(options)
        case Uniform(low=low, high=high) if isinstance(low, int):
            return rng.randint(low, high)
        case _:
            return rng.uniform(knob.low, knob.high)


def random_experiment(model, rng):
    """Return a legal configuration with every searched parameter of the model drawn."""
    kind = MODELS_MAP[model].params
    values = {name: drawn(knob, rng) for name, knob in sorted(kind.knobs().items())}
    values |= {
        "embed_dim": rng.choice((8, 16, 24, 32, 64, 128)),
        "activation": rng.choice(("gelu", "swiglu")),
        "positions": rng.choice(("learned", "rope", "none")),
    }
    values, _ = repair(kind, values)
    if values["positions"] == "rope" and (values["embed_dim"] // values["num_heads"]) % 2:
        values["positions"] = "none"
    data = rng.choice(
        (
            {"dataset_name": "parity", "dataset_params": SIZES | {"seq_len": rng.randint(4, 24)}},
            {"dataset_name": "copying", "dataset_params": SIZES},
            {"dataset_name": "markov", "dataset_params": SIZES | {"seq_len": rng.randint(4, 24)}},
        )
    )
    return experiment(model, model_params=values, **data)


def has_solution(counter, start, axis, target):
    """Look at every legal width, and in each for a feed-forward of the right cost."""
    for width in range(start.num_heads, 100_000, start.num_heads):
        if start.positions == "rope" and width // start.num_heads % 2:
            continue

        def cost(units, width=width):
            changes = {"embed_dim": width, "ff_factor": units / width}
            return counter.on(axis, start.model_copy(update=changes))

        if cost(1) > target * (1 + EQUAL_COST):
            return False
        low, high = 0, 1
        while cost(high) < target * (1 - EQUAL_COST):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (
                (middle, high) if cost(middle) < target * (1 - EQUAL_COST) else (low, middle)
            )
        if cost(high) <= target * (1 + EQUAL_COST):
            return True
    return False


def check_match(given, made, axis):
    """Assert that a match is one, or that there is none; return whether there is."""
    try:
        found = match(given, made, axis, timed=False)
    except NoMatchError:
        prepared = prepare(given, Nobody())
        start = arm_of(given, made, ()).experiment
        target = Counter(given, prepared.dataset).cost(given.config.model_params).on(axis)
        counter = Counter(start, prepared.dataset)
        assert not has_solution(counter, start.config.model_params, axis, target)
        return False
    costs = [true_costs(each)[axis] for each in (given, found.made)]
    assert abs(costs[1] / costs[0] - 1) <= EQUAL_COST
    assert [cost.on(axis) for cost in found.costs] == costs
    origin = found.made.config.origin
    assert (origin.match.target, origin.match.reached) == tuple(costs)
    params = found.made.config.model_params
    assert not check(type(params), params.model_dump())
    same = ("dataset_params", "optimizer_params", "scheduler_params", "training_params", "seed")
    assert all(getattr(found.made.config, n) == getattr(given.config, n) for n in same)
    return True


def true_costs(each):
    """Return what a network that is really built says."""
    prepared = prepare(each, Nobody())
    network = build_network(prepared)
    return {
        "params": network.param_count(),
        "active_params": network.active_param_count(),
        "flops": network.flops_per_token(prepared.dataset.max_length),
    }


CASES = [(given, made, axis) for given, made in PAIRS for axis in COUNTED]


def test_a_hundred_random_configurations_are_matched_wherever_a_match_exists():
    rng = random.Random(7)
    matched = 0
    for number in range(100):
        given, made, axis = CASES[number % len(CASES)]
        matched += check_match(random_experiment(given, rng), made, axis)
    assert matched >= 80


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("given", MODELS)
def test_random_configurations_are_matched_to_all_on_all_axes(given, seed):
    each = random_experiment(given, random.Random(f"{given} {seed}"))
    for made in MODELS:
        for axis in COUNTED:
            check_match(each, made, axis)


def test_what_both_have_is_carried_over_and_only_widths_are_moved():
    given = experiment(
        "moe",
        epochs=3,
        seed=5,
        model_params={"embed_dim": 32, "num_layers": 3, "num_experts": 4, "dropout": 0.1},
        optimizer_params={"name": "sgd", "lr": 0.2},
        training_params={"max_steps": 7},
    )
    found = match(given, "gnn_moe", "flops", timed=False)
    params = found.made.config.model_params
    assert (params.num_layers, params.num_experts, params.dropout) == (3, 4, 0.1)
    assert params.gnn_layers == 2  # its own default
    assert (found.made.config.epochs, found.made.config.seed) == (3, 5)
    assert found.made.config.optimizer_params == given.config.optimizer_params
    assert set(found.made.config.origin.changed) == {
        "model_type",
        "model_params.ff_factor",
        "model_params.embed_dim",
    }
    assert "num_experts" in found.carried
    assert "top_k" not in found.carried


def test_a_default_is_carried_over_where_the_other_one_has_another():
    assert experiment("goe_original").config.model_params.num_layers == 3
    found = match(experiment("dense"), "goe_original", "active_params", timed=False)
    assert found.made.config.model_params.num_layers == 2


def test_what_the_other_one_cannot_have_is_repaired_and_told():
    given = experiment("goe", model_params={"num_experts": 1})
    found = match(given, "moe", "flops", timed=False)
    assert found.made.config.model_params.top_k == 1
    assert found.made.config.origin.repairs == ["model_params.top_k=1"]


def test_the_parent_is_the_hash_that_a_run_of_the_given_configuration_records():
    given = experiment("moe", training_params={"precision": "auto"})
    found = match(given, "dense", "params", timed=False)
    assert found.made.config.origin.parent == prepare(given, Nobody()).config_hash
    assert found.made.config.origin.kind == "match"
    assert found.made.config.training_params == given.config.training_params


def test_the_feed_forward_is_moved_first_and_the_width_before_it_becomes_a_sliver():
    given = experiment("moe")
    alone = match(given, "dense", "active_params", timed=False).made.config.model_params
    assert alone.embed_dim == 64
    assert alone.ff_factor == pytest.approx(8, rel=0.05)
    # At width 128 each of the ten experts would have 0.4 times as many units as the model is wide.
    wide = experiment("dense", model_params={"embed_dim": 128})
    settings = ["model_params.num_experts=10"]
    found = match(wide, "moe", "params", settings=settings, timed=False)
    both = found.made.config.model_params
    assert both.embed_dim < 128
    assert both.ff_factor == pytest.approx(4, rel=0.3)


def test_a_parameter_that_is_set_is_not_moved():
    given = experiment("moe")
    settings = ["model_params.dim_feedforward_factor=2", "model_params.num_heads=1"]  # an alias
    found = match(given, "dense", "params", settings=settings, timed=False)
    assert found.made.config.model_params.ff_factor == 2
    assert found.made.config.model_params.embed_dim > 64
    assert found.made.config.origin.changed["model_params.dim_feedforward_factor"] == 2
    with pytest.raises(ConfigError, match="leave one of them open"):
        match(
            given, "dense", "params", settings=[*settings, "model_params.embed_dim=64"], timed=False
        )


@pytest.mark.parametrize(
    ("text", "value"),
    [("5M", 5e6), ("1.5G", 1.5e9), ("105.2 k", 105_200), ("7b", 7e9), ("2e6", 2e6), ("5_000", 5e3)],
)
def test_amounts_are_read_as_people_write_them(text, value):
    assert parse_amount(text) == pytest.approx(value)
    assert Target.parse(f"active_params={text}").value == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "M", "-5M", "5MB", "5 MM", "nan", "inf", "1e999", "five"])
def test_other_words_are_no_amounts(text):
    with pytest.raises(ValueError, match="5M"):
        parse_amount(text)
    with pytest.raises(ConfigError, match="active_params=5M"):
        Target.parse(f"params={text}")


def test_a_bracket_of_steps_is_searched_to_its_best_step():
    asked = []

    def cost_at(value):
        asked.append(value)
        return Point(value, 1000 + 77 * max(1, round(64 * value)))

    best = closest(cost_at, 20_000, Range(0, 4.0, float("inf")), exact=1e-4)
    units = min(range(1, 400), key=lambda n: abs(1000 + 77 * n - 20_000))
    assert best.best.cost == 1000 + 77 * units
    assert best.lacking is None
    assert len(asked) < 20
    assert closest(cost_at, 900, Range(0, 4.0, float("inf")), 1e-4).lacking == "below"
    assert closest(cost_at, 1e6, Range(0, 4.0, 8.0), 1e-4).lacking == "above"


def test_costs_without_weights_are_those_of_a_network_with_weights():
    rng = random.Random(3)
    for model in MODELS:
        each = random_experiment(model, rng)
        counter = Counter(each, prepare(each, Nobody()).dataset)
        cost = counter.cost(each.config.model_params)
        found = true_costs(each)
        assert {axis: cost.on(axis) for axis in COUNTED} == found
        assert all(p.is_meta for p in counter.network(each.config.model_params).parameters())
        assert {axis: counter.on(axis, each.config.model_params) for axis in COUNTED} == found


PLUGIN = """
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from research_eval.spec import BodyOutput, ModelSpec, TransformerParams


class Params(TransformerParams):
    width: Annotated[int, Field(ge=1, le=64)] = 8
    mode: str = "a"


class Mine(nn.Module):
    Params = Params

    def __init__(self, params, context):
        super().__init__()
        rates = [rate.item() for rate in torch.linspace(0, 1, params.num_layers)]
        assert len(rates) == params.num_layers  # needs numbers, which the meta device has not
        self.into = nn.Linear(params.embed_dim, params.width)
        self.out = nn.Linear(params.width, params.embed_dim)

    def forward(self, given):
        return BodyOutput(given.hidden_BLD + self.out(self.into(given.hidden_BLD)))


class Broken(nn.Module):
    def __init__(self, params, context):
        raise ValueError("not today")


def named(*scale):
    return ModelSpec(name="mine", params=Params, build=Mine, scale=scale)


OWN, NONE, WORD, MISSPELT, FLAT = (
    named("width"), named(), named("mode"), named("widht"), named("num_layers")
)
BROKEN = ModelSpec(name="broken", params=Params, build=Broken)
"""


@pytest.fixture
def plugin():
    Path("mine.py").write_text(PLUGIN)
    return "./mine.py:{}".format


def test_a_plug_in_names_what_is_moved_and_is_counted_by_running_it(plugin):
    given = experiment("dense", model_params={"embed_dim": 16, "num_layers": 1, "ff_factor": 1})
    for axis in COUNTED:
        assert check_match(given, plugin("OWN"), axis)
        changed = match(given, plugin("OWN"), axis, timed=False).made.config.origin.changed
        assert set(changed) == {"model_type", "model_params.width"}


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("NONE", ConfigError, "SPEC.scale names no field"),
        ("WORD", PluginError, "'mode', which is not a number"),
        ("MISSPELT", PluginError, "did you mean 'width'"),
        ("FLAT", NoMatchError, "it costs .* parameters, whatever num_layers"),
        ("BROKEN", PluginError, "ValueError: not today"),
        ("Mine", NoMatchError, "parameters, whatever ff_factor"),
    ],
)
def test_a_plug_in_that_cannot_be_scaled_is_told_so(plugin, name, error, told):
    settings = ["model_params.embed_dim=64"] if name == "Mine" else []
    given = experiment("moe")
    with pytest.raises(error, match=told):
        match(given, plugin(name), "params", settings=settings, timed=False)


def test_no_match_names_the_nearest_cost():
    given = experiment("dense", model_params={"embed_dim": 8, "num_layers": 1, "ff_factor": 0.5})
    with pytest.raises(
        NoMatchError, match=r"'gnn_moe' cannot cost \d+ parameters: the nearest"
    ) as told:
        match(given, "gnn_moe", "params", timed=False)
    assert "embed_dim=4" in str(told.value)


def test_a_configuration_that_cannot_be_built_is_told_with_its_reason():
    given = experiment("dense", model_params={"num_layers": 1})
    with pytest.raises(ConfigError, match="moe_layers"):
        match(given, "moe", "params", settings=["model_params.moe_layers=[5]"], timed=False)


def test_steps_of_both_are_timed_in_turns_on_the_same_rows(monkeypatch):
    """What is asserted is the logic; seconds are made up from the FLOPs."""
    given = experiment("moe", model_params={"embed_dim": 16, "num_layers": 1}, batch_size=8)
    order = []

    class Pretended(timing.Steps):
        def __init__(self, prepared):
            super().__init__(prepared)
            config = prepared.experiment.config
            counter = Counter(prepared.experiment, prepared.dataset)
            self.model = config.model_type
            self.seconds = 1e-8 * counter.on("flops", config.model_params)

        def take(self):
            assert super().take() > 0  # a real step
            order.append(self.model)
            return self.seconds * (1.3 if self.model == "dense" else 1.0)

    monkeypatch.setattr("research_eval.matching.arms.Steps", Pretended)
    monkeypatch.setattr(timing, "ENOUGH_S", 0.0)
    found = match(given, "dense", "step_time")
    mine, other = (cost.step_time for cost in found.costs)
    assert abs(other / mine - 1) <= 0.05
    assert found.costs[1].flops < 0.95 * found.costs[0].flops
    assert found.made.config.origin.match.axis == "step_time"
    assert order[-4:] == ["moe", "dense", "moe", "dense"]


def test_times_that_contradict_each_other_are_no_match(monkeypatch):
    given = experiment("moe", model_params={"embed_dim": 16, "num_layers": 1}, batch_size=8)
    calls = iter(range(1000))
    monkeypatch.setattr(
        "research_eval.matching.arms.race",
        lambda one, other: (1.0, 1.0 if one is other or next(calls) % 2 == 0 else 1.5),
    )
    with pytest.raises(NoMatchError, match="vary too much"):
        match(given, "dense", "step_time")

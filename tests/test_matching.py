"""Equal cost: every pair of architectures, on every axis that is counted, and a clear word else."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from research_eval.config import config_hash, validate
from research_eval.errors import ConfigError, NoMatchError, PluginError
from research_eval.knobs import Choice, Uniform
from research_eval.matching import Counter, Scaling, Target, match
from research_eval.matching.arms import _arm as arm_of
from research_eval.matching.cost import TOLERANCE
from research_eval.matching.search import Point, Range, closest
from research_eval.matching.timing import Steps, race
from research_eval.prepare import build_network, prepare
from research_eval.quantities import parse_amount
from research_eval.registry import MODELS_MAP
from research_eval.repair import check, repair
from research_eval.spec import ModelSpec, TransformerParams
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

        def cost(units, width=width):
            changes = {"embed_dim": width, "ff_factor": units / width}
            return counter.on(axis, start.model_copy(update=changes))

        if cost(1) > target * (1 + TOLERANCE):
            return False
        low, high = 0, 1
        while cost(high) < target * (1 - TOLERANCE):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if cost(middle) < target * (1 - TOLERANCE) else (low, middle)
        is_near = cost(high) <= target * (1 + TOLERANCE)
        is_rope = start.positions == "rope"
        if is_near and not (is_rope and width // start.num_heads % 2):
            return True
    return False


def check_match(given, made, axis):
    """Assert that a match is one, or that there is none; return whether there is."""
    try:
        found = match(given, made, axis, timed=False)
    except NoMatchError as error:
        assert "the nearest that ff_factor, embed_dim can reach" in str(error)
        prepared = prepare(given, Nobody())
        start = start_of(given, made)
        target = Counter(given, prepared.dataset).cost(given.config.model_params).on(axis)
        counter = Counter(start, prepared.dataset)
        assert not has_solution(counter, start.config.model_params, axis, target)
        return False
    costs = [true_costs(each)[axis] for each in (given, found.made)]
    assert abs(costs[1] / costs[0] - 1) <= TOLERANCE
    assert [cost.on(axis) for cost in found.costs] == costs
    origin = found.made.config.origin
    assert (origin.match.target, origin.match.reached) == tuple(costs)
    params = found.made.config.model_params
    assert not check(type(params), params.model_dump())
    same = ("dataset_params", "optimizer_params", "scheduler_params", "training_params", "seed")
    assert all(getattr(found.made.config, n) == getattr(given.config, n) for n in same)
    return True


def start_of(given, made):
    """Return the other architecture with what both have, before its cost is made equal."""
    return arm_of(given, made, ()).experiment


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

"""Every model keeps every promise in each of its modes, with each number of experts."""

import pytest

from research_eval.registry import MODELS_MAP
from research_eval.repair import repair
from research_eval.testing import learning_checks
from research_eval.testing.combinations import all_combinations, pairwise
from research_eval.testing.subject import Subject
from research_eval.testing.variants import NUMBERS_OF_EXPERTS, modes

TASKS = ["classification", "language_modeling"]
NUMBERS = {"capacity_factor": [None, 1.0], "top_k": [1, 2], "num_shared_experts": [0, 1]}
"""Numbers that change how a model works."""

INDEPENDENT = {"checkpoint_activations", "moe_layers", "k1_weight", "num_shared_experts"}
"""Fields that meet every other value in pairs, and are at their default in the full product."""


def axes_of(model, left_out=frozenset()):
    fields = MODELS_MAP[model].params.model_fields
    numbers = {"num_experts": NUMBERS_OF_EXPERTS} | NUMBERS
    own = {name: values for name, values in numbers.items() if name in fields}
    axes = modes(MODELS_MAP[model].params) | own | {"task": TASKS}
    return {name: values for name, values in axes.items() if name not in left_out}


def is_legal(mode):
    refused = [
        (mode.get("router"), mode["task"]) == ("expert_choice", "language_modeling"),
        (mode.get("hyperedges"), mode.get("num_experts")) == ("all_triplets", 2),
    ]
    return mode.get("top_k", 1) <= mode.get("num_experts", 1) and not any(refused)


def combined(choose, left_out=frozenset()):
    return [
        pytest.param(model, mode, id="-".join([model, *map(str, mode.values())]))
        for model in sorted(MODELS_MAP)
        for mode in choose(axes_of(model, left_out), is_legal)
    ]


def subject_of(model, mode):
    fields = dict(mode)
    start = Subject.of(MODELS_MAP[model], fields.pop("task"), embed_dim=16, num_heads=2)
    values, _repairs = repair(start.spec.params, start.params.model_dump() | fields)
    return start.having(**values)


@pytest.mark.parametrize(("model", "mode"), combined(pairwise))
def test_any_two_modes_together(model, mode, assert_quick_promises):
    assert_quick_promises(subject_of(model, mode))


@pytest.mark.slow
@pytest.mark.parametrize(("model", "mode"), combined(all_combinations, left_out=INDEPENDENT))
def test_all_modes_together(model, mode, assert_quick_promises):
    assert_quick_promises(subject_of(model, mode))


@pytest.mark.parametrize("router", ["sigmoid", "noisy_topk", "threshold", "expert_choice"])
@pytest.mark.parametrize(
    "check",
    [learning_checks.overfits_a_few_samples, learning_checks.solves_an_order_task],
    ids=lambda check: check.__name__,
)
def test_a_model_learns_with_every_router(router, check):
    check(Subject.of(MODELS_MAP["moe"], "classification", router=router, num_experts=4))


@pytest.mark.parametrize("mode", [{"capacity_factor": 1.0}, {"balance": "bias"}], ids=str)
def test_neither_capacity_nor_bias_lets_noise_be_learned(mode):
    subject = Subject.of(MODELS_MAP["moe"], "language_modeling", num_experts=4, top_k=1, **mode)
    learning_checks.learns_nothing_from_noise(subject)


def test_pairwise_meets_every_pair_and_stays_small():
    axes = axes_of("moe", left_out=INDEPENDENT)
    few, everything = pairwise(axes, is_legal), all_combinations(axes, is_legal)
    pairs = [{(a, b) for a in mode.items() for b in mode.items()} for mode in everything]
    met = {(a, b) for mode in few for a in mode.items() for b in mode.items()}
    assert met == set().union(*pairs)
    assert len(few) < len(everything) / 8

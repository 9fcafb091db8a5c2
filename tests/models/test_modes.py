"""Every router with every balance, capacity, k and number of experts keeps every promise."""

import pytest

from research_eval.registry import MODELS_MAP, ROUTERS_MAP
from research_eval.testing import learning_checks
from research_eval.testing.combinations import all_combinations, pairwise
from research_eval.testing.subject import Subject

AXES = {
    "router": sorted(ROUTERS_MAP),
    "balance": ["aux", "bias", "none"],
    "capacity_factor": [None, 1.0],
    "top_k": [1, 2],
    "num_experts": [1, 2, 3, 4, 8],
    "task": ["classification", "language_modeling"],
}
OTHERS = [
    (),
    ("num_shared_experts", 1),
    ("moe_layers", "last"),
    ("k1_weight", "straight_through"),
    ("checkpoint_activations", True),
]


def is_legal(mode):
    is_refused = (mode["router"], mode["task"]) == ("expert_choice", "language_modeling")
    return mode["top_k"] <= mode["num_experts"] and not is_refused


def in_words(mode):
    return "-".join(map(str, mode.values()))


def subject_of(mode):
    fields = dict(mode)
    task, other = fields.pop("task"), fields.pop("other", ())
    fields |= dict([other]) if other else {}
    return Subject.of(MODELS_MAP["moe"], task, **{"embed_dim": 16, "num_heads": 2, **fields})


@pytest.mark.parametrize("mode", pairwise(AXES | {"other": OTHERS}, is_legal), ids=in_words)
def test_any_two_modes_together(mode, assert_quick_promises):
    assert_quick_promises(subject_of(mode))


@pytest.mark.slow
@pytest.mark.parametrize("mode", all_combinations(AXES, is_legal), ids=in_words)
def test_all_modes_together(mode, assert_quick_promises):
    assert_quick_promises(subject_of(mode))


@pytest.mark.parametrize("router", ["sigmoid", "noisy_topk", "threshold", "expert_choice"])
@pytest.mark.parametrize(
    "check",
    [learning_checks.overfits_a_few_samples, learning_checks.solves_an_order_task],
    ids=lambda check: check.__name__,
)
def test_a_model_learns_with_every_router(router, check):
    check(Subject.of(MODELS_MAP["moe"], "classification", router=router, num_experts=4))


@pytest.mark.parametrize("mode", [{"capacity_factor": 1.0}, {"balance": "bias"}], ids=in_words)
def test_neither_capacity_nor_bias_lets_noise_be_learned(mode):
    subject = Subject.of(MODELS_MAP["moe"], "language_modeling", num_experts=4, top_k=1, **mode)
    learning_checks.learns_nothing_from_noise(subject)


def test_pairwise_meets_every_pair_and_stays_small():
    few, everything = pairwise(AXES, is_legal), all_combinations(AXES, is_legal)
    pairs = [{(a, b) for a in mode.items() for b in mode.items()} for mode in everything]
    met = {(a, b) for mode in few for a in mode.items() for b in mode.items()}
    assert met == set().union(*pairs)
    assert len(few) < len(everything) / 8

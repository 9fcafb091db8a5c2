"""The rules about collapse: each on a report that breaks it, and on one that does not."""

import numpy as np
import pytest

from research_eval.diagnostics import load
from research_eval.diagnostics.collapse import CollapseWatch, Moment, premature_saturation
from research_eval.diagnostics.totals import ExpertReport


def routed(share, *, choices=1, entropy=0.5, margin=0.3):
    import torch

    load_E = torch.tensor(share, dtype=torch.float64)
    scores = {
        "load_entropy_layer0": load.load_entropy(load_E),
        "load_max_violation_layer0": load.max_violation(load_E),
        "dead_experts_layer0": float(load.dead_experts(load_E)),
        "router_entropy_layer0": entropy,
        "router_margin_layer0": margin,
    }
    chosen = np.zeros((4, choices), dtype=np.int16)
    return ExpertReport(scores, {"load_share": {0: np.array(share)}, "chosen": {0: chosen}})


def flags_after(report, evaluations, *, steps=100, learned=True, last=False):
    watch = CollapseWatch({}, learned=learned)
    found = {}
    for number in range(1, evaluations + 1):
        is_last = last and number == evaluations
        found = watch.evaluation(report, Moment(number * steps, 10, is_last))
    return set(found)


@pytest.mark.parametrize("experts", [4, 8, 32])
@pytest.mark.parametrize("choices", [1, 2])
def test_collapse_onto_the_fewest_experts_is_seen_for_every_k(experts, choices):
    share = [1 / choices] * choices + [0.0] * (experts - choices)
    assert "routing_collapse" in flags_after(routed(share, choices=choices), 3)


@pytest.mark.parametrize("experts", [1, 2, 3, 4, 8])
def test_an_even_load_is_never_flagged(experts):
    assert flags_after(routed([1 / experts] * experts), 20) == set()


def test_two_experts_with_unequal_shares_are_no_collapse():
    assert flags_after(routed([0.7, 0.3]), 20) == set()


def test_a_bad_moment_is_no_verdict():
    watch = CollapseWatch({}, learned=True)
    bad, good = routed([1.0, 0, 0, 0]), routed([0.25] * 4)
    reports = [bad, bad, good, bad, bad]
    found = [watch.evaluation(r, Moment(20 * n, 10)) for n, r in enumerate(reports, 1)]
    assert not any(found)


def test_an_expert_is_dead_after_500_steps_without_tokens():
    report = routed([0.34, 0.33, 0.33, 0.0])
    assert flags_after(report, 5, steps=100) == set()
    assert flags_after(report, 6, steps=100) == {"dead_experts"}


def test_memory_survives_a_resume():
    memory = {}
    report = routed([1.0, 0, 0, 0])
    for number in (1, 2):
        assert not CollapseWatch(memory, learned=True).evaluation(report, Moment(20 * number, 10))
    resumed = CollapseWatch(dict(memory), learned=True)
    assert "routing_collapse" in resumed.evaluation(report, Moment(60, 10))


def test_an_undecided_router_is_flagged_at_the_end_and_a_control_is_not():
    report = routed([0.25] * 4, entropy=0.999, margin=1e-4)
    assert flags_after(report, 1) == set()
    assert flags_after(report, 1, last=True) == {"uninformative_router"}
    assert flags_after(report, 1, last=True, learned=False) == set()


def test_experts_that_compute_the_same():
    assert flags_after(ExpertReport({"expert_similarity_layer2": 0.995}), 3) == {
        "identical_experts"
    }
    assert flags_after(ExpertReport({"expert_similarity_layer2": 0.9}), 3) == set()


def test_one_path_for_all_and_paths_that_end_at_once():
    usage = {"path_usage": {0: np.ones(4)}}
    one = ExpertReport({"top_path_share": 0.95, "path_ended_at_once": 0.0}, usage)
    assert flags_after(one, 3) == {"one_path"}
    none = ExpertReport({"top_path_share": 0.5, "path_ended_at_once": 1.0}, usage)
    assert flags_after(none, 3) == {"one_path"}
    single = ExpertReport({"top_path_share": 1.0}, {"path_usage": {0: np.ones(1)}})
    assert flags_after(single, 3) == set()


def test_a_router_that_gets_no_gradient():
    watch = CollapseWatch({}, learned=True)
    assert set(watch.training({"router_grad_norm": 0.0})) == {"router_without_gradient"}
    assert not watch.training({"router_grad_norm": 1e-9})
    assert not CollapseWatch({}, learned=False).training({"router_grad_norm": 0.0})


def test_router_scores_that_grow():
    watch = CollapseWatch({}, learned=True)
    assert not watch.training({"aux_router_z": 20.0})
    assert not watch.training({"aux_router_z": 190.0})
    assert set(watch.training({"aux_router_z": 210.0})) == {"router_logits_grow"}


def test_a_router_that_decided_at_once_and_never_changed():
    early, changed = np.zeros((4, 1), dtype=np.int16), np.ones((4, 1), dtype=np.int16)
    assert set(premature_saturation({0: early}, {0: 0.01}, {0: early})) == {"premature_saturation"}
    assert not premature_saturation({0: early}, {0: 0.3}, {0: early})
    assert not premature_saturation({0: early}, {0: 0.01}, {0: changed})

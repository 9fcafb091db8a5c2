"""A bias evens out loads; capacity turns away what matters least."""

from dataclasses import replace

import pytest
import torch

from research_eval.diagnostics.routing import drop_rate, load_counts
from research_eval.errors import ConfigError
from research_eval.models._balance import SelectionBias, overflow
from research_eval.registry import MODELS_MAP
from research_eval.routers.softmax import Softmax
from research_eval.spec import RouterSpec
from research_eval.testing.subject import Subject

MOE = MODELS_MAP["moe"]
CLASSIFY, LM = "classification", "language_modeling"


def test_bias_moves_against_the_load_and_stays_centred():
    bias = SelectionBias(4, rate=0.1)
    bias.count(torch.tensor([[0, 1], [0, 1]]))
    bias.count(torch.tensor([[0, 2]]))  # loads 3, 2, 1, 0 around 1.5
    bias.after_step()
    assert bias.bias_E.tolist() == pytest.approx([-0.1, -0.1, 0.1, 0.1])
    bias.count(torch.tensor([[0, 0, 0, 0]]))  # -0.2, 0, 0.2, 0.2 has mean 0.05
    bias.after_step()
    assert bias.bias_E.tolist() == pytest.approx([-0.25, -0.05, 0.15, 0.15])
    before = bias.bias_E.clone()
    bias.after_step()
    assert torch.equal(bias.bias_E, before), "a step without tokens moves nothing"


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "noisy_topk", "threshold"])
def test_bias_evens_out_a_skewed_router(name, router, scores):
    logits = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    logits += torch.tensor([1.5, 0.5, 0.0, -0.5])
    choose, bias = router(name, 4, 1, threshold=0.01), SelectionBias(4, rate=0.01)
    shares = []
    for _ in range(150):
        chosen = choose(scores(logits, bias_E=bias.bias_E)).chosen_TK
        shares.append(torch.bincount(chosen.flatten(), minlength=4) / 400)
        bias.count(chosen)
        bias.after_step()
    assert shares[0].max() > 0.5
    assert (shares[-1] - 0.25).abs().max() < 0.05


def biased_network(**fields):
    params = {"num_experts": 4, "router": "sigmoid", "balance": "bias", "bias_update_rate": 0.01}
    return Subject.of(MOE, CLASSIFY, **{**params, **fields})


def biases(network):
    return {n: b.clone() for n, b in network.state_dict().items() if n.endswith("bias_E")}


def test_only_training_moves_the_bias_once_per_step_whatever_is_recomputed():
    found = []
    for recompute in (False, True):
        subject = biased_network(checkpoint_activations=recompute)
        network, batches = subject.network(), [subject.batch(seed=s) for s in (1, 2)]
        network.eval()
        network(batches[0].ids_BL, None, batches[0].labels)
        network.after_step()
        assert not any(bias.any() for bias in biases(network).values())
        network.train()
        load = torch.zeros(4)
        for batch in batches:  # accumulated
            output = network(batch.ids_BL, None, batch.labels)
            output.loss.backward()
            load += load_counts(output.routing[0])
        # Counting twice would not show in the bias, which only sees the sign.
        assert network.body.blocks[0].experts.bias.load_E.tolist() == load.tolist()
        network.after_step()
        found.append(biases(network))
        first = found[-1]["body.blocks.0.experts.bias.bias_E"]
        moved = 0.01 * torch.sign(load.mean() - load)
        assert torch.allclose(first, moved - moved.mean())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert len(found[0]) == 2


def test_a_router_that_takes_no_bias_is_told_before_it_trains():
    plain = RouterSpec(name="plain", build=Softmax)
    subject = replace(biased_network(), find_router=lambda _name: plain)
    with pytest.raises(ConfigError, match=r"model_params\.balance: .* does not declare takes_bias"):
        subject.network()


def test_experts_that_pick_alike_leave_the_bias_at_zero():
    subject = biased_network(router="expert_choice", top_k=1)
    network, batch = subject.network(), subject.batch()
    network(batch.ids_BL, None, batch.labels)
    network.after_step()
    assert not any(bias.any() for bias in biases(network).values())


def test_a_control_has_nothing_to_balance():
    assert not biases(biased_network(router="hash").network())


def turned_away(positions=None, **changes):
    problem = {
        "chosen_TK": torch.tensor([[0, 1], [0, 1], [0, 2], [1, 0]]),
        "priority_TK": torch.tensor([[0.5, 0.3], [0.9, 0.1], [0.7, 0.2], [0.8, 0.6]]),
        "wanted_TK": torch.ones(4, 2, dtype=torch.bool),
    }
    found = overflow(**{**problem, **changes}, capacity=2, num_experts=4, positions_T=positions)
    return found.int().tolist()


def test_the_lowest_priority_is_turned_away():
    # Expert 0 is asked with 0.5, 0.9, 0.7, 0.6 and expert 1 with 0.3, 0.1, 0.8.
    assert turned_away() == [[1, 0], [0, 1], [0, 0], [0, 1]]


def test_earlier_positions_come_first_if_order_matters():
    # Rows of two tokens: positions 0, 1, 0, 1. Expert 0 serves both first tokens.
    assert turned_away(torch.tensor([0, 1, 0, 1])) == [[0, 0], [1, 1], [0, 0], [0, 1]]


def test_an_empty_place_takes_no_capacity_and_is_not_turned_away():
    wanted = torch.tensor([[1, 1], [1, 0], [0, 1], [1, 1]], dtype=torch.bool)
    assert turned_away(wanted_TK=wanted) == [[1, 0], [0, 0], [0, 0], [0, 0]]


def test_capacity_limits_training_and_never_evaluation():
    subject = Subject.of(MOE, CLASSIFY, num_experts=4, top_k=1, capacity_factor=0.5)
    network, batch = subject.network(), subject.batch(rows=8)
    routing = network(batch.ids_BL, None, batch.labels).routing
    for record in routing:  # 8 rows of 12 tokens; an expert serves half of 24
        assert load_counts(record).max() == 12
        assert not record.weights_TK[record.dropped_TK].any()
        assert drop_rate(record).item() >= 0.5
    network.eval()
    for record in network(batch.ids_BL, None, batch.labels).routing:
        assert record.dropped_TK is None
        assert load_counts(record).sum() == 96


def test_dropping_keeps_training_causal_and_waives_independence_by_name():
    network = Subject.of(MOE, LM, capacity_factor=1.0).network()
    assert list(network.waives()) == ["batch_independent"]
    assert not Subject.of(MOE, LM).network().waives()
    chosen = Subject.of(MOE, CLASSIFY, router="expert_choice").network()
    assert "experts pick" in chosen.waives()["batch_independent"]


def test_expert_choice_is_refused_where_the_future_would_leak():
    with pytest.raises(ConfigError, match=r"model_params\.router: expert_choice picks among all"):
        Subject.of(MOE, LM, router="expert_choice").network()

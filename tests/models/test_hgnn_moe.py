"""The hypergraph operator equals its definition; strategies, gates, learned members, bad input."""

import pytest
import torch
import torch.nn.functional as F

from research_eval.config import validate
from research_eval.errors import ConfigError
from research_eval.models.hgnn_moe import (
    HGNNMoEParams,
    Hypergraph,
    HypergraphCoupling,
    HypergraphRound,
    members_of,
)
from research_eval.registry import MODELS_MAP
from research_eval.testing.subject import Subject, assert_close, gradients

OVERLAPPING = [[0, 1], [1, 2, 3], [0, 3]]


def stirred(module):
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.5 * torch.randn_like(weight))
    return module


def naive_round(layer, members, x_TED):
    """From experts to hyperedges, through the gate, and back, one hyperedge at a time."""
    any_weights = torch.randn(len(members))  # where none are learned, they cancel out
    weights = F.softplus(any_weights if layer.weights_H is None else layer.weights_H)
    y_TED = layer.transform(x_TED)
    rows = []
    for expert in range(x_TED.shape[1]):
        own = [h for h, each in enumerate(members) if expert in each]
        message_TD = torch.zeros_like(y_TED[:, 0])
        for h in own:
            edge_TD = y_TED[:, members[h]].mean(dim=1)
            if layer.gated:
                said_T = x_TED[:, members[h]].mean(dim=1) @ layer.score_D
                edge_TD = edge_TD * (said_T + layer.bias).sigmoid()[:, None]
            message_TD = message_TD + weights[h] * edge_TD / weights[own].sum()
        rows.append(x_TED[:, expert] + F.gelu(message_TD))
    return torch.stack(rows, dim=1)


STRATEGIES = ["all_pairs", "all_triplets", "all", "ring", "dynamic", OVERLAPPING]


@pytest.mark.parametrize("edge_gate", [False, True])
@pytest.mark.parametrize("hyperedges", STRATEGIES, ids=str)
def test_a_round_equals_its_definition(hyperedges, edge_gate):
    params = HGNNMoEParams(
        embed_dim=8, num_experts=5, hyperedges=hyperedges, edge_gate=edge_gate, hyperedge_size=3
    )
    members = [list(each) for each in members_of(params)]
    layer, hypergraph = stirred(HypergraphRound(params, len(members))), Hypergraph(params)
    x_TED = torch.randn(4, 5, 8, requires_grad=True)
    fast, slow = layer(x_TED, hypergraph())[0], naive_round(layer, members, x_TED)
    assert_close(fast, slow, "outputs")
    upstream = torch.randn_like(fast)
    inputs = {"x": x_TED, **dict(layer.named_parameters())}
    found, expected = (
        torch.autograd.grad(y, list(inputs.values()), upstream) for y in (fast, slow)
    )
    for name, actual, reference in zip(inputs, found, expected, strict=True):
        torch.testing.assert_close(actual, reference, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("hyperedges", "expected"),
    [
        ("all_pairs", [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]),
        ("all_triplets", [(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)]),
        ("all", [(0, 1, 2, 3)]),
        ("ring", [(0, 1, 2), (1, 2, 3), (2, 3, 0), (3, 0, 1)]),
        (OVERLAPPING, [(0, 1), (1, 2, 3), (0, 3)]),
    ],
    ids=str,
)
def test_strategies_name_their_hyperedges(hyperedges, expected):
    params = HGNNMoEParams(num_experts=4, hyperedges=hyperedges, hyperedge_size=3)
    assert members_of(params) == expected


@pytest.mark.parametrize("edge_gate", [False, True])
def test_weights_of_hyperedges_act_in_the_numerator(edge_gate):
    """In torch_geometric they only divide, so that a heavy hyperedge silences its experts."""
    params = HGNNMoEParams(embed_dim=8, num_experts=3, edge_gate=edge_gate)
    layer, members_HE = HypergraphRound(params, 3), Hypergraph(params)()
    x_TED = torch.randn(4, 3, 8)
    even = layer.weights(x_TED, members_HE)
    with torch.no_grad():
        layer.weights_H[0] = 20.0  # the pair of experts 0 and 1
    uneven = layer.weights(x_TED, members_HE)
    openness = 0.5 if edge_gate else 1.0
    assert even[..., 0, 1].mean().item() == pytest.approx(openness / 4, abs=0.02)
    assert uneven[..., 0, 1].mean().item() == pytest.approx(openness / 2, abs=0.03)
    assert uneven[..., 0, 2].max() < 0.05
    row_sums = uneven.sum(dim=-1)
    assert row_sums.mean().item() == pytest.approx(openness, abs=0.02)


def test_a_uniform_hypergraph_is_no_linear_map_of_the_mean():
    coupling = stirred(HypergraphCoupling(HGNNMoEParams(embed_dim=8, gnn_layers=1)))
    with torch.no_grad():
        coupling.rounds[0].weights_H.zero_()
    x_TED = torch.randn(6, 4, 8)
    apart_TED = torch.randn(6, 4, 8)
    other_TED = x_TED + apart_TED - apart_TED.mean(dim=1, keepdim=True)
    means = [coupling(x).x_TED.mean(dim=1) for x in (x_TED, other_TED, 2 * x_TED)]
    assert (means[0] - means[1]).abs().max() > 0.05  # same mean in, another mean out
    assert (means[2] - 2 * means[0]).abs().max() > 0.05


def test_an_expert_in_no_hyperedge_takes_nothing():
    params = HGNNMoEParams(embed_dim=8, num_experts=3, hyperedges=[[0, 1]])
    coupling = stirred(HypergraphCoupling(params))
    x_TED = torch.randn(4, 3, 8)
    y_TED = coupling(x_TED).x_TED
    assert torch.equal(y_TED[:, 2], x_TED[:, 2])
    assert not torch.allclose(y_TED[:, :2], x_TED[:, :2])


def test_a_single_expert_has_no_neighbours():
    params = HGNNMoEParams(embed_dim=8, num_experts=1, hyperedge_size=1)
    x_TED = torch.randn(4, 1, 8)
    for hyperedges in ("all_pairs", "all_triplets"):
        coupling = HypergraphCoupling(params.model_copy(update={"hyperedges": hyperedges}))
        assert torch.equal(coupling(x_TED).x_TED, x_TED)


def test_dynamic_members_are_the_experts_of_highest_affinity():
    params = HGNNMoEParams(embed_dim=8, num_experts=4, hyperedges="dynamic", hyperedge_size=2)
    hypergraph = Hypergraph(params)
    with torch.no_grad():
        hypergraph.affinity_HE[1] = torch.tensor([5.0, -1.0, 0.0, 3.0])
    members_HE = hypergraph()
    assert members_HE[1].tolist() == [1, 0, 0, 1]
    assert members_HE.sum(dim=1).tolist() == [2, 2, 2, 2]


def test_dynamic_members_are_learned_and_recorded():
    subject = Subject.of(
        MODELS_MAP["hgnn_moe"], "classification", hyperedges="dynamic", hyperedge_size=2
    )
    network, batch = subject.network(stirred=False), subject.batch(rows=32)
    affinity = "body.layers.0.coupling.hypergraph.affinity_HE"
    gradient_HE = gradients(network, batch)[affinity]
    assert (gradient_HE.abs() > 0).all()  # experts outside a hyperedge are heard of too
    optimizer = torch.optim.SGD([network.get_parameter(affinity)], lr=0.2 / gradient_HE.abs().max())
    records = []
    for _ in range(2):
        found = network.eval()(batch.ids_BL, None, batch.labels).couplings[0].members_HE
        assert set(found.unique().tolist()) == {0.0, 1.0}
        records.append(found)
        optimizer.step()
    assert not torch.equal(records[0], records[1])


def test_a_list_is_the_same_as_the_strategy_that_it_spells_out():
    ring = HGNNMoEParams(embed_dim=8, num_experts=4, hyperedges="ring", hyperedge_size=3)
    spelt = ring.model_copy(update={"hyperedges": [list(each) for each in members_of(ring)]})
    one, two = HypergraphCoupling(ring), HypergraphCoupling(spelt)
    two.load_state_dict(one.state_dict())
    x_TED = torch.randn(4, 4, 8)
    assert torch.equal(one(x_TED).x_TED, two(x_TED).x_TED)


CONFIG = {"experiment_name": "t", "model_type": "hgnn_moe", "dataset_name": "parity"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hyperedges": "all_pears"}, r"model_params\.hyperedges: must be 'all_pairs'"),
        ({"hyperedges": []}, r"model_params\.hyperedges: .*at least 1 item"),
        ({"hyperedges": [[]]}, r"model_params\.hyperedges.*at least 1 item"),
        ({"hyperedges": [[0, -1]]}, r"model_params\.hyperedges.*greater than or equal to 0"),
        (
            {"hyperedges": "ring", "num_experts": 2, "hyperedge_size": 3},
            r"hyperedge_size must not be above num_experts.*hyperedge_size=2 would be legal",
        ),
    ],
    ids=str,
)
def test_a_configuration_that_is_not_legal_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        validate({**CONFIG, "model_params": given})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hyperedges": [[0, 4]]}, r"hyperedges: \[0, 4\] names expert 4, but num_experts = 4"),
        ({"hyperedges": [[0, 1], [2, 2]]}, r"hyperedges: \[2, 2\] names an expert twice"),
        ({"hyperedges": "all_triplets", "num_experts": 2}, r"all_triplets needs 3 experts"),
    ],
    ids=str,
)
def test_hyperedges_that_do_not_fit_the_experts_are_refused(given, message):
    params = validate({**CONFIG, "model_params": given}).config.model_params
    with pytest.raises(ConfigError, match=message):
        HypergraphCoupling(params)


def test_the_strategy_may_be_called_as_in_the_original():
    config = validate({**CONFIG, "model_params": {"static_hyperedge_strategy": "all_triplets"}})
    assert config.config.model_params.hyperedges == "all_triplets"

"""Messages along the graph equal the double loop; degree normalisation; extreme values."""

import pytest
import torch
import torch.nn.functional as F

from research_eval.models.gnn_moe import GNNMoEParams, GraphCoupling, GraphRound
from research_eval.registry import MODELS_MAP
from research_eval.testing.subject import Subject, assert_close, gradients


def stirred(module):
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.5 * torch.randn_like(weight))
    return module


def naive_round(layer, x_TED):
    """The original's loops: a linear layer on each ordered pair of experts, for each token."""
    num_tokens, num_experts, _ = x_TED.shape
    if layer.learned:
        content_1D, bias = layer.content_2D.flatten()[None], layer.bias
        edges_EE = layer.edges_EE.sigmoid()
    else:  # then any weights will do
        content_1D, bias = torch.randn(1, 2 * x_TED.shape[2]), torch.randn(())
        edges_EE = torch.rand(num_experts, num_experts)
    rows = []
    for t in range(num_tokens):
        for i in range(num_experts):
            message, degree = torch.zeros(x_TED.shape[2]), torch.zeros(())
            for j in range(num_experts):
                if i != j:
                    pair = torch.cat([x_TED[t, i], x_TED[t, j]])
                    weight = (F.linear(pair, content_1D, bias).sigmoid() * edges_EE[i, j])[0]
                    message, degree = message + weight * x_TED[t, j], degree + weight
            if layer.by_degree and num_experts > 1:
                message = message / degree
            update = F.gelu(layer.neighbours(message) + layer.itself(x_TED[t, i]))
            rows.append(x_TED[t, i] + update)
    return torch.stack(rows).view_as(x_TED)


@pytest.mark.parametrize("normalize", ["degree", "sum"])
@pytest.mark.parametrize("num_experts", [1, 2, 5])
def test_a_round_equals_the_loop_over_pairs(normalize, num_experts):
    params = GNNMoEParams(embed_dim=8, num_experts=num_experts, normalize=normalize)
    layer = stirred(GraphRound(params))
    x_TED = torch.randn(4, num_experts, 8, requires_grad=True)
    fast, slow = layer(x_TED)[0], naive_round(layer, x_TED)
    assert_close(fast, slow, "outputs")
    upstream = torch.randn_like(fast)
    inputs = {"x": x_TED, **dict(layer.named_parameters())}
    found, expected = (
        torch.autograd.grad(
            y, list(inputs.values()), upstream, allow_unused=True, materialize_grads=True
        )
        for y in (fast, slow)
    )
    for name, actual, reference in zip(inputs, found, expected, strict=True):
        torch.testing.assert_close(actual, reference, rtol=1e-4, atol=1e-5, msg=name)


def test_rounds_follow_one_another():
    coupling = stirred(GraphCoupling(GNNMoEParams(embed_dim=8, gnn_layers=3)))
    x_TED = torch.randn(4, 4, 8)
    expected = x_TED
    for layer in coupling.rounds:
        expected = naive_round(layer, expected)
    coupled = coupling(x_TED)
    assert_close(coupled.x_TED, expected, "three rounds")
    assert len(coupled.weights) == 3


def test_by_degree_the_size_of_messages_does_not_grow_with_the_number_of_experts():
    taken = {}
    for normalize in ("degree", "sum"):
        for num_experts in (2, 32):
            params = GNNMoEParams(embed_dim=8, num_experts=num_experts, normalize=normalize)
            weights = GraphRound(params).weights(torch.randn(5, num_experts, 8))
            taken[normalize, num_experts] = weights.sum(dim=-1).mean().item()
            assert not weights.diagonal(dim1=-2, dim2=-1).any()
    assert taken["degree", 2] == pytest.approx(1)
    assert taken["degree", 32] == pytest.approx(1)
    assert taken["sum", 32] == pytest.approx(31 * taken["sum", 2], rel=0.1)


def test_closed_edges_and_extreme_contents_stay_finite():
    layer = GraphRound(GNNMoEParams(embed_dim=8, num_experts=3))
    x_TED = (1e4 * torch.randn(4, 3, 8)).requires_grad_()
    with torch.no_grad():
        layer.edges_EE[0].fill_(-200.0)
    y_TED, weights_TEE = layer(x_TED)
    y_TED.sum().backward()
    assert weights_TEE[:, 0].sum(dim=-1).max() < 1e-3  # nobody to take from
    assert all(p.grad.isfinite().all() for p in (x_TED, *layer.parameters()))


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_weights_of_the_graph_are_fp32_under_autocast(precision):
    layer = GraphRound(GNNMoEParams(embed_dim=8))
    x_TED = torch.randn(4, 4, 8)
    with torch.autocast("cpu", dtype=precision):
        y_TED, weights_TEE = layer(x_TED)
    assert weights_TEE.dtype == torch.float32
    assert torch.equal(weights_TEE, layer.weights(x_TED))
    assert (y_TED - layer(x_TED)[0]).abs().max() < 0.02


def test_edges_are_learned_from_the_task():
    network = Subject.of(MODELS_MAP["gnn_moe"], "classification", num_experts=3).network()
    batch = Subject.of(MODELS_MAP["gnn_moe"], "classification").batch(rows=32)
    for name, gradient in gradients(network, batch).items():
        if name.endswith("edges_EE"):
            off_diagonal = gradient[~torch.eye(3, dtype=torch.bool)]
            assert off_diagonal.abs().min() > 0
            assert not gradient.diag().any()

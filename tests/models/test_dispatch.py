"""Sending tokens to experts: against the loop, in other precisions, with experts left out."""

import pytest
import torch

from research_eval.models import _grouped
from research_eval.models._dispatch import Experts
from research_eval.models.moe import MoEParams
from research_eval.testing.reference import naive_experts


def problem(num_experts, top_k, activation="gelu", num_tokens=60):
    experts = Experts(MoEParams(embed_dim=16, num_heads=2, activation=activation), num_experts)
    with torch.no_grad():
        for stack in experts.parameters():
            stack.mul_(10)
    x = torch.randn(num_tokens, 16, requires_grad=True)
    chosen = torch.rand(num_tokens, num_experts).topk(top_k).indices
    weights = torch.rand(num_tokens, top_k, requires_grad=True)
    return experts, x, chosen, weights


def gradients(y, experts, x, weights):
    pull = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    return torch.autograd.grad(y, [x, weights, *experts.parameters()], pull)


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
@pytest.mark.parametrize(
    ("num_experts", "top_k"), [(1, 1), (2, 1), (3, 2), (4, 4), (8, 2), (32, 2)]
)
def test_equals_the_loop(num_experts, top_k, activation):
    experts, x, chosen, weights = problem(num_experts, top_k, activation)
    fast = experts(x, chosen, weights)
    slow = naive_experts(experts, x, chosen, weights)
    assert torch.allclose(fast, slow, atol=1e-5)
    for ours, loops in zip(
        gradients(fast, experts, x, weights), gradients(slow, experts, x, weights), strict=True
    ):
        assert ((ours - loops).norm() / loops.norm()).item() < 1e-6


@pytest.mark.parametrize("share_kept", [0.0, 0.4])
def test_choices_left_out_equal_the_loop(share_kept):
    experts, x, chosen, weights = problem(8, 3)
    kept = torch.rand(chosen.shape) < share_kept
    weights = (weights.detach() * kept).requires_grad_()
    fast = experts(x, chosen, weights, kept)
    slow = naive_experts(experts, x, chosen, weights, kept)
    assert torch.allclose(fast, slow, atol=1e-5)
    for ours, loops in zip(
        gradients(fast, experts, x, weights), gradients(slow, experts, x, weights), strict=True
    ):
        assert torch.allclose(ours, loops, atol=1e-5 * max(1.0, loops.abs().max().item()))


def test_an_expert_without_tokens_gets_zeros():
    experts, x, chosen, weights = problem(4, 2)
    chosen = torch.where(chosen == 2, 3, chosen)
    experts(x, chosen, weights).sum().backward()
    for stack in experts.parameters():
        assert [bool(g.any()) for g in stack.grad] == [True, True, False, True]


def test_no_tokens_at_all():
    experts, x, chosen, weights = problem(4, 2, num_tokens=0)
    y = experts(x, chosen, weights)
    y.sum().backward()
    assert y.shape == (0, 16)
    assert not any(stack.grad.any() for stack in experts.parameters())


def test_the_same_bits_every_time():
    experts, x, chosen, weights = problem(8, 2)
    runs = [gradients(experts(x, chosen, weights), experts, x, weights) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_bf16_autocast_is_close_and_gradients_stay_fp32():
    experts, x, chosen, weights = problem(8, 2)
    exact = gradients(experts(x, chosen, weights), experts, x, weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = experts(x, chosen, weights)
    assert y.dtype == torch.bfloat16
    for ours, wanted in zip(gradients(y, experts, x, weights), exact, strict=True):
        assert ours.dtype == torch.float32
        assert ((ours - wanted).norm() / wanted.norm()).item() < 2e-2


@pytest.mark.parametrize("share_kept", [None, 0.5])
def test_the_grouped_product_of_gpus_gives_the_same(monkeypatch, share_kept):
    experts, x, chosen, weights = problem(8, 2)
    chosen = torch.where(chosen == 2, 3, chosen)
    kept = None
    if share_kept is not None:
        kept = torch.rand(chosen.shape) < share_kept
        weights = (weights.detach() * kept).requires_grad_()
    results = []
    for grouped in (False, True):
        monkeypatch.setattr(
            "research_eval.models._dispatch.has_grouped_product", lambda *_, answer=grouped: answer
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = experts(x, chosen, weights, kept)
        results.append([y, *gradients(y, experts, x, weights)])
    for looped, grouped in zip(*results, strict=True):
        assert ((grouped - looped).norm() / looped.norm()).item() < 1e-2
    assert not results[1][3][2].any()  # expert 2 saw no token


def test_the_cpu_uses_the_loop():
    x = torch.zeros(8, 8, dtype=torch.bfloat16)
    assert not _grouped.has_grouped_product(x, x[None])

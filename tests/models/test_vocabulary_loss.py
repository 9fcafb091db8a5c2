"""The chunked loss is cross-entropy: value, both gradients, and what it does at the edges."""

import pytest
import torch
import torch.nn.functional as F

from research_eval import vocabulary_loss as module
from research_eval.spec import IGNORED_LABEL
from research_eval.vocabulary_loss import vocabulary_loss

V, D = 300, 24


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 32 * V * 4)
    monkeypatch.setattr(module, "BLOCK_BYTES", 12 * V * 4)


def problem(rows, scale=1.0):
    hidden = (scale * torch.randn(rows, D)).requires_grad_()
    weight = torch.randn(V, D, requires_grad=True)
    return hidden, weight, torch.randint(0, V, (rows,))


def assert_same(actual, expected, tolerance):
    assert ((actual - expected).norm() / expected.norm()).item() < tolerance


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 100])
@pytest.mark.parametrize("scale", [0.1, 1.0, 40.0])
def test_equals_cross_entropy_in_fp32(rows, scale):
    hidden, weight, targets = problem(rows, scale)
    targets[rows // 2 + 1 :: 3] = IGNORED_LABEL
    loss, num_targets, losses = vocabulary_loss(hidden, weight, targets)
    expected = F.cross_entropy(hidden @ weight.t(), targets)
    assert num_targets.item() == (targets >= 0).sum().item()
    assert_same(loss, expected, 1e-5)
    each = F.cross_entropy(hidden @ weight.t(), targets, reduction="none")
    assert torch.allclose(losses, each, rtol=1e-5, atol=1e-5)
    # 3.0 stands for what gradient accumulation and a gradient scaler do to the loss.
    actual = torch.autograd.grad(3.0 * loss, [hidden, weight])
    for ours, theirs in zip(
        actual, torch.autograd.grad(3.0 * expected, [hidden, weight]), strict=True
    ):
        assert_same(ours, theirs, 1e-5)


def test_no_targets_give_zero_loss_and_zero_gradients():
    hidden, weight, targets = problem(40)
    loss, num_targets, losses = vocabulary_loss(
        hidden, weight, torch.full_like(targets, IGNORED_LABEL)
    )
    gradients = torch.autograd.grad(loss, [hidden, weight])
    assert (loss.item(), num_targets.item()) == (0, 0)
    assert not any(g.any() for g in (*gradients, losses))


def test_no_rows_give_zero_loss():
    hidden, weight, targets = problem(0)
    loss = vocabulary_loss(hidden, weight, targets)[0]
    loss.backward()
    assert loss.item() == 0
    assert not weight.grad.any()


def test_hopeless_targets_have_a_finite_loss():
    hidden, weight = torch.zeros(2, D), torch.zeros(V, D)
    hidden[:, 0], weight[0, 0] = 100, 100
    loss = vocabulary_loss(hidden, weight, torch.tensor([1, 2]))[0]
    assert loss.item() == pytest.approx(10_000)


def test_products_are_bf16_under_autocast_and_close_to_fp32():
    hidden, weight, targets = problem(200)
    expected = vocabulary_loss(hidden, weight, targets)[0]
    wanted = torch.autograd.grad(expected, [hidden, weight])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = vocabulary_loss(hidden, weight, targets)[0]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=2e-3)
    for ours, theirs in zip(torch.autograd.grad(loss, [hidden, weight]), wanted, strict=True):
        assert ours.dtype == torch.float32
        assert 1e-4 < ((ours - theirs).norm() / theirs.norm()).item() < 2e-2


def test_fp16_does_not_overflow():
    hidden, weight, targets = problem(20, scale=1e4)  # scores reach 2e5; fp16 ends at 65,504
    expected = vocabulary_loss(hidden, weight, targets)[0]
    with torch.autocast("cpu", dtype=torch.float16):
        loss = vocabulary_loss(hidden.half(), weight, targets)[0]
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-2)
    assert weight.grad.isfinite().all()


def test_evaluation_computes_no_gradients():
    hidden, weight, targets = problem(100)
    training = vocabulary_loss(hidden, weight, targets)[0]
    with torch.no_grad():
        loss = vocabulary_loss(hidden, weight, targets)[0]
    assert torch.equal(loss, training)
    assert not loss.requires_grad


def test_gradients_can_be_asked_for_twice():
    hidden, weight, targets = problem(50)
    loss = vocabulary_loss(hidden, weight, targets)[0]
    once = torch.autograd.grad(loss, [hidden, weight], retain_graph=True)
    again = torch.autograd.grad(loss, [hidden, weight])
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))

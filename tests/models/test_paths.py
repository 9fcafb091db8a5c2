"""The shared machinery of paths: who decides, what they know, and who runs."""

import pytest
import torch
import torch.nn.functional as F

from research_eval.models._blocks import Block, attention_pattern
from research_eval.models._paths import (
    Deciders,
    StackedBlocks,
    decide,
    gumbel_noise,
    straight_through,
    updated,
)
from research_eval.spec import BodyInput, TransformerParams

# B batch, L length, D width, E experts, N decision makers
ROWS, LENGTH, WIDTH, EXPERTS = 5, 6, 8, 3


def batch_of(mask_BL=None):
    hidden_BLD = torch.randn(ROWS, LENGTH, WIDTH)
    return BodyInput(hidden_BLD, torch.ones(ROWS, LENGTH, dtype=torch.int64), mask_BL)


def ragged_mask():
    """Ends early, starts late, holds nothing, is full, and has one token."""
    mask_BL = torch.zeros(ROWS, LENGTH, dtype=torch.bool)
    mask_BL[0, :4] = True
    mask_BL[1, 2:] = True
    mask_BL[3] = True
    mask_BL[4, :1] = True
    return mask_BL


@pytest.mark.parametrize("mask_BL", [None, ragged_mask()], ids=["full", "ragged"])
def test_samples_decide_by_their_real_tokens(mask_BL):
    batch = batch_of(mask_BL)
    deciders = Deciders(batch, causal=False)
    real_BL = torch.ones(ROWS, LENGTH, dtype=torch.bool) if mask_BL is None else mask_BL
    rows = [batch.hidden_BLD[b][real_BL[b]] for b in range(ROWS) if real_BL[b].any()]
    assert len(deciders) == len(rows)
    torch.testing.assert_close(
        deciders.mean(batch.hidden_BLD), torch.stack([row.mean(0) for row in rows])
    )
    torch.testing.assert_close(
        deciders.maximum(batch.hidden_BLD), torch.stack([row.amax(0) for row in rows])
    )


@pytest.mark.parametrize("mask_BL", [None, ragged_mask()], ids=["full", "ragged"])
def test_tokens_decide_by_what_came_before(mask_BL):
    batch = batch_of(mask_BL)
    deciders = Deciders(batch, causal=True)
    real_BL = torch.ones(ROWS, LENGTH, dtype=torch.bool) if mask_BL is None else mask_BL
    known = [
        batch.hidden_BLD[b, : t + 1][real_BL[b, : t + 1]] for b, t in real_BL.nonzero().tolist()
    ]
    assert len(deciders) == len(known)
    torch.testing.assert_close(
        deciders.mean(batch.hidden_BLD), torch.stack([seen.mean(0) for seen in known])
    )
    torch.testing.assert_close(
        deciders.maximum(batch.hidden_BLD), torch.stack([seen.amax(0) for seen in known])
    )


def naive_step(experts, batch, chosen_N, gate_N, *, causal):
    """Run every expert as a plain block on everything, and keep what was chosen."""
    pattern = attention_pattern(batch, causal=causal)
    deciders = Deciders(batch, causal=causal)
    outputs_EBLD = [
        plain_block(experts, e)(batch.hidden_BLD, pattern) for e in range(experts.num_experts)
    ]
    result = batch.hidden_BLD.clone()
    for n, place in enumerate(deciders.place_N.tolist()):
        where = divmod(place, LENGTH) if causal else place
        before = batch.hidden_BLD[where]
        result[where] = before + gate_N[n] * (outputs_EBLD[chosen_N[n]][where] - before)
    return result


def plain_block(experts, expert):
    """Return an ordinary block that computes with the weights of one expert."""
    block = Block(experts.params)
    gains = experts.attention_norm, experts.norm
    weights = {
        "attention.attention.qkv.weight": experts.qkv_EDM[expert].t(),
        "attention.attention.out.weight": experts.mixed_EDD[expert].t(),
        "feed_forward.into.weight": experts.into_EDG[expert].t(),
        "feed_forward.out.weight": experts.out_EFD[expert].t(),
    }
    for name, norm in zip(("attention.norm", "norm"), gains, strict=True):
        weights[f"{name}.weight"] = norm.gain.view(norm.shape)[expert]
        weights[f"{name}.bias"] = norm.bias.view(norm.shape)[expert]
    return lambda x_BLD, pattern: torch.func.functional_call(block, weights, (x_BLD, pattern))


@pytest.mark.parametrize("mask_BL", [None, ragged_mask()], ids=["full", "ragged"])
@pytest.mark.parametrize("causal", [False, True], ids=["samples", "tokens"])
@pytest.mark.parametrize(
    "fields", [{}, {"activation": "swiglu", "positions": "rope"}], ids=["gelu", "swiglu-rope"]
)
def test_stacked_blocks_equal_a_loop_over_separate_blocks(mask_BL, causal, fields):
    params = TransformerParams(embed_dim=WIDTH, num_heads=2, ff_factor=2.0, **fields)
    experts = StackedBlocks(params, EXPERTS)
    with torch.no_grad():
        for parameter in experts.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    batch = batch_of(mask_BL)
    batch.hidden_BLD.requires_grad_()
    deciders = Deciders(batch, causal=causal)
    chosen_N = torch.randint(0, EXPERTS - 1, (len(deciders),))  # the last expert sees nobody
    gate_N = straight_through(torch.rand(len(deciders), requires_grad=True))

    def fast():
        visits = deciders.visits(torch.arange(len(deciders)), chosen_N, EXPERTS)
        rows_RLD = batch.hidden_BLD.index_select(0, visits.sample_R)
        after_VQD = experts(rows_RLD, visits, attention_pattern(batch, causal=causal))
        return updated(batch.hidden_BLD, visits.own(rows_RLD), after_VQD, gate_N, visits)

    def slow():
        return naive_step(experts, batch, chosen_N, gate_N, causal=causal)

    direction_BLD = torch.randn_like(batch.hidden_BLD)
    wanted = [batch.hidden_BLD, gate_N, *experts.parameters()]
    found = [
        (y := run(), *torch.autograd.grad((y * direction_BLD).sum(), wanted))
        for run in (fast, slow)
    ]
    for actual, expected in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_expert_that_saw_nobody_gets_zeros():
    params = TransformerParams(embed_dim=WIDTH, num_heads=2)
    experts = StackedBlocks(params, EXPERTS)
    batch = batch_of()
    for causal in (False, True):
        deciders = Deciders(batch, causal=causal)
        chosen_N = torch.ones(len(deciders), dtype=torch.int64)
        visits = deciders.visits(torch.arange(len(deciders)), chosen_N, EXPERTS)
        rows_RLD = batch.hidden_BLD.index_select(0, visits.sample_R)
        pattern = attention_pattern(batch, causal=causal)
        experts.zero_grad()
        experts(rows_RLD, visits, pattern).square().sum().backward()
        for name, parameter in experts.named_parameters():
            gradient_ = parameter.grad.view(EXPERTS, -1)
            assert gradient_[1].any(), name
            assert not gradient_[[0, 2]].any(), name


def test_rows_are_only_the_samples_in_which_someone_chose_the_expert():
    deciders = Deciders(batch_of(), causal=True)
    chosen_N = torch.zeros(len(deciders), dtype=torch.int64)
    chosen_N[2 * LENGTH + 3] = 2
    visits = deciders.visits(torch.arange(len(deciders)), chosen_N, EXPERTS)
    pairs = list(zip(visits.expert_R.tolist(), visits.sample_R.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (2, 2)]
    assert visits.own_slices.sizes == (ROWS * LENGTH - 1, 0, 1)
    assert visits.row_slices.sizes == (ROWS * LENGTH, 0, LENGTH)


def test_those_who_stopped_stay_as_they_are():
    params = TransformerParams(embed_dim=WIDTH, num_heads=2)
    experts, batch = StackedBlocks(params, EXPERTS), batch_of()
    deciders = Deciders(batch, causal=False)
    visits = deciders.visits(torch.tensor([1, 4]), torch.tensor([2, 0]), EXPERTS)
    rows_RLD = batch.hidden_BLD.index_select(0, visits.sample_R)
    after_VQD = experts(rows_RLD, visits, attention_pattern(batch, causal=False))
    result = updated(batch.hidden_BLD, rows_RLD, after_VQD, torch.ones(ROWS), visits)
    changed_B = (result != batch.hidden_BLD).any(2).any(1)
    assert changed_B.tolist() == [False, True, False, False, True]


def test_noise_samples_the_distribution_and_none_takes_the_best():
    logits_NA = torch.tensor([[1.0, 0.0, -1.0]]).expand(20_000, 3)
    sampled = decide(logits_NA, gumbel_noise(logits_NA), tau=0.5)
    shares_A = torch.bincount(sampled.chosen_M) / len(logits_NA)
    torch.testing.assert_close(shares_A, (2 * logits_NA[0]).softmax(0), rtol=0, atol=0.015)
    torch.testing.assert_close(sampled.probs_MA[0], (2 * logits_NA[0]).softmax(0))
    assert decide(logits_NA, None, tau=0.5).chosen_M.unique().tolist() == [0]


def test_low_temperature_takes_what_evaluation_takes():
    logits_NA = torch.randn(200, 4)
    best_N = decide(logits_NA, None, tau=1.0).chosen_M
    agree = [
        (decide(logits_NA, gumbel_noise(logits_NA), tau).chosen_M == best_N).float().mean()
        for tau in (2.0, 0.01)
    ]
    assert agree[0] < 0.7
    assert agree[1] > 0.95


def test_gate_is_exactly_one_and_has_the_gradient_of_the_chosen_probability():
    logits_NA = torch.randn(4, 3, requires_grad=True)
    decision = decide(logits_NA, None, tau=0.7)
    gate_N = decision.gate()
    assert torch.equal(gate_N, torch.ones(4))
    (actual_NA,) = torch.autograd.grad(gate_N.sum(), logits_NA)
    relaxed_NA = F.softmax(logits_NA / 0.7, dim=1)
    (expected_NA,) = torch.autograd.grad(relaxed_NA.amax(1).sum(), logits_NA)
    torch.testing.assert_close(actual_NA, expected_NA)


def test_update_credits_the_choice_with_what_the_expert_changed():
    batch = batch_of()
    deciders = Deciders(batch, causal=False)
    visits = deciders.visits(torch.arange(ROWS), torch.zeros(ROWS, dtype=torch.int64), 1)
    before, after = torch.randn(2, ROWS, LENGTH, WIDTH)
    gate_N = torch.ones(ROWS, requires_grad=True)
    result = updated(batch.hidden_BLD, before, after, gate_N, visits)
    torch.testing.assert_close(result, after)
    direction = torch.randn_like(result)
    (credit_N,) = torch.autograd.grad((result * direction).sum(), gate_N)
    torch.testing.assert_close(credit_N, (direction * (after - before)).sum((1, 2)))

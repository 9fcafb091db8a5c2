"""Graph of experts: what only this model does; `ModelContract` tests what all models promise."""

import math

import pytest
import torch
from torch import nn

from research_eval.models.goe import SPEC, GoE, GoEParams
from research_eval.network import Network
from research_eval.spec import BodyContext, BodyInput

ROWS, LENGTH, WIDTH = 6, 5, 8
BOTH = pytest.mark.parametrize("causal", [False, True], ids=["samples", "tokens"])


def context_of(causal):
    return BodyContext(vocab_size=11, max_length=16, causal=causal, find_router=None)


def body_of(causal, **fields):
    small = {"embed_dim": WIDTH, "num_heads": 2, "ff_factor": 2.0, "num_experts": 3}
    body = GoE(GoEParams(**{**small, **fields}), context_of(causal))
    with torch.no_grad():  # fresh weights route nearly at random, and experts are alike
        for parameter in body.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return body


def batch_of(rows=ROWS, length=LENGTH, mask_BL=None):
    ids_BL = torch.zeros(rows, length, dtype=torch.int64)
    return BodyInput(torch.randn(rows, length, WIDTH), ids_BL, mask_BL)


def gradients_of(body, batch, direction_BLD):
    torch.manual_seed(7)
    body.zero_grad()
    hidden_BLD = body(batch).hidden_BLD
    (hidden_BLD * direction_BLD).sum().backward()
    return hidden_BLD.detach(), {n: p.grad.clone() for n, p in body.named_parameters()}


@BOTH
@pytest.mark.parametrize("training", [False, True])
def test_sparse_equals_the_exact_estimator_except_for_the_router(causal, training):
    sparse = body_of(causal).train(training)
    dense = body_of(causal, dispatch="dense").train(training)
    dense.load_state_dict(sparse.state_dict())
    batch, direction_BLD = batch_of(), torch.randn(ROWS, LENGTH, WIDTH)
    hidden, found = gradients_of(sparse, batch, direction_BLD)
    exact_hidden, exact = gradients_of(dense, batch, direction_BLD)
    torch.testing.assert_close(hidden, exact_hidden, rtol=1e-4, atol=1e-5)
    # The state that the second step's router reads carries the first router's gradient back into
    # the experts, so their gradients are compared in the last step alone.
    for name in found:
        if name.startswith("router"):
            assert not torch.allclose(found[name], exact[name], rtol=0.05), name


@BOTH
def test_experts_get_the_gradient_of_the_exact_estimator(causal):
    sparse = body_of(causal, num_layers=1)
    dense = body_of(causal, num_layers=1, dispatch="dense")
    dense.load_state_dict(sparse.state_dict())
    batch, direction_BLD = batch_of(), torch.randn(ROWS, LENGTH, WIDTH)
    _, found = gradients_of(sparse, batch, direction_BLD)
    _, exact = gradients_of(dense, batch, direction_BLD)
    for name in found:
        if name.startswith("experts"):
            torch.testing.assert_close(found[name], exact[name], rtol=1e-4, atol=1e-5)


def test_router_gradient_is_what_the_documentation_says():
    """dL/dp_e is <g, expert_e(x) - x> for every expert if exact, for the chosen one if sparse."""
    batch, direction_BLD = batch_of(), torch.randn(ROWS, LENGTH, WIDTH)
    for dispatch in ("sparse", "dense"):
        torch.manual_seed(1)
        body = body_of(causal=False, num_layers=1, dispatch=dispatch, gumbel_tau=1.0).eval()
        weight_ER = body.router.scores.weight
        deciders_state = {}
        body.router.cell.register_forward_hook(
            lambda _m, _i, state_NR, kept=deciders_state: kept.update(state=state_NR)
        )
        _, found = gradients_of(body, batch, direction_BLD)
        state_NR = deciders_state["state"]
        logits_NE = state_NR @ weight_ER.t()
        probs_NE, chosen_N = logits_NE.softmax(1), logits_NE.argmax(1)
        credit_NE = torch.stack([credit_of(body, e, batch, direction_BLD) for e in range(3)], dim=1)
        if dispatch == "sparse":
            credit_NE = credit_NE * nn.functional.one_hot(chosen_N, 3)
        baseline_N1 = (probs_NE * credit_NE).sum(1, keepdim=True)
        expected_ER = (probs_NE * (credit_NE - baseline_N1)).t() @ state_NR
        torch.testing.assert_close(
            found["router.scores.weight"], expected_ER.detach(), rtol=1e-4, atol=1e-5
        )


def credit_of(body, expert, batch, direction_BLD):
    """Return [N]: along the gradient, what one expert would have changed for each sample."""
    weight_ER = body.router.scores.weight
    kept = weight_ER.detach().clone()

    class Always(nn.Module):
        def forward(self, state_NR):
            return nn.functional.one_hot(torch.full((len(state_NR),), expert), 3).float()

    scores, body.router.scores = body.router.scores, Always()
    with torch.no_grad():
        changed_BLD = body(batch).hidden_BLD - body.norm(batch.hidden_BLD)
    body.router.scores = scores
    assert torch.equal(weight_ER, kept)
    return (direction_BLD * changed_BLD).sum((1, 2))


def test_changing_a_token_changes_no_output_before():
    body = body_of(causal=True, num_experts=8, num_layers=3)
    batch = batch_of(length=9)
    for training in (False, True):
        body.train(training)
        torch.manual_seed(2)
        before_BLD = body(batch).hidden_BLD
        for t in (1, 5, 8):
            hidden_BLD = batch.hidden_BLD.clone()
            hidden_BLD[:, t] += 3 * torch.randn(ROWS, WIDTH)
            torch.manual_seed(2)
            after_BLD = body(BodyInput(hidden_BLD, batch.ids_BL, None)).hidden_BLD
            torch.testing.assert_close(after_BLD[:, :t], before_BLD[:, :t], rtol=1e-4, atol=1e-5)
            assert not torch.allclose(after_BLD[:, t:], before_BLD[:, t:])


@BOTH
def test_a_sample_is_alone_with_its_tokens(causal):
    body = body_of(causal, num_experts=8, num_layers=3).eval()
    mask_BL = torch.arange(LENGTH) < torch.tensor([5, 1, 3, 2, 4, 0])[:, None]
    batch = batch_of(mask_BL=mask_BL)
    together_BLD = body(batch).hidden_BLD
    for row, length in enumerate(mask_BL.sum(1).tolist()):
        alone = BodyInput(
            batch.hidden_BLD[row : row + 1, :length], batch.ids_BL[row : row + 1, :length], None
        )
        if length:
            torch.testing.assert_close(
                together_BLD[row, :length], body(alone).hidden_BLD[0], rtol=1e-4, atol=1e-5
            )
    # Nobody decided, nothing ran.
    assert torch.equal(together_BLD[5], body.norm(batch.hidden_BLD)[5])


@BOTH
def test_path_tells_who_went_where(causal):
    body = body_of(causal, num_layers=4).eval()
    batch = batch_of()
    path = body(batch).path
    deciders = ROWS * LENGTH if causal else ROWS
    assert path.num_experts == 3
    assert path.chosen_NP.shape == (deciders, 4)
    torch.testing.assert_close(path.probs_NPA.sum(2), torch.ones(deciders, 4))
    assert torch.equal(path.probs_NPA.argmax(2), path.chosen_NP)
    assert path.chosen_NP.unique().numel() > 1
    assert torch.equal(body(batch).path.chosen_NP, path.chosen_NP)
    paths = {tuple(body.train()(batch).path.chosen_NP.flatten().tolist()) for _ in range(3)}
    assert len(paths) > 1


def test_padding_decides_nothing():
    mask_BL = torch.arange(LENGTH) < torch.tensor([5, 1, 3, 0, 4, 0])[:, None]
    batch = batch_of(mask_BL=mask_BL)
    assert len(body_of(causal=False)(batch).path.chosen_NP) == 4
    assert len(body_of(causal=True)(batch).path.chosen_NP) == 13


def test_entropy_term_pushes_towards_exploring():
    body = body_of(causal=False)
    term = body(batch_of()).aux_losses["router_entropy_gap"]
    assert 0 < term.value < math.log(3)
    assert term.weight == 1e-3
    batch = batch_of()
    optimizer = torch.optim.Adam(body.router.parameters(), lr=5e-2)
    for _ in range(50):
        optimizer.zero_grad()
        body(batch).aux_losses["router_entropy_gap"].value.backward()
        optimizer.step()
    assert body(batch).aux_losses["router_entropy_gap"].value < 0.02


def test_balance_is_that_of_the_whole_path():
    """All take expert 0 and then expert 1: each has half of the visits, which is even."""
    body = body_of(causal=False, num_experts=2, num_layers=2)

    class InTurn(nn.Module):
        step = 0

        def forward(self, state_NR):
            self.step += 1
            return 50.0 * nn.functional.one_hot(torch.full((len(state_NR),), self.step - 1), 2)

    body.router.scores = InTurn()
    aux = body(batch_of()).aux_losses
    assert aux["load_balance"].value == pytest.approx(1.0, abs=1e-4)
    assert aux["router_entropy_gap"].value == pytest.approx(math.log(2), abs=1e-4)


@BOTH
def test_one_expert_is_a_pool(causal):
    body = body_of(causal, num_experts=1)
    found = body(batch_of(length=1))
    assert found.path.chosen_NP.eq(0).all()
    assert found.aux_losses["load_balance"].value == 1
    found.hidden_BLD.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in body.parameters())


@BOTH
def test_batch_of_padding_leaves_everything_alone(causal):
    body = body_of(causal)
    batch = batch_of(mask_BL=torch.zeros(ROWS, LENGTH, dtype=torch.bool))
    found = body(batch)
    assert torch.equal(found.hidden_BLD, body.norm(batch.hidden_BLD))
    total = sum(term.value for term in found.aux_losses.values())
    (found.hidden_BLD.sum() + total).backward()
    assert all(not p.grad.any() for p in body.experts.parameters())


class EveryExpertInTurn(nn.Module):
    """Does the work of the router, and then sends decision maker n to expert n mod E."""

    def __init__(self, router, num_experts):
        super().__init__()
        self.router, self.num_experts = router, num_experts

    def forward(self, x_BLD, state_NR, deciders):
        logits_NE, state_NR = self.router(x_BLD, state_NR, deciders)
        turn_N = torch.arange(len(logits_NE)) % self.num_experts
        return logits_NE + 1e3 * nn.functional.one_hot(turn_N, self.num_experts), state_NR


@pytest.mark.parametrize("task", ["classification", "language_modeling"])
@pytest.mark.parametrize(("num_experts", "length"), [(1, 16), (4, 16), (8, 16), (8, 3)])
def test_declared_cost_is_what_runs_when_every_expert_is_in_use(task, num_experts, length):
    params = GoEParams(num_experts=num_experts, num_layers=3)
    network = Network(
        SPEC, params, context_of(task == "language_modeling"), task=task, num_classes=2
    )
    network.body.router = EveryExpertInTurn(network.body.router, num_experts)
    counted = network.counted_flops_per_token(length)
    assert counted == pytest.approx(network.flops_per_token(length), rel=0.01)


def test_active_parameters_are_those_of_the_experts_on_the_path():
    body = body_of(causal=False, num_experts=8, num_layers=2)
    whole = sum(p.numel() for p in body.parameters())
    experts = sum(p.numel() for p in body.experts.parameters())
    declared = SPEC.cost(body.params, context_of(causal=False), LENGTH).active_params
    assert declared == whole - experts + 2 * experts // 8


def test_original_names_are_understood():
    aliases = GoEParams.all_aliases()
    assert aliases["num_total_experts_pool"] == aliases["num_total_experts"] == "num_experts"
    assert aliases["max_path_len"] == "num_layers"
    assert aliases["router_hidden_dim"] == "router_dim"
    assert aliases["aux_loss_coeff"] == "entropy_loss_weight"

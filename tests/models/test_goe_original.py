"""Dynamic paths: what only this model does; `ModelContract` tests what all models promise."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from research_eval.diagnostics.paths import summarise
from research_eval.models._blocks import attention_pattern
from research_eval.models._controller import RewardScale
from research_eval.models._gated_experts import GatedExperts
from research_eval.models._paths import Deciders
from research_eval.models.goe_original import (
    SPEC,
    GoEOriginal,
    GoEOriginalParams,
    likeness,
    path_length,
    unevenness,
)
from research_eval.network import Network
from research_eval.spec import BodyContext, BodyInput, PathRecord, TransformerParams

ROWS, LENGTH, WIDTH = 6, 5, 8
BOTH = pytest.mark.parametrize("causal", [False, True], ids=["samples", "tokens"])


def context_of(causal):
    return BodyContext(vocab_size=11, max_length=16, causal=causal, find_router=None)


def body_of(causal, end=0.0, **fields):
    """Return a body whose controller scores ending the path by `end` more than an expert."""
    small = {"embed_dim": WIDTH, "num_heads": 2, "ff_factor": 2.0, "num_experts": 3}
    body = GoEOriginal(GoEOriginalParams(**{**small, **fields}), context_of(causal))
    stir(body)
    with torch.no_grad():
        body.controller.norm.bias.zero_()
        body.controller.norm.bias[-1] = end
        # The maximum is much alike for everyone: with less of it, paths differ more.
        body.controller.hidden.weight[:, WIDTH:] *= 0.1
    return body


def stir(module):
    with torch.no_grad():  # fresh experts are alike
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))


def batch_of(rows=ROWS, length=LENGTH, mask_BL=None, progress=1.0):
    ids_BL = torch.zeros(rows, length, dtype=torch.int64)
    return BodyInput(torch.randn(rows, length, WIDTH), ids_BL, mask_BL, progress)


def always(body, *, stop):
    """Make ending the path irresistible, or impossible."""
    with torch.no_grad():
        body.controller.norm.weight.mul_(0.01)
        body.controller.norm.bias.zero_()
        body.controller.norm.bias[-1] = 10.0 if stop else -10.0


# ---------------------------------------------------------------------------------------- paths


@BOTH
@pytest.mark.parametrize("training", [False, True])
def test_visit_limits_limit(causal, training):
    body = body_of(causal, num_layers=5, max_visits_per_expert=1).train(training)
    always(body, stop=False)
    with torch.no_grad():
        body.controller.norm.bias[0] = 10.0  # the favourite
    chosen_NP = body(batch_of()).path.chosen_NP
    assert torch.equal(chosen_NP[:, 0], torch.zeros(len(chosen_NP), dtype=torch.int64))
    for expert in range(3):
        assert (chosen_NP == expert).sum(1).max() == 1
    assert (chosen_NP[:, 3:] == -1).all()  # all experts are spent: the path ends


def test_two_visits_are_two():
    body = body_of(causal=False, num_layers=5, max_visits_per_expert=2, num_experts=2).eval()
    always(body, stop=False)
    chosen_NP = body(batch_of()).path.chosen_NP
    assert (chosen_NP[:, :4].sum(1) == 2).all()
    assert (chosen_NP[:, 4] == -1).all()


@BOTH
@pytest.mark.parametrize("training", [False, True])
def test_all_may_end_at_once(causal, training):
    body = body_of(causal).train(training)
    always(body, stop=True)
    batch = batch_of()
    found = body(batch)
    assert torch.equal(found.hidden_BLD, batch.hidden_BLD)
    assert found.path.chosen_NP.eq(-1).all()
    aux = found.aux_losses | found.after_loss(loss_of(body, 1.0))
    assert all(term.value.isfinite() for term in aux.values())
    (found.hidden_BLD.sum() + sum(term.value for term in aux.values())).backward()
    for parameter in body.experts.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()


def loss_of(body, value):
    return torch.full((ROWS, LENGTH) if body.causal else (ROWS,), value)


@BOTH
def test_paths_end_in_evaluation_and_evaluation_repeats(causal):
    body = body_of(causal, num_layers=4, end=0.5).eval()
    batch = batch_of(rows=40)
    path = body(batch).path
    summary = summarise(path.chosen_NP, 3)
    assert 0.1 < summary.ended_at_once < 0.9
    assert summary.ended_early > summary.ended_at_once
    assert summary.effective_paths > 2
    again = body(batch)
    assert torch.equal(again.path.chosen_NP, path.chosen_NP)
    assert torch.equal(again.hidden_BLD, body(batch).hidden_BLD)
    ended_NP = path.chosen_NP == -1
    assert (ended_NP[:, 1:] >= ended_NP[:, :-1]).all()  # who has ended stays so
    decided_NP = torch.cat([torch.ones_like(ended_NP[:, :1]), ~ended_NP[:, :-1]], dim=1)
    torch.testing.assert_close(path.probs_NPA.sum(2), decided_NP.float())


@BOTH
def test_a_sample_is_alone_with_its_tokens(causal):
    """Also shows that samples which left the batch take nothing with them."""
    body = body_of(causal, num_layers=4, num_experts=5, expert_layers=2, end=0.5).eval()
    mask_BL = torch.arange(LENGTH) < torch.tensor([5, 1, 3, 2, 4, 0])[:, None]
    batch = batch_of(mask_BL=mask_BL)
    together_BLD = body(batch).hidden_BLD
    lengths = (body(batch).path.chosen_NP >= 0).sum(1)
    assert lengths.unique().numel() > 1
    for row, length in enumerate(mask_BL.sum(1).tolist()[:5]):
        alone = BodyInput(
            batch.hidden_BLD[row : row + 1, :length], batch.ids_BL[row : row + 1, :length], None
        )
        torch.testing.assert_close(
            together_BLD[row, :length], body(alone).hidden_BLD[0], rtol=1e-4, atol=1e-5
        )
    assert torch.equal(together_BLD[5], batch.hidden_BLD[5])


def test_changing_a_token_changes_no_output_before():
    body = body_of(causal=True, num_experts=5, num_layers=4, expert_layers=2)
    batch = batch_of(length=9)
    for training in (False, True):
        body.train(training)
        torch.manual_seed(2)
        before_BLD = body(batch).hidden_BLD
        for t in (1, 5, 8):
            hidden_BLD = batch.hidden_BLD.clone()
            hidden_BLD[:, t] += 3 * torch.randn(ROWS, WIDTH)
            torch.manual_seed(2)
            after_BLD = body(replace(batch, hidden_BLD=hidden_BLD)).hidden_BLD
            torch.testing.assert_close(after_BLD[:, :t], before_BLD[:, :t], rtol=1e-4, atol=1e-5)
            assert not torch.allclose(after_BLD[:, t:], before_BLD[:, t:])


@BOTH
def test_one_expert_is_a_pool(causal):
    body = body_of(causal, num_experts=1, num_layers=3, meta_loss_weight=0.1)
    batch = batch_of(length=1)
    found = body(batch)
    losses = torch.rand(ROWS, 1) if causal else torch.rand(ROWS)
    aux = found.aux_losses | found.after_loss(losses)
    assert aux["contrastive"].value == 0
    (found.hidden_BLD.square().sum() + sum(term.value for term in aux.values())).backward()
    assert all(p.grad.isfinite().all() for p in body.parameters())


@BOTH
def test_batch_of_padding_leaves_everything_alone(causal):
    body = body_of(causal, meta_loss_weight=0.1)
    batch = batch_of(mask_BL=torch.zeros(ROWS, LENGTH, dtype=torch.bool))
    found = body(batch)
    assert torch.equal(found.hidden_BLD, batch.hidden_BLD)
    aux = found.aux_losses | found.after_loss(loss_of(body, 0.0))
    assert all(term.value.isfinite() for term in aux.values())


@pytest.mark.parametrize("num_experts", [1, 2, 8, 32])
def test_untrained_controller_seldom_ends_a_path(num_experts):
    params = GoEOriginalParams(embed_dim=WIDTH, num_heads=2, num_experts=num_experts)
    body = GoEOriginal(params, context_of(causal=False))
    path = body(batch_of(rows=500, progress=0.0)).path
    assert 0.005 < summarise(path.chosen_NP, num_experts).ended_at_once < 0.05


def test_training_anneals_from_exploring_to_what_evaluation_does():
    body, batch = body_of(causal=False, num_layers=1), batch_of(rows=200)
    best_NP = body.eval()(batch).path.chosen_NP
    body.train()
    agreement = [
        (body(replace(batch, progress=p)).path.chosen_NP == best_NP).float().mean()
        for p in (0.0, 0.5, 1.0)
    ]
    assert agreement[0] < agreement[1] < agreement[2]
    assert agreement[0] < 0.6
    assert agreement[2] > 0.8


# -------------------------------------------------------------------------------------- experts


@BOTH
@pytest.mark.parametrize("expert_layers", [1, 2])
def test_experts_equal_a_loop_over_pairs_of_sample_and_expert(causal, expert_layers):
    params = TransformerParams(embed_dim=WIDTH, num_heads=2, ff_factor=2.0)
    experts = GatedExperts(params, num_experts=3, expert_layers=expert_layers)
    stir(experts)
    mask_BL = torch.arange(LENGTH) < torch.tensor([5, 1, 3, 2, 4, 5])[:, None]
    batch = batch_of(mask_BL=mask_BL)
    deciders = Deciders(batch, causal=causal)
    chosen_N = torch.randint(0, 3, (len(deciders),))
    visits = deciders.visits(torch.arange(len(deciders)), chosen_N, 3)
    after_VQD = experts(
        batch.hidden_BLD.index_select(0, visits.sample_R),
        visits,
        attention_pattern(batch, causal=causal),
        deciders,
    )
    actual_BLD = torch.zeros_like(batch.hidden_BLD)
    seen = actual_BLD.view(-1, *after_VQD.shape[1:])
    seen[visits.place_V] = after_VQD.detach()

    expected_BLD = torch.zeros_like(batch.hidden_BLD)
    place_N = deciders.place_N
    for row in range(ROWS):
        for expert in range(3):
            if causal:
                here = (place_N // LENGTH == row) & (chosen_N == expert)
                own = (place_N[here] % LENGTH).tolist()
            else:
                own = list(range(LENGTH)) if chosen_N[row] == expert else []
            if own:
                expected_BLD[row, own] = naive_expert(
                    experts, expert, batch.hidden_BLD[row], mask_BL[row], own, causal=causal
                ).detach()
    torch.testing.assert_close(actual_BLD[mask_BL], expected_BLD[mask_BL], rtol=1e-4, atol=1e-5)


def naive_expert(experts, e, x_LD, mask_L, own, *, causal):
    """One expert on one sample, position by position; `own` are the positions that chose it."""
    start_LD = x_LD
    for block in experts.blocks:
        u_LD = norm_of(block.attention_norm, e, x_LD)
        q_LD, k_LD, v_LD = (u_LD @ block.qkv_EDM[e]).chunk(3, dim=1)
        new_LD = x_LD.clone()
        for t in own:
            seen = [s for s in range(LENGTH) if mask_L[s] and (s <= t or not causal)]
            heads = []
            for q, k, v in zip(
                q_LD[t].chunk(2), k_LD[seen].chunk(2, 1), v_LD[seen].chunk(2, 1), strict=True
            ):
                heads.append((k @ q / math.sqrt(len(q))).softmax(0) @ v)
            a = torch.cat(heads) @ block.mixed_EDD[e]
            gate = (torch.cat([u_LD[t], a]) @ block.gate_EMD[e]).sigmoid()
            x = x_LD[t] + norm_of(block.gated_norm, e, u_LD[t] + gate * a)
            hidden = F.gelu(norm_of(block.norm, e, x) @ block.into_EDG[e])
            new_LD[t] = x + hidden @ block.out_EFD[e]
        x_LD = new_LD
    rows = []
    for t in own:
        known = [s for s in own if s <= t] if causal else [s for s in own if mask_L[s]]
        score = x_LD[known].mean(0) @ experts.gate_ED[e] + experts.gate_bias[e]
        q = score.sigmoid()
        rows.append(q * x_LD[t] + (1 - q) * start_LD[t] + experts.tag_ED[e])
    return torch.stack(rows)


def norm_of(norm, expert, x_):
    gain_D, bias_D = (p.view(norm.shape)[expert] for p in (norm.gain, norm.bias))
    return F.layer_norm(x_, (WIDTH,), gain_D, bias_D)


# --------------------------------------------------------------------------------------- values


def test_values_move_towards_the_reward():
    """Samples that met expert 0 did well, the others badly: Q_0 goes up, the rest goes down."""
    body = body_of(causal=False, num_layers=1)
    with torch.no_grad():
        body.controller.value_A.zero_()
    found = body(batch_of(rows=60, progress=0.0))
    action_N = found.path.chosen_NP[:, 0].remainder(4)  # -1 is the last action
    assert action_N.unique().numel() == 4
    losses_N = torch.where(action_N == 0, 0.1, 2.0)
    term = found.after_loss(losses_N)["value"]
    (gradient_A,) = torch.autograd.grad(term.value, body.controller.value_A)
    assert gradient_A[0] < 0
    assert (gradient_A[1:] > 0).all()


def test_value_loss_is_the_error_to_reward_and_discounted_future():
    body = body_of(causal=False, num_layers=2, num_experts=2, path_loss_weight=0.01)
    always(body, stop=False)
    with torch.no_grad():
        body.controller.value_A.copy_(torch.tensor([0.2, 0.5, -0.3]))
        body.reward_scale.count.fill_(10**15)  # so many rewards were seen that these do not count
        body.reward_scale.mean.fill_(-1.0)
        body.reward_scale.variance.fill_(4.0)
    found = body(batch_of(rows=1, progress=0.5))
    reward = (-1.4 - 0.01 * 2 + 1.0) / 2.0
    target = reward + 0.945 * 0.5
    values = body.controller.value_A.detach()[found.path.chosen_NP[0]]
    expected = (values - target).square().mean()
    term = found.after_loss(torch.tensor([1.4]))["value"]
    assert term.value.item() == pytest.approx(expected.item(), abs=1e-6)
    assert term.weight == body.params.value_loss_weight


def test_ending_has_no_future():
    body = body_of(causal=False)
    always(body, stop=True)
    with torch.no_grad():
        body.controller.value_A.copy_(torch.tensor([0.9, 0.9, 0.9, 0.1]))
        body.reward_scale.count.fill_(10**15)
    term = body(batch_of(rows=1)).after_loss(torch.tensor([0.4]))["value"]
    assert term.value.item() == pytest.approx((0.1 - -0.4) ** 2, abs=1e-6)


def test_tokens_without_a_target_teach_nothing():
    body = body_of(causal=True)
    found = body(batch_of())
    losses_BL = torch.rand(ROWS, LENGTH) + 0.5
    losses_BL[:, 2] = 0.0
    found.after_loss(losses_BL)
    assert body.reward_scale.count == ROWS * (LENGTH - 1)


def test_reward_scale_is_that_of_all_rewards():
    scale = RewardScale()
    rewards = [torch.randn(n) * 3 + n for n in (1, 7, 50, 2)]
    for reward_N in rewards:
        scaled_N = scale(reward_N)
    whole = torch.cat(rewards)
    torch.testing.assert_close(scale.mean, whole.mean())
    torch.testing.assert_close(scale.variance, whole.var(correction=0))
    expected_N = (rewards[-1] - whole.mean()) / whole.std(correction=0)
    torch.testing.assert_close(scaled_N, expected_N.clamp(-1, 1))
    assert scale(torch.tensor([1e6])).item() == 1.0
    assert RewardScale()(torch.tensor([5.0, 5.0])).tolist() == [0.0, 0.0]


# ------------------------------------------------------------------------------ auxiliary terms


@BOTH
def test_task_loss_reaches_the_whole_controller(causal):
    body = body_of(causal)
    found = body(batch_of(rows=32, progress=0.0))
    (found.hidden_BLD * torch.randn_like(found.hidden_BLD)).sum().backward()
    for name, parameter in body.controller.named_parameters():
        assert parameter.grad.norm() > 1e-4, name


def test_path_length_is_the_mean_and_falls_with_the_chance_to_go_on():
    path = PathRecord(
        num_experts=2,
        chosen_NP=torch.tensor([[0, 1], [1, -1], [-1, -1]]),
        probs_NPA=torch.zeros(3, 2, 3),
    )
    logits_TA = torch.zeros(5, 3, requires_grad=True)
    length = path_length(path, logits_TA.softmax(1))
    assert length.item() == 1.0
    (gradient_TA,) = torch.autograd.grad(length, logits_TA)
    assert (gradient_TA[:, 2] < 0).all()  # descending raises the score of the end
    assert (gradient_TA[:, :2] > 0).all()


def test_unevenness_by_hand():
    even = torch.full((5, 4), 0.2)  # the rest of each row belongs to the end of the path
    assert unevenness(even).item() == pytest.approx(0, abs=1e-6)
    one = torch.tensor([[0.7, 0.0, 0.0, 0.0]])
    assert unevenness(one).item() == pytest.approx(math.log(4) + 3)
    specialised = torch.eye(4)  # each decision is certain, and the mean is even
    assert unevenness(specialised).item() == pytest.approx(0, abs=1e-6)
    logits = torch.tensor([[1.0, 0.0, 0.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(unevenness(logits.softmax(1)), logits)
    assert gradient[0, 0] > 0


def test_likeness_is_between_different_experts_only():
    up, right = torch.tensor([[0.0, 2.0]]), torch.tensor([[3.0, 0.0]])
    both_same = torch.cat([up, up])
    assert likeness(both_same, torch.tensor([0, 0]), 3) == 0  # one expert, twice the same
    assert likeness(both_same, torch.tensor([0, 2]), 3) == 1
    assert likeness(torch.cat([up, -up]), torch.tensor([0, 1]), 3) == 1
    assert likeness(torch.cat([up, right]), torch.tensor([0, 1]), 3) == 0
    three = torch.cat([up, up, right])
    assert likeness(three, torch.tensor([0, 1, 2]), 3).item() == pytest.approx(1 / 3)


def test_guesses_learn_and_change_nothing_else():
    plain, guessing = body_of(causal=False), body_of(causal=False, meta_loss_weight=0.5)
    guessing.load_state_dict(plain.state_dict(), strict=False)
    batch, gradients = batch_of(rows=16, progress=0.0), []
    for body in (plain, guessing):
        torch.manual_seed(4)
        found = body(batch)
        total = sum(term.weight * term.value for term in found.aux_losses.values())
        (found.hidden_BLD.square().sum() + total).backward()
        gradients.append({n: p.grad for n, p in body.named_parameters()})
    assert gradients[1].pop("guesses.weight").abs().sum(1).gt(0).all()
    for name, gradient in gradients[0].items():
        assert torch.equal(gradients[1][name], gradient), name
    assert {"length_guess", "variety_guess"} <= found.aux_losses.keys()


def test_evaluation_reports_no_terms():
    assert body_of(causal=False).eval()(batch_of()).aux_losses == {}


# ----------------------------------------------------------------------------------------- cost


class EveryExpertInTurn(nn.Module):
    """Does the work of the controller, sends member n to expert n mod E, and never ends."""

    def __init__(self, controller, num_experts):
        super().__init__()
        self.controller, self.num_experts = controller, num_experts
        self.summary = controller.summary

    def forward(self, summary_MS):
        turn_M = torch.arange(len(summary_MS)) % self.num_experts
        return self.controller(summary_MS) + 1e3 * F.one_hot(turn_M, self.num_experts + 1)


@pytest.mark.parametrize("task", ["classification", "language_modeling"])
@pytest.mark.parametrize(("num_experts", "length"), [(1, 16), (4, 16), (8, 3)])
@pytest.mark.parametrize("expert_layers", [1, 2])
def test_declared_cost_is_that_of_the_longest_path(task, num_experts, length, expert_layers):
    params = GoEOriginalParams(
        num_experts=num_experts, expert_layers=expert_layers, max_visits_per_expert=3
    )
    network = Network(
        SPEC, params, context_of(task == "language_modeling"), task=task, num_classes=2
    )
    declared = network.flops_per_token(length)
    always(network.body, stop=True)
    assert network.counted_flops_per_token(length) < 0.5 * declared
    network.body.controller = EveryExpertInTurn(network.body.controller, num_experts)
    assert network.counted_flops_per_token(length) == pytest.approx(declared, rel=0.01)


def test_active_parameters_are_those_of_the_experts_on_the_path():
    body = body_of(causal=False, num_experts=8, num_layers=2, expert_layers=2)
    whole = sum(p.numel() for p in body.parameters())
    experts = sum(p.numel() for p in body.experts.parameters())
    declared = SPEC.cost(body.params, context_of(causal=False), LENGTH).active_params
    assert declared == whole - experts + 2 * experts // 8


def test_original_names_are_understood():
    aliases = GoEOriginalParams.all_aliases()
    assert aliases["max_visits"] == "max_visits_per_expert"
    assert aliases["path_penalty_coef"] == "path_loss_weight"
    assert aliases["gumbel_tau"] == "tau_start"
    assert aliases["num_total_experts"] == "num_experts"

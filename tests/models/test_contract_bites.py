"""A model that breaks a promise fails the check of that promise."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from research_eval.models._dispatch import Experts
from research_eval.models.dense import Dense
from research_eval.models.dense import cost as dense_cost
from research_eval.registry import MODELS_MAP
from research_eval.spec import BodyCost, BodyOutput, RouterOutput, RouterSpec, TransformerParams
from research_eval.testing import learning_checks, model_checks, params_checks, router_checks
from research_eval.testing.subject import Subject

DENSE, MOE = MODELS_MAP["dense"], MODELS_MAP["moe"]


def dense_with(build, **changes):
    return replace(DENSE, build=build, **changes)


class Leaky(Dense):
    """Looks ahead."""

    def __init__(self, params, context):
        super().__init__(params, replace(context, causal=False))


class SlightlyLeaky(Dense):
    """Adds a little of the mean over the whole row, as a batch statistic would."""

    def forward(self, batch):
        hidden = super().forward(batch).hidden_BLD
        return BodyOutput(hidden + 1e-3 * hidden.mean(dim=1, keepdim=True))


class ReadsPadding(Dense):
    """Forgets the mask."""

    def forward(self, batch):
        return super().forward(replace(batch, mask_BL=None))


class ReadsNeighbours(Dense):
    """Uses a statistic of the batch."""

    def forward(self, batch):
        hidden = super().forward(batch).hidden_BLD
        return BodyOutput(hidden + 1e-2 * hidden.mean(dim=0, keepdim=True))


class AlwaysNoisy(Dense):
    """Draws noise in evaluation too."""

    def forward(self, batch):
        hidden = super().forward(batch).hidden_BLD
        return BodyOutput(hidden + 1e-3 * torch.randn_like(hidden))


class Scrambled(Dense):
    """Makes NaN of rows without tokens."""

    def forward(self, batch):
        hidden = super().forward(batch).hidden_BLD
        if batch.mask_BL is None:
            return BodyOutput(hidden)
        return BodyOutput(hidden / batch.mask_BL.any(dim=1)[:, None, None])


class HidesAWeight(Dense):
    """Keeps a weight outside the state dict."""

    def __init__(self, params, context):
        super().__init__(params, context)
        self.hidden_scale = 1 + torch.rand(())

    def forward(self, batch):
        return BodyOutput(super().forward(batch).hidden_BLD * self.hidden_scale)


class Forgets(Dense):
    """Says that it goes on, and begins anew."""

    def forward(self, batch):
        return super().forward(replace(batch, past=None))


class Bag(nn.Module):
    """Has no notion of order: no attention, no positions in its input."""

    def __init__(self, params, _context):
        super().__init__()
        self.linear = nn.Linear(params.embed_dim, params.embed_dim)

    def forward(self, batch):
        return BodyOutput(0 * batch.hidden_BLD + self.linear(batch.hidden_BLD.mean(1))[:, None])


class Undocumented(TransformerParams):
    extra: int = 0


LM, CLASSIFY = "language_modeling", "classification"


@pytest.mark.parametrize(
    ("check", "spec", "task", "message"),
    [
        (model_checks.later_tokens_change_nothing_earlier, dense_with(Leaky), LM, "changed the"),
        (
            model_checks.later_tokens_change_nothing_earlier,
            dense_with(SlightlyLeaky),
            LM,
            "changed the",
        ),
        (learning_checks.learns_nothing_from_noise, dense_with(Leaky), LM, "it sees targets"),
        (model_checks.padding_is_not_read, dense_with(ReadsPadding), CLASSIFY, "padding"),
        (model_checks.samples_are_independent, dense_with(ReadsPadding), CLASSIFY, "padded"),
        (model_checks.samples_are_independent, dense_with(ReadsNeighbours), LM, "alone"),
        (model_checks.evaluation_repeats, dense_with(AlwaysNoisy), LM, "differ"),
        (model_checks.odd_batches_are_finite, dense_with(Scrambled), CLASSIFY, "not finite"),
        (model_checks.weights_survive_a_file, dense_with(HidesAWeight), CLASSIFY, "state dict"),
        (model_checks.rows_can_be_read_in_pieces, dense_with(Forgets), LM, "behind the others"),
        (
            learning_checks.solves_an_order_task,
            dense_with(Bag, params=TransformerParams, cost=None),
            CLASSIFY,
            "order task",
        ),
        (
            model_checks.declared_costs_are_counted_costs,
            replace(DENSE, cost=lambda p, c, n: BodyCost(dense_cost(p, c, n).flops_per_token, 1)),
            CLASSIFY,
            "active parameters",
        ),
        (
            model_checks.declared_costs_are_counted_costs,
            replace(DENSE, cost=lambda p, c, n: BodyCost(1, dense_cost(p, c, n).active_params)),
            LM,
            "FLOPs",
        ),
        (
            params_checks.fields_are_documented,
            dense_with(Dense, params=Undocumented),
            LM,
            "no docstring",
        ),
    ],
)
def test_broken_model_fails(check, spec, task, message):
    with pytest.raises(AssertionError, match=message):
        check(Subject.of(spec, task))


class DeadRouter(nn.Module):
    """Divides the one weight by itself, as several public implementations do."""

    def __init__(self, context):
        super().__init__()
        self.top_k = context.top_k

    def forward(self, tokens):
        probs = tokens.logits_TE.softmax(dim=-1)
        weights, chosen = probs.topk(self.top_k, dim=-1)
        return RouterOutput(chosen, weights / weights.sum(dim=-1, keepdim=True), probs)


class BatchRouter(DeadRouter):
    """Balances over the batch, so that a token's experts depend on its neighbours."""

    def forward(self, tokens):
        centred = tokens.logits_TE - tokens.logits_TE.mean(dim=0)
        return super().forward(replace(tokens, logits_TE=centred))


def with_router(build, **fields):
    subject = Subject.of(MOE, LM, num_experts=4, **fields)
    return replace(subject, find_router=lambda _name: RouterSpec(name="own", build=build))


def test_dead_router_fails_in_a_model_and_alone():
    with pytest.raises(AssertionError, match=r"no gradient to .*scores\.weight"):
        model_checks.every_weight_learns_from_the_task(with_router(DeadRouter, top_k=1))
    spec = RouterSpec(name="dead", build=DeadRouter)
    with pytest.raises(AssertionError, match="E=4, K=1: the gradient of the scores is zero"):
        router_checks.task_gradient_reaches_the_scores(spec, None)


def test_router_that_looks_at_the_batch_fails_in_a_model_and_alone():
    subject = with_router(BatchRouter)
    with pytest.raises(AssertionError, match="changed the outputs before"):
        model_checks.later_tokens_change_nothing_earlier(subject)
    with pytest.raises(AssertionError, match="alone and in a padded batch"):
        model_checks.samples_are_independent(subject)
    spec = RouterSpec(name="batch", build=BatchRouter)
    with pytest.raises(AssertionError, match="other experts"):
        router_checks.tokens_are_routed_alone(spec, None)


def test_wrong_fast_path_fails(monkeypatch):
    forward = Experts.forward
    monkeypatch.setattr(Experts, "forward", lambda self, *args: 1.001 * forward(self, *args))
    with pytest.raises(AssertionError, match="fast path and loop"):
        model_checks.fast_path_equals_the_loop(Subject.of(MOE, CLASSIFY))


def test_router_that_declares_a_bias_and_ignores_it_fails():
    spec = RouterSpec(name="deaf", build=DeadRouter, takes_bias=True)
    with pytest.raises(AssertionError, match="declared to take a bias"):
        router_checks.bias_decides_only_who_is_chosen(spec, None)

"""Dynamic paths with a controller that learns values: the original graph of experts, repaired.

In each step the controller scores the experts and the end of the path,

    logits = clamp(LN(MLP([mean; max]) + Q), -10, 10),

experts that were visited often enough are out of the question, and one action is drawn. Q learns
from how well the sample went, everything else from the task loss. In the original the router got
no gradient from the task, visit limits did not limit, and no path ended in evaluation.

B batch, L length, D width, E experts, A = E + 1 actions, S = 2 D summary, P steps,
N decision makers (samples, or tokens for language modelling), M those whose path goes on,
V visitors of an expert, T decisions of all steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from research_eval import ranks
from research_eval.knobs import Choice, LogUniform, Uniform
from research_eval.models._blocks import (
    AttentionPattern,
    LayeredParams,
    attention_params,
    attention_pattern,
    feed_forward_params,
    projection,
    run_layer,
)
from research_eval.models._controller import Controller, RewardScale
from research_eval.models._gated_experts import GatedExperts
from research_eval.models._paths import (
    Deciders,
    Decision,
    decide,
    gumbel_noise,
    replaced,
    updated,
    visit_flops,
)
from research_eval.routing_controls import RoutingControl
from research_eval.spec import (
    AuxLoss,
    BodyContext,
    BodyCost,
    BodyInput,
    BodyOutput,
    ModelSpec,
    PathRecord,
)

FIRST_DISCOUNT, LAST_DISCOUNT = 0.9, 0.99
"""Discount of the next decision's value, at the beginning and at the end of training."""


class GoEOriginalParams(LayeredParams):
    """Let a controller lead each sample, or token, through experts until it ends the path."""

    num_layers: Annotated[int, Field(ge=1), Uniform(1, 4)] = 3
    """Most steps of a path: experts that a sample, or token, can visit."""

    num_experts: Annotated[int, Field(ge=1), Choice(2, 4, 8)] = 4
    """Experts in the pool."""

    expert_layers: Annotated[int, Field(ge=1), Uniform(1, 3)] = 1
    """Blocks in each expert."""

    router_dim: Annotated[int, Field(ge=1), Choice(16, 32, 64)] = 32
    """Hidden width of the controller."""

    max_visits_per_expert: Annotated[int, Field(ge=1), Uniform(1, 3)] = 2
    """How often one path may visit the same expert; a path that may visit none ends."""

    tau_start: Annotated[float, Field(gt=0), LogUniform(0.5, 5.0)] = 2.0
    """Temperature of the relaxed choice that the router's gradient goes through, at first."""

    tau_end: Annotated[float, Field(gt=0), LogUniform(0.05, 0.5)] = 0.1
    """The same at the end of training; it falls linearly."""

    path_loss_weight: Annotated[float, Field(ge=0), LogUniform(1e-4, 1e-1)] = 1e-3
    """Price of a step, in the loss and in the reward. Five times the default lets one seed of three
    of the reference task end every path at once, before its experts are worth a step."""

    diversity_loss_weight: Annotated[float, Field(ge=0), LogUniform(1e-3, 1e-1)] = 2e-2
    """Weight of the penalty on uneven use of the experts."""

    contrastive_loss_weight: Annotated[float, Field(ge=0), LogUniform(1e-3, 1e-1)] = 5e-2
    """Weight of the penalty on different experts that do the same."""

    value_loss_weight: Annotated[float, Field(ge=0), LogUniform(1e-3, 1e-1)] = 1e-2
    """Weight of the error of the controller's values."""

    meta_loss_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of heads that guess a path's length and its number of different experts from the
    input; they change nothing else. 0 leaves them out."""

    aliases: ClassVar[Mapping[str, str]] = {
        "num_total_experts_pool": "num_experts",
        "num_total_experts": "num_experts",
        "max_path_len": "num_layers",
        "router_hidden_dim": "router_dim",
        "max_visits": "max_visits_per_expert",
        "gumbel_tau": "tau_start",
        "path_penalty_coef": "path_loss_weight",
        "diversity_loss_coef": "diversity_loss_weight",
        "contrastive_loss_coef": "contrastive_loss_weight",
    }


@dataclass(frozen=True, slots=True)
class Step:
    """One decision on each path that still went on.

    Attributes:
        member_M: Which of the N decision makers they are.
        decision: What they chose; the last action ends the path.
        change_VD: What its expert added to each visitor, averaged over the visitor's tokens.
        expert_V: Expert of each visitor.
    """

    member_M: Tensor
    decision: Decision
    change_VD: Tensor
    expert_V: Tensor

    @property
    def goes_on(self) -> Tensor:
        """Whose path goes on, [M]."""
        return self.decision.chosen_M < self.decision.probs_MA.shape[1] - 1


class GoEOriginal(nn.Module):
    """Up to `num_layers` steps through a pool of experts."""

    routing_control: RoutingControl | None = None

    def __init__(self, params: GoEOriginalParams, context: BodyContext) -> None:
        super().__init__()
        self.params, self.causal = params, context.causal
        self.controller = Controller(
            params.embed_dim, params.num_experts, params.router_dim, params.tau_start
        )
        # Every block of the longest path writes to the residual stream.
        depth = params.num_layers * params.expert_layers
        self.experts = GatedExperts(
            params.model_copy(update={"num_layers": depth}),
            params.num_experts,
            params.expert_layers,
        )
        self.reward_scale = RewardScale()
        if params.meta_loss_weight:
            self.guesses = projection(2 * params.embed_dim, params.num_layers + 2)

    def forward(self, batch: BodyInput) -> BodyOutput:
        """Return the hidden states at the ends of the paths, the paths, and auxiliary terms."""
        pattern = attention_pattern(batch, causal=self.causal)
        deciders = Deciders(batch, causal=self.causal)
        hidden_BLD = batch.hidden_BLD
        first_NS = summary_NS = self.controller.summary(hidden_BLD, deciders)
        member_M = torch.arange(len(deciders), device=hidden_BLD.device)
        visited_NE = torch.zeros(
            len(deciders), self.params.num_experts, dtype=torch.int64, device=hidden_BLD.device
        )
        steps: list[Step] = []
        for index in range(self.params.num_layers):
            if index:
                summary_NS = self.controller.summary(hidden_BLD, deciders)
            spent_ME = visited_NE[member_M] >= self.params.max_visits_per_expert
            decision = self._decide(summary_NS, member_M, spent_ME, batch.progress)
            if self.routing_control is not None:
                decision = replaced(
                    self.routing_control, decision, deciders, member_M, ~spent_ME, index
                )
            hidden_BLD, step = run_layer(
                self._visit,
                hidden_BLD,
                member_M,
                decision,
                deciders,
                pattern,
                recompute=self.params.checkpoint_activations,
            )
            expert_M = decision.chosen_M[step.goes_on]
            member_M = member_M[step.goes_on]
            visited_NE[member_M, expert_M] += 1
            steps.append(step)
        path = self._record(steps, len(deciders))
        return BodyOutput(
            hidden_BLD,
            aux_losses=self._aux_losses(steps, path, first_NS) if self.training else {},
            path=path,
            after_loss=lambda losses: self._value_loss(
                steps, path, deciders.select(losses), batch.progress
            ),
        )

    def _decide(
        self, summary_NS: Tensor, member_M: Tensor, spent_ME: Tensor, progress: float
    ) -> Decision:
        """Choose the next action of the members, who may not visit experts that are spent."""
        logits_MA = self.controller(summary_NS.index_select(0, member_M))
        logits_MA = logits_MA.masked_fill(F.pad(spent_ME, (0, 1)), -torch.inf)
        noise_MA = None
        if self.training:
            # Drawn for all, so that no one's noise depends on whose path has ended.
            noise_NA = gumbel_noise(logits_MA.new_empty(len(summary_NS), logits_MA.shape[1]))
            noise_MA = noise_NA.index_select(0, member_M)
        start, end = self.params.tau_start, self.params.tau_end
        return decide(logits_MA, noise_MA, start + (end - start) * progress)

    def _visit(
        self,
        hidden_BLD: Tensor,
        member_M: Tensor,
        decision: Decision,
        deciders: Deciders,
        pattern: AttentionPattern,
    ) -> tuple[Tensor, Step]:
        """Send those whose path goes on through the experts that they chose."""
        goes_on_M = decision.chosen_M < self.params.num_experts
        visits = deciders.visits(
            member_M[goes_on_M], decision.chosen_M[goes_on_M], self.params.num_experts
        )
        rows_RLD = hidden_BLD.index_select(0, visits.sample_R)
        before_VQD = visits.own(rows_RLD)
        after_VQD = self.experts(rows_RLD, visits, pattern, deciders)
        gate_M = decision.gate()
        gate_N = gate_M.new_ones(len(deciders)).index_copy(0, member_M, gate_M)
        change_V1D = deciders.mean_of_visitors(after_VQD - before_VQD, visits)
        step = Step(member_M, decision, change_V1D.squeeze(1), visits.expert_V)
        return updated(hidden_BLD, before_VQD, after_VQD, gate_N, visits), step

    def _record(self, steps: list[Step], count: int) -> PathRecord:
        chosen_PN, probs_PNA = [], []
        for step in steps:
            chosen_M = step.decision.chosen_M.masked_fill(~step.goes_on, -1)
            chosen_N = chosen_M.new_full((count,), -1)
            chosen_PN.append(chosen_N.index_copy(0, step.member_M, chosen_M))
            probs_MA = step.decision.probs_MA.detach()
            probs_NA = probs_MA.new_zeros(count, probs_MA.shape[1])
            probs_PNA.append(probs_NA.index_copy(0, step.member_M, probs_MA))
        return PathRecord(
            num_experts=self.params.num_experts,
            chosen_NP=torch.stack(chosen_PN, dim=1),
            probs_NPA=torch.stack(probs_PNA, dim=1),
        )

    # ------------------------------------------------------------------------- auxiliary terms

    def _aux_losses(
        self, steps: list[Step], path: PathRecord, first_NS: Tensor
    ) -> dict[str, AuxLoss]:
        params = self.params
        probs_TA = torch.cat([step.decision.probs_MA for step in steps])
        change_VD = torch.cat([step.change_VD for step in steps])
        expert_V = torch.cat([step.expert_V for step in steps])
        terms = {
            "path_length": AuxLoss(path_length(path, probs_TA), params.path_loss_weight),
            "diversity": AuxLoss(unevenness(probs_TA[:, :-1]), params.diversity_loss_weight),
            "contrastive": AuxLoss(
                likeness(change_VD, expert_V, params.num_experts), params.contrastive_loss_weight
            ),
        }
        if params.meta_loss_weight:
            length_NP, variety_N = self.guesses(first_NS.detach()).tensor_split([-1], dim=1)
            experts_E = torch.arange(params.num_experts, device=first_NS.device)
            visited_NE = (path.chosen_NP.unsqueeze(2) == experts_E).any(dim=1)
            length_loss, variety_loss = length_NP.sum(), variety_N.sum()  # of nobody: 0, not NaN
            if len(first_NS):
                length_loss = F.cross_entropy(length_NP, (path.chosen_NP >= 0).sum(1))
                variety_loss = F.mse_loss(variety_N.squeeze(1), visited_NE.sum(1).float())
            for name, loss in (("length_guess", length_loss), ("variety_guess", variety_loss)):
                terms[name] = AuxLoss(ranks.mean(loss, len(first_NS)), params.meta_loss_weight)
        return terms

    def _value_loss(
        self, steps: list[Step], path: PathRecord, loss_N: Tensor, progress: float
    ) -> dict[str, AuxLoss]:
        """Return the error of the values of all decisions, now that the task loss is known."""
        known_N = loss_N > 0  # exactly 0 is a token without a target
        lengths_N = (path.chosen_NP >= 0).sum(dim=1)
        reward_N = -loss_N.float() - self.params.path_loss_weight * lengths_N
        scaled_N = torch.zeros_like(reward_N)
        scaled_N[known_N] = self.reward_scale(reward_N[known_N])
        member_T = torch.cat([step.member_M for step in steps])
        action_T = torch.cat([step.decision.chosen_M for step in steps])
        goes_on_T = torch.cat([step.goes_on for step in steps])
        value_A = self.controller.value_A
        discount = FIRST_DISCOUNT + (LAST_DISCOUNT - FIRST_DISCOUNT) * progress
        future_T = discount * value_A.detach().max() * goes_on_T
        target_T = (scaled_N[member_T] + future_T).clamp(-1, 1)
        known_T = known_N[member_T]
        errors_T = (value_A[action_T] - target_T).square() * known_T
        error = ranks.mean(errors_T.sum() / known_T.sum().clamp(min=1), known_T.sum())
        return {"value": AuxLoss(error, self.params.value_loss_weight)}


def path_length(path: PathRecord, probs_TA: Tensor) -> Tensor:
    """Return the mean number of experts visited, with the gradient of the chance to go on."""
    count = len(path.chosen_NP)
    expected = ranks.mean(probs_TA[:, :-1].sum() / max(1, count), count)
    visited = ranks.mean((path.chosen_NP >= 0).sum() / max(1, count), count)
    return visited + (expected - expected.detach())


def unevenness(probs_TE: Tensor) -> Tensor:
    """Return ln E - H(p) + CV(p)^2 for the mean p of all decisions among experts; 0 is even.

    Both terms go through the probabilities, so both have a gradient.
    """
    total_E = ranks.total(probs_TE.sum(dim=0))
    share_E = total_E / total_E.sum().clamp(min=1e-9)
    gap: Tensor = math.log(len(share_E)) - torch.special.entr(share_E).sum()
    return gap + (len(share_E) * share_E - 1).square().mean()


def likeness(change_VD: Tensor, expert_V: Tensor, num_experts: int) -> Tensor:
    """Return the mean squared cosine between what different experts do on average.

    Two visits to one expert are no pair, and experts without visitors are left out; 0 if there
    is no pair.

    Args:
        change_VD: What was added in each visit.
        expert_V: By which expert.
        num_experts: E.
    """
    total_ED = change_VD.new_zeros(num_experts, change_VD.shape[1]).index_add(
        0, expert_V, change_VD
    )
    direction_ED = F.normalize(ranks.total(total_ED), dim=1)
    seen_E = ranks.total(torch.bincount(expert_V, minlength=num_experts)) > 0
    pairs_EE = (seen_E[:, None] & seen_E).fill_diagonal_(False)
    squares_EE = (direction_ED @ direction_ED.t()).square() * pairs_EE
    mean: Tensor = squares_EE.sum() / pairs_EE.sum().clamp(min=1)
    return mean


def cost(params: GoEOriginalParams, context: BodyContext, length: int) -> BodyCost:
    """Count the body on the longest path; one that ends early costs less."""
    width, hidden, layers = params.embed_dim, params.router_dim, params.expert_layers
    controller = hidden * (2 * width + params.num_experts + 1)
    decision = 2.0 * controller / (1 if context.causal else length)
    visit = visit_flops(params, params.num_experts, length, causal=context.causal) + 4 * width**2
    block = attention_params(params) + 2 * width**2 + 2 * width + feed_forward_params(params)
    expert = layers * block + 2 * width + 1
    visited = min(params.num_layers, params.num_experts)
    return BodyCost(
        flops_per_token=params.num_layers * (layers * visit + decision),
        active_params=visited * expert + controller + 2 * width + 3 * (params.num_experts + 1),
    )


SPEC = ModelSpec(name="goe_original", params=GoEOriginalParams, build=GoEOriginal, cost=cost)

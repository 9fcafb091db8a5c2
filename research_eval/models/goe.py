"""Graph of experts: a recurrent router leads each sample through a shared pool of blocks.

    z = mean of the normalised tokens        h <- GRU(z, h)        p = softmax(W h)

In each step the router draws one expert with p, and that expert alone runs.

B batch, L length, D width, N decision makers (samples, or tokens for language modelling),
P steps, E experts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from research_eval import ranks
from research_eval.knobs import Choice, LogUniform, Uniform
from research_eval.models._balance import load_balance
from research_eval.models._blocks import (
    AttentionPattern,
    LayeredParams,
    attention_params,
    attention_pattern,
    feed_forward_params,
    projection,
    run_layer,
)
from research_eval.models._paths import (
    Deciders,
    Decision,
    StackedBlocks,
    decide,
    gumbel_noise,
    replaced,
    straight_through,
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


class GoEParams(LayeredParams):
    """Lead each sample, or token, through a few blocks of a shared pool."""

    num_layers: Annotated[int, Field(ge=1), Uniform(1, 4)] = 2
    """Steps of the path: blocks that each sample, or token, passes through."""

    num_experts: Annotated[int, Field(ge=1), Choice(2, 4, 8)] = 4
    """Blocks in the pool."""

    router_dim: Annotated[int, Field(ge=1), Choice(16, 32, 64)] = 32
    """Width of the router's recurrent state."""

    gumbel_tau: Annotated[float, Field(gt=0), LogUniform(0.2, 2.0)] = 0.5
    """Temperature at which a path is drawn, and of the choice that the gradient goes through: at
    1 many paths of training are not those of evaluation, and the reference task stays half
    learned on one seed of three."""

    entropy_loss_weight: Annotated[float, Field(ge=0), LogUniform(1e-4, 1e-1)] = 1e-3
    """Weight of the distance of the router's entropy from its maximum, which keeps it exploring."""

    aux_loss_weight: Annotated[float, Field(ge=0), LogUniform(1e-4, 1e-1)] = 1e-2
    """Weight of the load-balancing loss."""

    dispatch: Literal["sparse", "dense"] = "sparse"
    """Whether only chosen experts run, or all of them for the exact straight-through gradient."""

    aliases: ClassVar[Mapping[str, str]] = {
        "num_total_experts_pool": "num_experts",
        "num_total_experts": "num_experts",
        "max_path_len": "num_layers",
        "router_hidden_dim": "router_dim",
        "aux_loss_coeff": "entropy_loss_weight",
    }


class RecurrentRouter(nn.Module):
    """Scores the experts from a summary of the present state and of the path so far, in fp32."""

    def __init__(self, params: GoEParams) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(params.embed_dim)
        self.cell = nn.GRUCell(params.embed_dim, params.router_dim)
        self.scores = projection(params.router_dim, params.num_experts)

    def forward(
        self, x_BLD: Tensor, state_NR: Tensor | None, deciders: Deciders
    ) -> tuple[Tensor, Tensor]:
        """Return scores [N, E] and the next state [N, R]."""
        with torch.autocast(x_BLD.device.type, enabled=False):
            state_NR = self.cell(deciders.mean(self.norm(x_BLD.float())), state_NR)
            return self.scores(state_NR), state_NR

    def routing_parameters(self) -> list[nn.Parameter]:
        """Return all of it."""
        return list(self.parameters())


class GoE(nn.Module):
    """`num_layers` steps through a pool of blocks."""

    routing_control: RoutingControl | None = None

    def __init__(self, params: GoEParams, context: BodyContext) -> None:
        super().__init__()
        self.params, self.causal = params, context.causal
        self.norm = nn.LayerNorm(params.embed_dim)
        self.router = RecurrentRouter(params)
        self.experts = StackedBlocks(params, params.num_experts)

    def forward(self, batch: BodyInput) -> BodyOutput:
        """Return the hidden states at the end of the path, the path, and auxiliary terms."""
        pattern = attention_pattern(batch, causal=self.causal)
        deciders = Deciders(batch, causal=self.causal)
        hidden_BLD, state_NR = self.norm(batch.hidden_BLD), None
        step = self._sparse_step if self.params.dispatch == "sparse" else self._dense_step
        decisions: list[Decision] = []
        for index in range(self.params.num_layers):
            logits_NE, state_NR = self.router(hidden_BLD, state_NR, deciders)
            noise_NE = gumbel_noise(logits_NE) if self.training else None
            decision = decide(logits_NE, noise_NE, self.params.gumbel_tau)
            if self.routing_control is not None:
                decision = replaced(
                    self.routing_control,
                    decision,
                    deciders,
                    member_M=torch.arange(len(deciders), device=logits_NE.device),
                    allowed_ME=torch.ones_like(logits_NE, dtype=torch.bool),
                    index=index,
                )
            hidden_BLD = run_layer(
                step,
                hidden_BLD,
                decision,
                deciders,
                pattern,
                recompute=self.params.checkpoint_activations,
            )
            decisions.append(decision)
        return BodyOutput(
            hidden_BLD, aux_losses=self._aux_losses(decisions), path=self._record(decisions)
        )

    def _sparse_step(
        self,
        hidden_BLD: Tensor,
        decision: Decision,
        deciders: Deciders,
        pattern: AttentionPattern,
    ) -> Tensor:
        everyone_N = torch.arange(len(deciders), device=hidden_BLD.device)
        visits = deciders.visits(everyone_N, decision.chosen_M, self.params.num_experts)
        rows_RLD = hidden_BLD.index_select(0, visits.sample_R)
        after_VQD = self.experts(rows_RLD, visits, pattern)
        return updated(hidden_BLD, visits.own(rows_RLD), after_VQD, decision.gate(), visits)

    def _dense_step(
        self,
        hidden_BLD: Tensor,
        decision: Decision,
        deciders: Deciders,
        pattern: AttentionPattern,
    ) -> Tensor:
        """Run every expert for everyone and add them up, weighted by the straight-through choice.

        The gradient of each weight is what its expert would have done; `_sparse_step` knows this
        for the chosen expert only, and takes the others to leave the state as it is.
        """
        onehot_NE = nn.functional.one_hot(decision.chosen_M, self.params.num_experts)
        weights_NE = onehot_NE - 1 + straight_through(decision.relaxed_MA)
        everyone_N = torch.arange(len(deciders), device=hidden_BLD.device)
        total_BLD = hidden_BLD
        for expert, weight_N in enumerate(weights_NE.unbind(dim=1)):
            chosen_N = torch.full_like(everyone_N, expert)
            visits = deciders.visits(everyone_N, chosen_N, self.params.num_experts)
            rows_RLD = hidden_BLD.index_select(0, visits.sample_R)
            before_VQD = visits.own(rows_RLD)
            added_VQD = self.experts(rows_RLD, visits, pattern) - before_VQD
            added_VQD = weight_N[visits.member_V][:, None, None] * added_VQD
            seen = total_BLD.view(-1, *added_VQD.shape[1:])
            total_BLD = seen.index_add(0, visits.place_V, added_VQD).view_as(hidden_BLD)
        return total_BLD

    def _aux_losses(self, decisions: list[Decision]) -> dict[str, AuxLoss]:
        """Return the terms over all decisions of the batch: the pool is one, whatever the step."""
        probs_TE = torch.cat([decision.probs_MA for decision in decisions])
        chosen_T1 = torch.cat([decision.chosen_M for decision in decisions]).unsqueeze(1)
        # Without the bound, a probability of exactly 0 would have a gradient of infinity.
        bounded_TE = probs_TE.clamp(min=torch.finfo(probs_TE.dtype).tiny)
        entropy = torch.special.entr(bounded_TE).sum() / max(1, len(probs_TE))
        entropy = ranks.mean(entropy, len(probs_TE))
        most = math.log(self.params.num_experts)
        return {
            "router_entropy_gap": AuxLoss(most - entropy, self.params.entropy_loss_weight),
            "load_balance": AuxLoss(load_balance(chosen_T1, probs_TE), self.params.aux_loss_weight),
        }

    def _record(self, decisions: list[Decision]) -> PathRecord:
        return PathRecord(
            num_experts=self.params.num_experts,
            chosen_NP=torch.stack([d.chosen_M for d in decisions], dim=1),
            probs_NPA=torch.stack([d.probs_MA.detach() for d in decisions], dim=1),
        )


def cost(params: GoEParams, context: BodyContext, length: int) -> BodyCost:
    """Count the body: each step's visits per token, and one decision per decision maker."""
    width, state, experts = params.embed_dim, params.router_dim, params.num_experts
    router = 3 * state * (width + state) + state * experts
    decision = 2.0 * router / (1 if context.causal else length)
    block = attention_params(params) + feed_forward_params(params)
    if params.dispatch == "sparse":
        visits = visit_flops(params, experts, length, causal=context.causal)
        visited = min(params.num_layers, experts)
    else:  # each expert in turn runs for everyone
        visits = experts * visit_flops(params, 1, length, causal=context.causal)
        visited = experts
    return BodyCost(
        flops_per_token=params.num_layers * (visits + decision),
        active_params=visited * block + router + 6 * state + 4 * width,
    )


SPEC = ModelSpec(name="goe", params=GoEParams, build=GoE, cost=cost)

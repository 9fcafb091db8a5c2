"""Mixture of experts with token-choice routing (Shazeer et al. 2017, Fedus et al. 2022).

T real tokens of a batch, K experts chosen per token, E experts, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from research_eval.knobs import AtMost, Choice, Constraint, LogUniform, Pluggable
from research_eval.models._balance import load_balance, mean_over_layers, router_z
from research_eval.models._blocks import (
    AttentionPattern,
    AttentionSublayer,
    attention_flops,
    attention_params,
    attention_pattern,
    feed_forward_params,
    projection,
)
from research_eval.models._dispatch import Experts, RealTokens
from research_eval.spec import (
    AuxLoss,
    BodyContext,
    BodyCost,
    BodyInput,
    BodyOutput,
    ModelSpec,
    RouterContext,
    RouterInput,
    RouterOutput,
    RoutingRecord,
    TransformerParams,
)


class MoEParams(TransformerParams):
    """Route each token to a few of many feed-forwards."""

    num_experts: Annotated[int, Field(ge=1), Choice(4, 8, 16)] = 8
    """Experts per layer."""

    top_k: Annotated[int, Field(ge=1), Choice(1, 2, 4)] = 2
    """Experts that each token passes through."""

    router: Annotated[str, Pluggable("router")] = "softmax"
    """How experts are chosen: a registered router, or ./file.py:Name."""

    aux_loss_weight: Annotated[float, Field(ge=0), LogUniform(1e-4, 1e-1)] = 1e-2
    """Weight of the load-balancing loss."""

    z_loss_weight: Annotated[float, Field(ge=0), LogUniform(1e-5, 1e-2)] = 1e-3
    """Weight of the penalty on large router scores."""

    constraints: ClassVar[tuple[Constraint, ...]] = (AtMost("top_k", "num_experts"),)
    aliases: ClassVar[Mapping[str, str]] = {
        "num_experts_per_layer": "num_experts",
        "num_total_experts_pool": "num_experts",
        "top_k_experts": "top_k",
        "aux_loss_coeff": "aux_loss_weight",
    }


class MoELayer(nn.Module):
    """A feed-forward made of experts and a router.

    Scores, weights and auxiliary terms are fp32 whatever the precision of the rest.
    """

    def __init__(self, params: MoEParams, context: BodyContext, layer: int) -> None:
        super().__init__()
        self.params, self.layer = params, layer
        spec = context.find_router(params.router)
        self.learned = spec.learned
        if spec.learned:
            self.scores = projection(params.embed_dim, params.num_experts)
        self.router = spec.build(
            RouterContext(
                num_experts=params.num_experts,
                top_k=params.top_k,
                vocab_size=context.vocab_size,
                layer=layer,
                params=params,
            )
        )
        self.experts = Experts(params, params.num_experts)

    def forward(
        self, x_TD: Tensor, tokens: RealTokens
    ) -> tuple[Tensor, RoutingRecord, Mapping[str, AuxLoss]]:
        """Return the experts' combined output, what was routed where, and auxiliary terms."""
        with torch.autocast(x_TD.device.type, enabled=False):
            if self.learned:
                logits_TE = F.linear(x_TD.float(), self.scores.weight.float())
            else:
                logits_TE = torch.zeros(len(x_TD), self.params.num_experts, device=x_TD.device)
            routed: RouterOutput = self.router(
                RouterInput(logits_TE, tokens.ids_T, tokens.positions_T)
            )
            aux = dict(routed.aux_losses)
            if self.learned:
                balance = load_balance(routed.chosen_TK, routed.probs_TE)
                aux["load_balance"] = AuxLoss(balance, self.params.aux_loss_weight)
                aux["router_z"] = AuxLoss(router_z(logits_TE), self.params.z_loss_weight)
        record = RoutingRecord(
            layer=self.layer,
            num_experts=self.params.num_experts,
            probs_TE=routed.probs_TE.detach(),
            chosen_TK=routed.chosen_TK,
            weights_TK=routed.weights_TK.detach(),
        )
        return self.experts(x_TD, routed.chosen_TK, routed.weights_TK), record, aux

    def routing_parameters(self) -> list[nn.Parameter]:
        """Return the projection and whatever the router has; nothing for a control."""
        own = self.scores.parameters() if self.learned else ()
        return [*own, *self.router.parameters()]


class MoEBlock(nn.Module):
    """Attention, then x + dropout(experts(norm(x))) for the real tokens."""

    def __init__(self, params: MoEParams, context: BodyContext, layer: int) -> None:
        super().__init__()
        self.attention = AttentionSublayer(params)
        self.norm = nn.LayerNorm(params.embed_dim)
        self.experts = MoELayer(params, context, layer)
        self.dropout = nn.Dropout(params.dropout)

    def forward(
        self, x_BLD: Tensor, pattern: AttentionPattern, tokens: RealTokens
    ) -> tuple[Tensor, RoutingRecord, Mapping[str, AuxLoss]]:
        """Return the residual stream with both sublayers added, and what the layer reports."""
        x_BLD = self.attention(x_BLD, pattern)
        y_TD, record, aux = self.experts(tokens.gather(self.norm(x_BLD)), tokens)
        return x_BLD + self.dropout(tokens.scatter(y_TD, x_BLD)), record, aux


class MoE(nn.Module):
    """`num_layers` blocks of attention and routed experts."""

    def __init__(self, params: MoEParams, context: BodyContext) -> None:
        super().__init__()
        self.causal = context.causal
        self.blocks = nn.ModuleList(
            MoEBlock(params, context, layer) for layer in range(params.num_layers)
        )

    def forward(self, batch: BodyInput) -> BodyOutput:
        """Return the hidden states, one routing record per layer, and mean auxiliary terms."""
        pattern = attention_pattern(batch, causal=self.causal)
        tokens = RealTokens(batch)
        hidden_BLD, records, terms = batch.hidden_BLD, [], []
        for block in self.blocks:
            hidden_BLD, record, aux = block(hidden_BLD, pattern, tokens)
            records.append(record)
            terms.append(aux)
        return BodyOutput(hidden_BLD, mean_over_layers(terms), tuple(records))


def cost(params: MoEParams, context: BodyContext, length: int) -> BodyCost:
    """Count the body: per layer attention, the router's product, k feed-forwards, their sum."""
    learned = context.find_router(params.router).learned
    router = params.embed_dim * params.num_experts if learned else 0
    routed = params.top_k * feed_forward_params(params) + router
    combine = 2 * params.top_k * params.embed_dim
    flops = attention_flops(params, length, causal=context.causal) + 2 * routed + combine
    return BodyCost(
        flops_per_token=params.num_layers * flops,
        active_params=params.num_layers * (attention_params(params) + routed),
    )


SPEC = ModelSpec(name="moe", params=MoEParams, build=MoE, cost=cost)

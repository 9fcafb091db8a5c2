"""Mixture of experts with token-choice routing (Shazeer et al. 2017, Fedus et al. 2022).

T real tokens of a batch, K experts chosen per token, E experts, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from research_eval.diagnostics.routing import requested
from research_eval.errors import ConfigError, Issue
from research_eval.knobs import (
    AtMost,
    Choice,
    Constraint,
    LogUniform,
    Pluggable,
    Uniform,
    When,
)
from research_eval.models._balance import (
    SelectionBias,
    load_balance,
    mean_over_layers,
    overflow,
    router_z,
)
from research_eval.models._blocks import (
    AttentionPattern,
    AttentionSublayer,
    Block,
    FeedForward,
    LayeredParams,
    attention_flops,
    attention_params,
    attention_pattern,
    feed_forward_params,
    projection,
    run_layer,
)
from research_eval.models._dispatch import Experts, RealTokens
from research_eval.routing_controls import RoutingControl, token_keys
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
    RouterSpec,
    RoutingRecord,
)


class MoEParams(LayeredParams):
    """Route each token to a few of many feed-forwards."""

    num_experts: Annotated[int, Field(ge=1), Choice(4, 8, 16)] = 8
    """Experts per layer."""

    top_k: Annotated[int, Field(ge=1), Choice(1, 2, 4)] = 2
    """Experts that each token passes through."""

    num_shared_experts: Annotated[int, Field(ge=0), Choice(0, 1, 2)] = 0
    """Experts that every token passes through besides."""

    moe_layers: Annotated[
        Literal["all", "every_other", "last"]
        | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)],
        Choice("all", "every_other", "last"),
    ] = "all"
    """Layers that have experts, the others are dense: all, every_other (the last, and every second
    one before it), last, or a list of layers from 0."""

    router: Annotated[str, Pluggable("router")] = "softmax"
    """How experts are chosen: a registered router, or ./file.py:Name."""

    k1_weight: Annotated[
        Literal["prob", "straight_through"],
        Choice("prob", "straight_through"),
        When("top_k", 1),
    ] = "prob"
    """What weights a token's only expert: its score p, or 1 with the gradient of p."""

    router_noise: Annotated[
        float, Field(ge=0), LogUniform(0.1, 3.0), When("router", "noisy_topk")
    ] = 1.0
    """Standard deviation of the noise on scores at the start of training, for noisy_topk."""

    threshold: Annotated[
        float, Field(gt=0, lt=1), Uniform(0.1, 0.5), When("router", "threshold")
    ] = 0.3
    """Sigmoid of the score above which a token takes an expert, for threshold."""

    balance: Annotated[Literal["aux", "bias", "none"], Choice("aux", "bias", "none")] = "aux"
    """How learned routers are kept from using few experts: by a loss, by a bias on the scores that
    choose, or not at all."""

    aux_loss_weight: Annotated[
        float, Field(ge=0), LogUniform(1e-4, 1e-1), When("balance", "aux")
    ] = 1e-2
    """Weight of the load-balancing loss, for balance aux."""

    bias_update_rate: Annotated[
        float, Field(gt=0), LogUniform(1e-4, 1e-1), When("balance", "bias")
    ] = 1e-3
    """By how much a step moves the bias of an expert, for balance bias."""

    z_loss_weight: Annotated[float, Field(ge=0), LogUniform(1e-5, 1e-2)] = 1e-3
    """Weight of the penalty on large router scores."""

    capacity_factor: Annotated[float | None, Field(gt=0), Choice(None, 1.0, 1.25, 2.0)] = None
    """Choices that an expert serves in training, as a multiple of an even share; the rest is
    dropped. null drops nothing, and evaluation never does. Of several processes that share a batch,
    each counts its own tokens."""

    constraints: ClassVar[tuple[Constraint, ...]] = (AtMost("top_k", "num_experts"),)
    aliases: ClassVar[Mapping[str, str]] = {
        "num_experts_per_layer": "num_experts",
        "num_total_experts_pool": "num_experts",
        "top_k_experts": "top_k",
        "aux_loss_coeff": "aux_loss_weight",
    }


def routed_layers(params: MoEParams) -> tuple[int, ...]:
    """Return the layers that have experts, from 0.

    Raises:
        ConfigError: If `moe_layers` names a layer twice or one that does not exist.
    """
    count = params.num_layers
    match params.moe_layers:
        case "all":
            return tuple(range(count))
        case "every_other":
            return tuple(range((count - 1) % 2, count, 2))
        case "last":
            return (count - 1,)
        case list(named):
            if len(set(named)) < len(named) or max(named) >= count:
                advice = f"name layers 0 to {count - 1} once each, but it is {named}"
                raise _cannot_be_built("moe_layers", advice)
            return tuple(sorted(named))


def _cannot_be_built(field: str, advice: str) -> ConfigError:
    return ConfigError("the model cannot be built", [Issue(f"model_params.{field}", advice)])


@dataclass(frozen=True, slots=True)
class Decided:
    """What a router made of the scores that it was given."""

    routed: RouterOutput
    logits_TE: Tensor


class MoELayer(nn.Module):
    """A feed-forward made of experts and a router.

    Scores, weights and auxiliary terms are fp32 whatever the precision of the rest.

    Raises:
        ConfigError: If the router cannot be balanced by a bias as asked, or refuses the task.
    """

    routing_control: RoutingControl | None = None

    def __init__(self, params: MoEParams, context: BodyContext, layer: int) -> None:
        super().__init__()
        self.params, self.layer, self.causal = params, layer, context.causal
        self.spec: RouterSpec = context.find_router(params.router)
        self.learned = self.spec.learned
        if self.learned:
            self.scores = projection(params.embed_dim, params.num_experts)
        self.router = self.spec.build(
            RouterContext(
                num_experts=params.num_experts,
                top_k=params.top_k,
                vocab_size=context.vocab_size,
                layer=layer,
                causal=context.causal,
                params=params,
            )
        )
        self.experts = Experts(params, params.num_experts)
        self.shared = None
        if params.num_shared_experts:
            self.shared = FeedForward(params, params.num_shared_experts)
        self.bias = None
        if self.learned and params.balance == "bias":
            if not self.spec.takes_bias:
                advice = (
                    f"the router '{params.router}' does not declare takes_bias in its RouterSpec; "
                    "let it choose by score + bias and say so, or take balance=aux or none"
                )
                raise _cannot_be_built("balance", advice)
            self.bias = SelectionBias(params.num_experts, params.bias_update_rate)

    def forward(
        self, x_TD: Tensor, tokens: RealTokens, progress: float = 1.0
    ) -> tuple[Tensor, RoutingRecord, Decided]:
        """Return the experts' combined output, what was routed where, and what decided it."""
        with torch.autocast(x_TD.device.type, enabled=False):
            if self.learned:
                logits_TE = F.linear(x_TD.float(), self.scores.weight.float())
            else:
                logits_TE = torch.zeros(len(x_TD), self.params.num_experts, device=x_TD.device)
            bias_E = None if self.bias is None else self.bias.bias_E
            routed: RouterOutput = self.router(
                RouterInput(logits_TE, tokens.ids_T, tokens.positions_T, progress, bias_E)
            )
        decided = Decided(routed, logits_TE)
        if self.routing_control is not None:
            keys_T = token_keys(tokens.ids_T, tokens.positions_T)
            routed = self.routing_control.experts(
                routed, self.params.num_experts, keys_T, tokens.positions_T
            )
        dropped_TK, weights_TK, kept_TK = self._overflow(routed, tokens), routed.weights_TK, None
        if dropped_TK is not None:
            weights_TK = weights_TK.masked_fill(dropped_TK, 0.0)
        if self.spec.partial or dropped_TK is not None:
            kept_TK = weights_TK != 0
        record = RoutingRecord(
            layer=self.layer,
            num_experts=self.params.num_experts,
            probs_TE=routed.probs_TE.detach(),
            chosen_TK=routed.chosen_TK,
            weights_TK=weights_TK.detach(),
            dropped_TK=dropped_TK,
        )
        y_TD = self.experts(x_TD, routed.chosen_TK, weights_TK, kept_TK)
        return y_TD if self.shared is None else y_TD + self.shared(x_TD), record, decided

    def aux_losses(self, decided: Decided) -> dict[str, AuxLoss]:
        """Return the auxiliary terms.

        They are no part of `forward`: all ranks meet in them, at which no backward pass that
        computes a layer again may do so.
        """
        routed, aux = decided.routed, dict(decided.routed.aux_losses)
        if not self.learned:
            return aux
        with torch.autocast(decided.logits_TE.device.type, enabled=False):
            if self.params.balance == "aux":
                chosen_ = routed.chosen_TK
                if self.spec.partial:
                    chosen_ = chosen_[routed.weights_TK != 0]
                balance = load_balance(chosen_, routed.probs_TE)
                aux["load_balance"] = AuxLoss(balance, self.params.aux_loss_weight)
            aux["router_z"] = AuxLoss(router_z(decided.logits_TE), self.params.z_loss_weight)
        return aux

    def _overflow(self, routed: RouterOutput, tokens: RealTokens) -> Tensor | None:
        """Return which choices capacity turns away, None if it cannot.

        The most probable choices are served first; in a causal model those of earlier positions
        come before, because no token may lose its expert to a later one.
        """
        factor, probs_TE = self.params.capacity_factor, routed.probs_TE.detach()
        if factor is None or not self.training:
            return None
        even_share = len(probs_TE) * self.params.top_k / self.params.num_experts
        return overflow(
            routed.chosen_TK,
            probs_TE.gather(1, routed.chosen_TK),
            routed.weights_TK != 0,
            capacity=math.ceil(factor * even_share),
            num_experts=self.params.num_experts,
            positions_T=tokens.positions_T if self.causal else None,
        )

    def count(self, record: RoutingRecord) -> None:
        """Count a training batch for the bias; once, so not while anything is recomputed."""
        if self.bias is not None:
            self.bias.count(record.chosen_TK[requested(record)])

    def routing_parameters(self) -> list[nn.Parameter]:
        """Return the projection and whatever the router has; nothing for a control."""
        own = self.scores.parameters() if self.learned else ()
        return [*own, *self.router.parameters()]

    def waives(self) -> Mapping[str, str]:
        """Return what does not hold in training: of the router, and because of capacity."""
        capacity = "capacity_factor: an expert that others fill turns tokens away"
        limited = self.params.capacity_factor is not None
        return {**({"batch_independent": capacity} if limited else {}), **self.spec.waives}


class MoEBlock(nn.Module):
    """Attention, then x + dropout(experts(norm(x))) for the real tokens."""

    def __init__(self, params: MoEParams, context: BodyContext, layer: int) -> None:
        super().__init__()
        self.attention = AttentionSublayer(params)
        self.norm = nn.LayerNorm(params.embed_dim)
        self.experts = MoELayer(params, context, layer)
        self.dropout = nn.Dropout(params.dropout)

    def forward(
        self, x_BLD: Tensor, pattern: AttentionPattern, tokens: RealTokens, progress: float
    ) -> tuple[Tensor, RoutingRecord, Decided]:
        """Return the residual stream with both sublayers added, and what the layer reports."""
        x_BLD = self.attention(x_BLD, pattern)
        y_TD, record, decided = self.experts(tokens.gather(self.norm(x_BLD)), tokens, progress)
        return x_BLD + self.dropout(tokens.scatter(y_TD, x_BLD)), record, decided


class MoE(nn.Module):
    """`num_layers` blocks of attention and routed experts, or dense ones between them."""

    def __init__(self, params: MoEParams, context: BodyContext) -> None:
        super().__init__()
        self.causal, self.recompute = context.causal, params.checkpoint_activations
        self.takes_past = context.causal  # a router looks at nothing but the token
        routed = routed_layers(params)
        self.blocks = nn.ModuleList(
            MoEBlock(params, context, layer) if layer in routed else Block(params)
            for layer in range(params.num_layers)
        )

    def forward(self, batch: BodyInput) -> BodyOutput:
        """Return the hidden states, a routing record per routed layer, and mean auxiliary terms."""
        pattern = attention_pattern(batch, causal=self.causal)
        tokens = RealTokens(batch)
        hidden_BLD, records, terms = batch.hidden_BLD, [], []
        for block in self.blocks:
            if not isinstance(block, MoEBlock):
                hidden_BLD = run_layer(block, hidden_BLD, pattern, recompute=self.recompute)
                continue
            hidden_BLD, record, decided = run_layer(
                block, hidden_BLD, pattern, tokens, batch.progress, recompute=self.recompute
            )
            if self.training:
                block.experts.count(record)
            records.append(record)
            terms.append(block.experts.aux_losses(decided))
        return BodyOutput(hidden_BLD, mean_over_layers(terms), tuple(records))


def cost(params: MoEParams, context: BodyContext, length: int) -> BodyCost:
    """Count the body in evaluation, where nothing is dropped.

    Per layer attention and a feed-forward, or else the router's product, k feed-forwards with
    their sum, and the shared experts. A router that may choose fewer is counted as if it chose k.
    """
    learned = context.find_router(params.router).learned
    router = params.embed_dim * params.num_experts if learned else 0
    dense = feed_forward_params(params)
    routed = (params.top_k + params.num_shared_experts) * dense + router
    combine = 2 * params.top_k * params.embed_dim
    attention = attention_flops(params, length, causal=context.causal)
    num_routed = len(routed_layers(params))
    num_dense = params.num_layers - num_routed
    return BodyCost(
        flops_per_token=params.num_layers * attention
        + num_routed * (2 * routed + combine)
        + num_dense * 2 * dense,
        active_params=params.num_layers * attention_params(params)
        + num_routed * routed
        + num_dense * dense,
    )


SPEC = ModelSpec(name="moe", params=MoEParams, build=MoE, cost=cost)

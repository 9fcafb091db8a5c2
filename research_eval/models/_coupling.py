"""What `gnn_moe` and `hgnn_moe` share: experts that are all active and a readout behind them.

Per layer, E full blocks read the same tokens, their outputs exchange messages, and one vector
per token is read out and added to the residual stream. Everything behind the blocks works on
each token alone, so a layer is as causal as its attention.

E experts, B batch, L length, T = B * L positions, D width, H hyperedges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from research_eval.knobs import Choice, Uniform
from research_eval.models._blocks import (
    AttentionPattern,
    Block,
    LayeredParams,
    attention_flops,
    attention_params,
    attention_pattern,
    feed_forward_params,
    projection,
    run_layer,
)
from research_eval.models._dispatch import RealTokens
from research_eval.models._parallel_blocks import ParallelBlocks
from research_eval.routing_controls import RoutingControl
from research_eval.spec import (
    BodyContext,
    BodyCost,
    BodyInput,
    BodyOutput,
    CouplingRecord,
)

SIMILARITY_TOKENS = 256
"""Tokens of a batch whose expert outputs are compared, evenly spaced; enough for two digits."""

MIN_DEGREE = 1e-6
"""Sum of weights below which an expert counts as connected with nobody."""


class CoupledParams(LayeredParams):
    """Parameters of the models whose experts are all active."""

    num_experts: Annotated[int, Field(ge=1), Choice(4, 6, 8)] = 4
    """Experts per layer, each a full block that runs for every token."""

    gnn_layers: Annotated[int, Field(ge=1), Uniform(1, 3)] = 2
    """Rounds of messages between the experts of a layer."""

    readout: Annotated[Literal["mean", "content"], Choice("mean", "content")] = "mean"
    """How the experts become one vector: their mean, or weighted by a learned score of each."""

    aliases: ClassVar[Mapping[str, str]] = {
        "dropout_rate": "dropout",
        "num_experts_per_layer": "num_experts",
        "num_total_experts_pool": "num_experts",
    }


def exchanges_messages(params: CoupledParams, coupling: str) -> bool:
    """Return whether there are messages: not in the ablation, and not where one expert is alone."""
    return coupling != "mean" and params.num_experts > 1


def reads_by_content(params: CoupledParams) -> bool:
    """Return whether experts are scored for the readout; one alone would always score 1."""
    return params.readout == "content" and params.num_experts > 1


@dataclass(frozen=True, slots=True)
class Coupled:
    """What a coupling did.

    Attributes:
        x_TED: The experts' outputs after all rounds.
        weights: What expert i (row) takes from expert j in each round: [E, E] if it is the
            same for all tokens, else [T, E, E].
        members_HE: Which experts belong to which hyperedge, if there are any.
    """

    x_TED: Tensor
    weights: tuple[Tensor, ...] = ()
    members_HE: Tensor | None = None


class MessageRound(nn.Module):
    """One round of messages, whose weights a control may replace."""

    routing_control: RoutingControl | None = None

    def controlled(self, weights: Tensor) -> Tensor:
        """Return what experts take from one another: as learned, or as the control says."""
        return weights if self.routing_control is None else self.routing_control.coupling(weights)


MakeCoupling = Callable[[], nn.Module]
"""Makes the coupling of one layer: a module that maps [T, E, D] to a `Coupled`."""


def exchange(weights: Tensor, x_TED: Tensor) -> Tensor:
    """Return [T, E, D]: for each expert the sum of all experts' vectors, weighted.

    Args:
        weights: [E, E], or [T, E, E] if they depend on the token; row i belongs to expert i.
        x_TED: What is taken.
    """
    return torch.bmm(weights.expand(len(x_TED), -1, -1), x_TED)


def per_degree(weights: Tensor, degree: Tensor) -> Tensor:
    """Return the weights divided by their degree; where that is nothing, they stay as they are.

    An expert that is connected with nobody takes nothing, and its gradient stays finite.
    """
    return weights / degree.masked_fill(degree < MIN_DEGREE, 1.0)


class Readout(nn.Module):
    """LN(GELU(W r)), where r is the mean of the experts or their weighted mean.

    With `content` the weights are softmax_e(s . x_e), which start even because s starts at zero.
    """

    def __init__(self, params: CoupledParams) -> None:
        super().__init__()
        self.by_content = reads_by_content(params)
        if self.by_content:
            self.score_D = nn.Parameter(torch.zeros(params.embed_dim))
        self.combine = projection(params.embed_dim, params.embed_dim)
        self.norm = nn.LayerNorm(params.embed_dim)

    def forward(self, x_TED: Tensor) -> Tensor:
        """Return [T, D]."""
        if self.by_content:
            with torch.autocast(x_TED.device.type, enabled=False):
                scores_TE = F.linear(x_TED.float(), self.score_D.float()[None]).squeeze(-1)
            read_TD = torch.bmm(scores_TE.softmax(dim=-1)[:, None], x_TED).squeeze(1)
        else:
            read_TD = x_TED.mean(dim=1)
        y_TD: Tensor = self.norm(F.gelu(self.combine(read_TD)))
        return y_TD


class CoupledLayer(nn.Module):
    """E blocks, messages between them, and the readout added to the residual stream.

    Args:
        params: Of the model.
        layer: Index of the layer, from 0.
        coupling: Of this layer; None leaves the experts alone until the readout.
    """

    def __init__(self, params: CoupledParams, layer: int, coupling: nn.Module | None) -> None:
        super().__init__()
        self.layer = layer
        self.experts = ParallelBlocks(params, [Block(params) for _ in range(params.num_experts)])
        self.coupling = coupling
        self.readout = Readout(params)

    def forward(
        self, x_BLD: Tensor, pattern: AttentionPattern, tokens: RealTokens | None
    ) -> tuple[Tensor, CouplingRecord | None]:
        """Return the residual stream, and a record of the coupling if `tokens` are given."""
        alone_TED = self.experts(x_BLD, pattern).transpose(0, 1)
        coupled = Coupled(alone_TED) if self.coupling is None else self.coupling(alone_TED)
        record = None
        if tokens is not None:
            record = self._record(x_BLD, alone_TED, coupled, tokens)
        return x_BLD + self.readout(coupled.x_TED).view_as(x_BLD), record

    @torch.no_grad()
    def _record(
        self, x_BLD: Tensor, alone_TED: Tensor, coupled: Coupled, tokens: RealTokens
    ) -> CouplingRecord:
        num_experts = alone_TED.shape[1]
        weights_EE = x_BLD.new_zeros(num_experts, num_experts)
        for weights in coupled.weights:
            one_EE = weights if weights.ndim == 2 else _mean(tokens.gather(weights[None]))
            weights_EE += one_EE / len(coupled.weights)
        added_TED = alone_TED - x_BLD.flatten(0, 1)[:, None]
        members_HE = coupled.members_HE
        return CouplingRecord(
            layer=self.layer,
            weights_EE=weights_EE,
            similarity_EE=similarity(tokens.gather(added_TED[None])),
            members_HE=None if members_HE is None else members_HE.detach(),
        )


class CoupledBody(nn.Module):
    """`num_layers` coupled layers; records are made in evaluation only.

    Args:
        params: Of the model.
        context: What the body is told.
        make_coupling: Called once per layer; None is the ablation without messages.
    """

    def __init__(
        self, params: CoupledParams, context: BodyContext, make_coupling: MakeCoupling | None
    ) -> None:
        super().__init__()
        self.causal = self.takes_past = context.causal
        self.checkpointed = params.checkpoint_activations
        self.layers = nn.ModuleList(
            CoupledLayer(params, layer, make_coupling and make_coupling())
            for layer in range(params.num_layers)
        )

    def forward(self, batch: BodyInput) -> BodyOutput:
        """Return the hidden states and, in evaluation, one coupling record per layer."""
        pattern = attention_pattern(batch, causal=self.causal)
        tokens = None if self.training else RealTokens(batch)
        hidden_BLD, records = batch.hidden_BLD, []
        for layer in self.layers:
            hidden_BLD, record = run_layer(
                layer, hidden_BLD, pattern, tokens, recompute=self.checkpointed
            )
            records.append(record)
        return BodyOutput(hidden_BLD, couplings=tuple(r for r in records if r is not None))


def _mean(values_TEE: Tensor) -> Tensor:
    """Return the mean over tokens; zeros if there is none."""
    return values_TEE.sum(dim=0) / max(1, len(values_TEE))


def similarity(x_TED: Tensor) -> Tensor:
    """Return [E, E]: cosine similarity of experts, mean over at most `SIMILARITY_TOKENS` tokens.

    Args:
        x_TED: What the experts add to the residual stream; without it their outputs would agree
            because they share what they read.
    """
    stride = -(-len(x_TED) // SIMILARITY_TOKENS) or 1
    unit_TED = F.normalize(x_TED[::stride].float(), dim=-1)
    # By |a - b|^2 = 2 - 2 a.b, because a matrix product would count as FLOPs of the model.
    apart_TEE = torch.cdist(unit_TED, unit_TED, compute_mode="donot_use_mm_for_euclid_dist")
    return _mean(1 - apart_TEE.square() / 2)


def coupled_cost(
    params: CoupledParams,
    context: BodyContext,
    length: int,
    *,
    coupling_flops: float = 0.0,
    coupling_params: int = 0,
) -> BodyCost:
    """Count a body of coupled layers; every parameter takes part in every token.

    Args:
        params: Of the model.
        context: What the body is told.
        length: Tokens of a row.
        coupling_flops: Forward FLOPs per token of one layer's coupling, all rounds.
        coupling_params: Parameters of one layer's coupling.
    """
    width, experts = params.embed_dim, params.num_experts
    feed_forward = feed_forward_params(params)
    block_flops = attention_flops(params, length, causal=context.causal) + 2 * feed_forward
    content_flops = 4 * experts * width if reads_by_content(params) else 0
    content_params = width if reads_by_content(params) else 0
    flops = experts * block_flops + coupling_flops + 2 * width**2 + content_flops
    weights = experts * (attention_params(params) + feed_forward) + coupling_params
    weights += width**2 + 2 * width + content_params
    return BodyCost(
        flops_per_token=params.num_layers * flops, active_params=params.num_layers * weights
    )

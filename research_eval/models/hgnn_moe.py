"""Experts that are all active, coupled by a hypergraph over them.

With M the incidence of experts (rows) and hyperedges, B the sizes of the hyperedges, W =
diag(softplus(w)) their learned weights and D = sum_h M_ih W_h the degrees of the experts, each
round does

    X <- X + GELU(K X Theta),  K = D^-1 M W B^-1 M^T.

This is hypergraph convolution (Bai et al. 2021, equation 5) with the weights in the numerator
too, which torch_geometric leaves out, and with a residual and a non-linearity, without which
equal weights would make it a linear map of the experts' mean. K is [E, E] and is built once per
step, never per token.

With `edge_gate` a token opens and closes hyperedges: W_h becomes W_h sigmoid(s . m_h + b) in the
numerator, m_h = the mean of the hyperedge's experts at this token. As s . m_h is the mean of the
experts' scores s . x_j, no [T, H, D] is ever needed.

E experts, T positions, D width, H hyperedges, k experts of a hyperedge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import chain, combinations
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from research_eval.errors import ConfigError, Issue
from research_eval.knobs import AtMost, Choice, Constraint, When
from research_eval.models._blocks import projection
from research_eval.models._coupling import (
    Coupled,
    CoupledBody,
    CoupledParams,
    MessageRound,
    coupled_cost,
    exchange,
    exchanges_messages,
    per_degree,
)
from research_eval.spec import INIT_STD, BodyContext, BodyCost, ModelSpec

AFFINITY_LEAD = 0.1
"""By how much the first members of a dynamic hyperedge lead; AdamW at 1e-3 moves an affinity that
far in a hundred steps."""

Strategy = Literal["all_pairs", "all_triplets", "all", "ring", "dynamic"]
Hyperedge = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class HGNNMoEParams(CoupledParams):
    """Let all experts read every token and exchange messages within hyperedges."""

    coupling: Literal["hypergraph", "mean"] = "hypergraph"
    """Messages within hyperedges, or none: the ablation that shows what messages buy."""

    hyperedges: Annotated[
        Strategy | Annotated[list[Hyperedge], Field(min_length=1)],
        Choice("all_pairs", "all_triplets", "all", "ring", "dynamic"),
    ] = "all_pairs"
    """Which experts talk: every pair, every triplet, all at once, ring (each expert and the next
    ones), dynamic (learned members), or a list of hyperedges, for example [[0, 1], [1, 2, 3]]."""

    hyperedge_size: Annotated[
        int, Field(ge=1), Choice(2, 3, 4), When("hyperedges", "ring", "dynamic")
    ] = 2
    """Experts of a hyperedge, for ring and dynamic, which have one hyperedge per expert."""

    edge_gate: Annotated[bool, Choice(False, True)] = False
    """Whether each token opens and closes hyperedges by what their experts say."""

    constraints: ClassVar[tuple[Constraint, ...]] = (AtMost("hyperedge_size", "num_experts"),)
    aliases: ClassVar[Mapping[str, str]] = {"static_hyperedge_strategy": "hyperedges"}


def members_of(params: HGNNMoEParams) -> list[tuple[int, ...]]:
    """Return the experts of each hyperedge; for `dynamic` those that it starts from, a ring.

    Raises:
        ConfigError: If a hyperedge names an expert twice or one that does not exist, or if the
            experts are too few for the strategy. One expert alone is legal and has no neighbours.
    """
    count = params.num_experts
    match params.hyperedges:
        case "all_pairs":
            return list(combinations(range(count), 2))
        case "all_triplets":
            _require(
                count != 2,
                "all_triplets needs 3 experts, but num_experts = 2; take all_pairs or more experts",
            )
            return list(combinations(range(count), 3))
        case "ring" | "dynamic" if params.hyperedge_size < count:
            size = range(params.hyperedge_size)
            return [tuple((expert + i) % count for i in size) for expert in range(count)]
        case "all" | "ring" | "dynamic":
            return [tuple(range(count))]
        case list(custom):
            for each in custom:
                _require(len(set(each)) == len(each), f"{each} names an expert twice")
                _require(
                    max(each) < count,
                    f"{each} names expert {max(each)}, but num_experts = {count}, so that the "
                    f"experts are 0 to {count - 1}",
                )
            return [tuple(each) for each in custom]


def learns_members(params: HGNNMoEParams) -> bool:
    """Return whether affinities decide who belongs to a hyperedge, and not all of them do."""
    return params.hyperedges == "dynamic" and params.hyperedge_size < params.num_experts


def learns_weights(params: HGNNMoEParams) -> bool:
    """Return whether hyperedges have weights; W cancels out of K if no expert is in two of them."""
    hyperedges = Counter(chain.from_iterable(members_of(params)))
    return learns_members(params) or max(hyperedges.values(), default=0) > 1


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        issue = Issue("model_params.hyperedges", otherwise)
        raise ConfigError("the model cannot be built", [issue])


class Hypergraph(nn.Module):
    """Which experts belong to which hyperedges.

    Dynamic hyperedges hold the k experts with the highest learned affinity. The choice is hard;
    its gradient is that of the softmax over experts, times k (straight through).
    """

    members_HE: Tensor

    def __init__(self, params: HGNNMoEParams) -> None:
        super().__init__()
        members = members_of(params)
        members_HE = torch.zeros(len(members), params.num_experts)
        for members_E, each in zip(members_HE, members, strict=True):
            members_E[list(each)] = 1.0
        self.size = params.hyperedge_size
        self.dynamic = learns_members(params)
        if self.dynamic:
            self.affinity_HE = nn.Parameter(AFFINITY_LEAD * members_HE)
        else:
            self.register_buffer("members_HE", members_HE, persistent=False)

    def forward(self) -> Tensor:
        """Return [H, E], 0 or 1."""
        if not self.dynamic:
            return self.members_HE
        soft_HE = self.size * self.affinity_HE.float().softmax(dim=1)
        chosen_HK = self.affinity_HE.topk(self.size, dim=1).indices
        hard_HE = torch.zeros_like(soft_HE).scatter(1, chosen_HK, 1.0)
        return hard_HE + (soft_HE - soft_HE.detach())


class HypergraphRound(MessageRound):
    """One round of messages."""

    def __init__(self, params: HGNNMoEParams, num_hyperedges: int) -> None:
        super().__init__()
        self.weights_H = (
            nn.Parameter(torch.zeros(num_hyperedges)) if learns_weights(params) else None
        )
        self.transform = projection(params.embed_dim, params.embed_dim)
        self.gated = params.edge_gate
        if self.gated:
            self.score_D = nn.Parameter(torch.empty(params.embed_dim).normal_(std=INIT_STD))
            self.bias = nn.Parameter(torch.zeros(()))

    def weights(self, x_TED: Tensor, members_HE: Tensor) -> Tensor:
        """Return K in fp32: [E, E], or [T, E, E] if tokens gate the hyperedges."""
        with torch.autocast(x_TED.device.type, enabled=False):
            mean_HE = members_HE / members_HE.sum(dim=1, keepdim=True)
            weighted_HE = members_HE
            if self.weights_H is not None:
                weighted_HE = F.softplus(self.weights_H.float())[:, None] * members_HE
            taken_HE = per_degree(weighted_HE, weighted_HE.sum(dim=0))
            if not self.gated:
                operator_EE: Tensor = taken_HE.t() @ mean_HE
                return operator_EE
            scores_TE = F.linear(x_TED.float(), self.score_D.float()[None]).squeeze(-1)
            gates_TH = (scores_TE @ mean_HE.t() + self.bias).sigmoid()
            paths_HEE = taken_HE[:, :, None] * mean_HE[:, None, :]
            return (gates_TH @ paths_HEE.flatten(1)).view(-1, *paths_HEE.shape[1:])

    def forward(self, x_TED: Tensor, members_HE: Tensor) -> tuple[Tensor, Tensor]:
        """Return the experts' vectors after the round, and the weights."""
        weights = self.controlled(self.weights(x_TED, members_HE))
        return x_TED + F.gelu(exchange(weights, self.transform(x_TED))), weights


class HypergraphCoupling(nn.Module):
    """`gnn_layers` rounds of messages over one hypergraph, each with its own weights."""

    def __init__(self, params: HGNNMoEParams) -> None:
        super().__init__()
        self.hypergraph = Hypergraph(params)
        self.rounds = nn.ModuleList(
            HypergraphRound(params, len(members_of(params))) for _ in range(params.gnn_layers)
        )

    def forward(self, x_TED: Tensor) -> Coupled:
        """Return the coupled experts."""
        members_HE = self.hypergraph()
        x_TED, taken = x_TED.contiguous(), []
        for each in self.rounds:
            x_TED, weights = each(x_TED, members_HE)
            taken.append(weights)
        return Coupled(x_TED, tuple(taken), members_HE)


def build(params: HGNNMoEParams, context: BodyContext) -> CoupledBody:
    """Return the body.

    Raises:
        ConfigError: If the hyperedges do not fit the experts.
    """
    exchanges = exchanges_messages(params, params.coupling)
    return CoupledBody(params, context, (lambda: HypergraphCoupling(params)) if exchanges else None)


def cost(params: HGNNMoEParams, context: BodyContext, length: int) -> BodyCost:
    """Count the body: per round one D x D product and the sum over experts.

    The sum is 2 E^2 D per token however many hyperedges there are. K takes 2 E^2 H once per step,
    spread over one row here. Gates add the experts' scores, their means, and K for each token.
    """
    if not exchanges_messages(params, params.coupling):
        return coupled_cost(params, context, length)
    width, experts, hyperedges = params.embed_dim, params.num_experts, len(members_of(params))
    operator_flops = 2 * experts**2 * hyperedges
    flops: float = 2 * width**2 * experts + 2 * experts**2 * width
    weights = width**2 + (hyperedges if learns_weights(params) else 0)
    if params.edge_gate:
        flops += 2 * experts * width + 2 * experts * hyperedges + operator_flops
        weights += width + 1
    else:
        flops += operator_flops / length
    affinities = experts * hyperedges if learns_members(params) else 0
    return coupled_cost(
        params,
        context,
        length,
        coupling_flops=params.gnn_layers * flops,
        coupling_params=params.gnn_layers * weights + affinities,
    )


SPEC = ModelSpec(name="hgnn_moe", params=HGNNMoEParams, build=build, cost=cost)

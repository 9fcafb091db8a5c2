"""Experts that are all active, coupled by a learned graph.

For each token, expert i takes from expert j (j != i)

    G_ij = sigmoid(u . x_i + v . x_j + b) * sigmoid(A_ij),

a weight of the content times a weight of the edge, and x_i becomes

    x_i + GELU(W_n m_i + W_s x_i),  m_i = sum_j G_ij x_j, divided by sum_j G_ij if normalised.

The sum is the graph convolution of the GNN-MoE repositories. Their loop over pairs of experts,
each with a linear layer on two vectors side by side, is here two dot products per expert and one
[T, E, E] matrix.

E experts, T positions, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


class GNNMoEParams(CoupledParams):
    """Let all experts read every token and exchange messages along a learned graph."""

    coupling: Literal["graph", "mean"] = "graph"
    """Messages along the graph, or none: the ablation that shows what messages buy."""

    normalize: Literal["degree", "sum"] = "degree"
    """Whether messages are divided by the sum of their weights, or summed as in the original."""


def learns_weights(params: GNNMoEParams) -> bool:
    """Return whether messages have weights; divided by its degree, the only one would be 1."""
    return params.num_experts > 2 or params.normalize == "sum"


class GraphRound(MessageRound):
    """One round of messages."""

    def __init__(self, params: GNNMoEParams) -> None:
        super().__init__()
        width, experts = params.embed_dim, params.num_experts
        self.by_degree = params.normalize == "degree"
        self.learned = learns_weights(params)
        if self.learned:
            self.edges_EE = nn.Parameter(torch.zeros(experts, experts))
            self.content_2D = nn.Parameter(torch.empty(2, width).normal_(std=INIT_STD))
            self.bias = nn.Parameter(torch.zeros(()))
        self.neighbours = projection(width, width)
        self.itself = projection(width, width)

    def weights(self, x_TED: Tensor) -> Tensor:
        """Return [T, E, E] in fp32, zero from an expert to itself; [E, E] if nothing is learned."""
        if not self.learned:
            num_experts = x_TED.shape[1]
            return 1 - torch.eye(num_experts, device=x_TED.device)
        with torch.autocast(x_TED.device.type, enabled=False):
            taker_TE, giver_TE = F.linear(x_TED.float(), self.content_2D.float()).unbind(-1)
            scores_TEE = taker_TE[:, :, None] + giver_TE[:, None, :] + self.bias
            edges_EE = self.edges_EE.float().sigmoid()
            edges_EE = edges_EE - edges_EE.diag().diag()
            weights_TEE = scores_TEE.sigmoid() * edges_EE
            if self.by_degree:
                weights_TEE = per_degree(weights_TEE, weights_TEE.sum(dim=-1, keepdim=True))
        return weights_TEE

    def forward(self, x_TED: Tensor) -> tuple[Tensor, Tensor]:
        """Return the experts' vectors after the round, and the weights."""
        weights = self.controlled(self.weights(x_TED))
        messages_TED = exchange(weights, self.neighbours(x_TED))
        return x_TED + F.gelu(self.itself(x_TED) + messages_TED), weights


class GraphCoupling(nn.Module):
    """`gnn_layers` rounds of messages, each with its own graph."""

    def __init__(self, params: GNNMoEParams) -> None:
        super().__init__()
        self.rounds = nn.ModuleList(GraphRound(params) for _ in range(params.gnn_layers))

    def forward(self, x_TED: Tensor) -> Coupled:
        """Return the coupled experts."""
        x_TED, taken = x_TED.contiguous(), []
        for each in self.rounds:
            x_TED, weights = each(x_TED)
            taken.append(weights)
        return Coupled(x_TED, tuple(taken))


def build(params: GNNMoEParams, context: BodyContext) -> CoupledBody:
    """Return the body."""
    exchanges = exchanges_messages(params, params.coupling)
    return CoupledBody(params, context, (lambda: GraphCoupling(params)) if exchanges else None)


def cost(params: GNNMoEParams, context: BodyContext, length: int) -> BodyCost:
    """Count the body: per round two D x D products, two dots and the sum over neighbours."""
    if not exchanges_messages(params, params.coupling):
        return coupled_cost(params, context, length)
    width, experts, rounds = params.embed_dim, params.num_experts, params.gnn_layers
    flops = 4 * width**2 * experts + 2 * experts**2 * width
    weights = 2 * width**2
    if learns_weights(params):
        flops += 4 * experts * width
        weights += 2 * width + experts**2 + 1
    return coupled_cost(
        params,
        context,
        length,
        coupling_flops=rounds * flops,
        coupling_params=rounds * weights,
    )


SPEC = ModelSpec(name="gnn_moe", params=GNNMoEParams, build=build, cost=cost)

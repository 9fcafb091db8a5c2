"""The controller of `goe_original`: what it scores actions by, and how rewards are put on a scale.

D width, E experts, A = E + 1 actions, S = 2 D summary, N decision makers, M those that choose.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from research_eval import ranks
from research_eval.models._blocks import projection
from research_eval.models._paths import Deciders

LOGIT_LIMIT = 10.0
"""Logits are clamped to this distance from zero."""

FIRST_STOP_RATE = 0.02
"""Share of the first decisions of an untrained controller that end a path, whatever the number of
experts: a path starts long and is shortened by what is learned."""


class Controller(nn.Module):
    """Scores the experts and the end of the path from a summary of the present state, in fp32.

    Args:
        embed_dim: D.
        num_experts: E.
        router_dim: Hidden width.
        tau: Temperature of the first decisions.

    Attributes:
        value_A: What each action is worth, whatever the input: the vector Q.
    """

    def __init__(self, embed_dim: int, num_experts: int, router_dim: int, tau: float) -> None:
        super().__init__()
        actions = num_experts + 1
        self.summary_norm = nn.LayerNorm(embed_dim)
        # Scores are normalised, so smaller weights would not make them smaller, only less steady.
        self.hidden = projection(2 * embed_dim, router_dim, (2 * embed_dim) ** -0.5)
        self.scores = projection(router_dim, actions, router_dim**-0.5)
        self.value_A = nn.Parameter(torch.zeros(actions))
        self.norm = nn.LayerNorm(actions)
        with torch.no_grad():
            odds = FIRST_STOP_RATE / (1 - FIRST_STOP_RATE) * num_experts
            self.norm.bias[-1] = tau * math.log(odds)

    def summary(self, x_BLD: Tensor, deciders: Deciders) -> Tensor:
        """Return [N, 2D]: mean and maximum of the normalised tokens that each may know."""
        with torch.autocast(x_BLD.device.type, enabled=False):
            normed_BLD = self.summary_norm(x_BLD.float())
            return torch.cat([deciders.mean(normed_BLD), deciders.maximum(normed_BLD)], dim=1)

    def forward(self, summary_MS: Tensor) -> Tensor:
        """Return logits [M, A]."""
        with torch.autocast(summary_MS.device.type, enabled=False):
            scores_MA = self.scores(F.gelu(self.hidden(summary_MS))) + self.value_A
            logits_MA: Tensor = self.norm(scores_MA).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        return logits_MA

    def routing_parameters(self) -> list[nn.Parameter]:
        """Return all of it."""
        return list(self.parameters())


class RewardScale(nn.Module):
    """Mean and variance of all rewards so far, updated batch by batch (Chan et al. 1983)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("variance", torch.ones(()))
        self.count: Tensor
        self.mean: Tensor
        self.variance: Tensor

    @torch.no_grad()
    def forward(self, reward_N: Tensor) -> Tensor:
        """Take the rewards in, and return them standardised and clamped to -1..1."""
        seen_3 = reward_N.new_zeros(3)
        if len(reward_N):
            count = reward_N.new_full((), len(reward_N))
            seen_3 = torch.stack([count, reward_N.mean(), reward_N.var(correction=0)])
        for each_3 in ranks.gathered(seen_3):
            self._take_in(*each_3)
        deviation = self.variance.sqrt().clamp(min=1e-6)
        return ((reward_N - self.mean) / deviation).clamp(-1, 1)

    def _take_in(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        total = self.count + count.long()
        share = count / total.clamp(min=1)
        apart, spread = mean - self.mean, variance - self.variance
        self.variance.add_(share * spread + share * (1 - share) * apart.square())
        self.mean.add_(share * apart)
        self.count.copy_(total)

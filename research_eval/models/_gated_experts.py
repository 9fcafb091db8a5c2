"""The experts of `goe_original`: blocks with gated attention, an output gate and a tag.

    GA(u) = LN(u + sigmoid(W [u; MHA(u)]) * MHA(u))
    X <- X + GA(LN(X))        X <- X + FFN(LN(X))
    Y = q X_out + (1 - q) X_in + tag,  q = sigmoid(w . mean(X_out) + b)

D width, E experts, V visitors of an expert, Q their tokens, R rows, L length.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from research_eval.models._blocks import AttentionPattern
from research_eval.models._paths import Deciders, StackedBlocks, StackedNorm, Visits
from research_eval.spec import INIT_STD, TransformerParams

TAG_STD = 0.01
"""Initial deviation of the vectors that mark by which expert a state has passed."""


class GatedBlocks(StackedBlocks):
    """Blocks whose attention sublayer adds LN(u + sigmoid(W [u; a]) * a)."""

    def __init__(self, params: TransformerParams, num_experts: int) -> None:
        super().__init__(params, num_experts)
        width = params.embed_dim
        self.gate_EMD = nn.Parameter(
            torch.empty(num_experts, 2 * width, width).normal_(std=INIT_STD)
        )
        self.gated_norm = StackedNorm(num_experts, width)

    def attention_update(self, normed_VQD: Tensor, gathered_VQD: Tensor, visits: Visits) -> Tensor:
        """Return what the attention sublayer adds."""
        both_VQM = torch.cat([normed_VQD.to(gathered_VQD.dtype), gathered_VQD], dim=-1)
        gate_VQD = self.product(both_VQM, self.gate_EMD, visits).sigmoid()
        gated_VQD: Tensor = self.gated_norm(normed_VQD + gate_VQD * gathered_VQD, visits.expert_V)
        return gated_VQD


class GatedExperts(nn.Module):
    """E stacks of blocks, each with an output gate and a tag.

    Args:
        params: Of the blocks; `num_layers` is how many may write to the residual stream.
        num_experts: E.
        expert_layers: Blocks in each expert.
    """

    def __init__(self, params: TransformerParams, num_experts: int, expert_layers: int) -> None:
        super().__init__()
        width = params.embed_dim
        self.blocks = nn.ModuleList(GatedBlocks(params, num_experts) for _ in range(expert_layers))
        self.gate_ED = nn.Parameter(torch.empty(num_experts, width).normal_(std=INIT_STD))
        self.gate_bias = nn.Parameter(torch.zeros(num_experts))
        self.tag_ED = nn.Parameter(torch.empty(num_experts, width).normal_(std=TAG_STD))

    def forward(
        self, rows_RLD: Tensor, visits: Visits, pattern: AttentionPattern, deciders: Deciders
    ) -> Tensor:
        """Return the visitors as their experts leave them, [V, Q, D].

        For a token that decides, the mean in the output gate is over the tokens up to itself
        that passed through the same expert.
        """
        before_VQD = after_VQD = visits.own(rows_RLD)
        for block in self.blocks:
            after_VQD = block(rows_RLD, visits, pattern)
            rows_RLD = visits.put(rows_RLD, after_VQD)
        weight_V1D = self.gate_ED.index_select(0, visits.expert_V).unsqueeze(1)
        scores_VQ1 = (after_VQD * weight_V1D).sum(dim=-1, keepdim=True)
        bias_V11 = self.gate_bias.index_select(0, visits.expert_V).view(-1, 1, 1)
        gate_V11 = (deciders.mean_of_visitors(scores_VQ1, visits) + bias_V11).sigmoid()
        tag_V1D = self.tag_ED.index_select(0, visits.expert_V).unsqueeze(1)
        return before_VQD + gate_V11 * (after_VQD - before_VQD) + tag_V1D

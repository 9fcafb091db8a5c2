"""E transformer blocks that all read the same tokens, as one wide computation.

Equal to E separate blocks up to rounding. The tokens are normalised once: a block's gain and
bias are folded into its query, key and value matrices, which form one product for all blocks;
attention is one call over E * H heads; the remaining matrices are stacked.

E experts, B batch, L length, T = B * L positions, D width, H heads per expert, d head width,
F feed-forward width, G = F, or 2F with a gate.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from research_eval.models._blocks import AttentionPattern, Block, activate, rotate
from research_eval.spec import TransformerParams


class ParallelBlocks(nn.Module):
    """The given blocks side by side, their weights stacked.

    Gains and biases of norms are kept flat, because weight decay leaves vectors alone.

    Args:
        params: What the blocks were built from.
        blocks: E of them; their weights are copied.
    """

    def __init__(self, params: TransformerParams, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.params = params
        attentions = [block.attention for block in blocks]
        self.attention_gain = _flat([a.norm.weight for a in attentions])
        self.attention_bias = _flat([a.norm.bias for a in attentions])
        self.qkv_E3DD = _stack([a.attention.qkv.weight for a in attentions])
        self.mixed_EDD = _stack([a.attention.out.weight.t() for a in attentions])
        self.gain = _flat([block.norm.weight for block in blocks])
        self.bias = _flat([block.norm.bias for block in blocks])
        self.into_EDG = _stack([block.feed_forward.into.weight.t() for block in blocks])
        self.out_EFD = _stack([block.feed_forward.out.weight.t() for block in blocks])
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x_BLD: Tensor, pattern: AttentionPattern) -> Tensor:
        """Return [E, T, D]: the tokens as each block leaves them."""
        mixed_ETD = self._attend(x_BLD, pattern)
        x_ETD: Tensor = x_BLD.flatten(0, 1) + self.dropout(torch.bmm(mixed_ETD, self.mixed_EDD))
        normed_ETD = torch.addcmul(
            self.bias.view(len(x_ETD), 1, -1),
            F.layer_norm(x_ETD, x_ETD.shape[-1:]),
            self.gain.view(len(x_ETD), 1, -1),
        )
        hidden_ETF = activate(torch.bmm(normed_ETD, self.into_EDG), self.params.activation)
        added_ETD: Tensor = self.dropout(torch.bmm(hidden_ETF, self.out_EFD))
        return x_ETD + added_ETD

    def _attend(self, x_BLD: Tensor, pattern: AttentionPattern) -> Tensor:
        """Return [E, T, D]: what each position gathered in each block, heads side by side."""
        batch, length, width = x_BLD.shape
        num_experts, heads = len(self.qkv_E3DD), self.params.num_heads
        normed_BLD = F.layer_norm(x_BLD, (width,))
        folded_E3DD = self.qkv_E3DD * self.attention_gain.view(num_experts, 1, width)
        bias_E3D = torch.linalg.vecdot(
            self.qkv_E3DD, self.attention_bias.view(num_experts, 1, width)
        )
        qkv = F.linear(normed_BLD, folded_E3DD.flatten(0, 1), bias_E3D.flatten())
        qkv = qkv.view(batch, length, num_experts, 3, heads, width // heads)
        # [B, E * H, L, d] each, so that a head of an expert is a head like any other.
        q_BHLd, k_BHLd, v_BHLd = qkv.permute(3, 0, 2, 4, 1, 5).flatten(2, 3)
        if self.params.positions == "rope":
            q_BHLd, k_BHLd = rotate(q_BHLd), rotate(k_BHLd)
        bias = None if pattern.bias is None else pattern.bias.to(q_BHLd.dtype)
        mixed_BHLd = F.scaled_dot_product_attention(
            q_BHLd, k_BHLd, v_BHLd, attn_mask=bias, is_causal=pattern.is_causal
        )
        mixed_BEHLd = mixed_BHLd.view(batch, num_experts, heads, length, -1)
        return mixed_BEHLd.permute(1, 0, 3, 2, 4).reshape(num_experts, batch * length, width)


def _stack(weights: Sequence[Tensor]) -> nn.Parameter:
    return nn.Parameter(torch.stack([weight.detach() for weight in weights]))


def _flat(vectors: Sequence[Tensor]) -> nn.Parameter:
    return nn.Parameter(torch.cat([vector.detach() for vector in vectors]))

"""E transformer blocks that all read the same tokens, as one wide computation.

Equal to E separate blocks up to rounding. The tokens' mean and variance are computed once for
all blocks; every product is one batched product over stacked matrices, and attention is one call
over B * E rows. Folding gains into the matrices, so that queries, keys and values of all experts
are one product, was 1 to 6 % slower (width 256, 256 to 1,024 tokens, E = 4 and 32): the fold
costs 3 D^2 per expert, and applying the gain to the tokens only T D.

E experts, B batch, L length, T = B * L positions, D width, F feed-forward width, G = F, or 2F
with a gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from research_eval.models._blocks import AttentionPattern, Block, activate, attend
from research_eval.spec import TransformerParams


class ParallelBlocks(nn.Module):
    """The given blocks side by side, their matrices stacked.

    Gains and biases of norms are kept flat, because weight decay leaves vectors alone.

    Args:
        params: What the blocks were built from.
        blocks: E of them; their weights are copied.
    """

    def __init__(self, params: TransformerParams, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.params, self.num_experts = params, len(blocks)
        attentions = [block.attention for block in blocks]
        self.attention_gain = _flat([each.norm.weight for each in attentions])
        self.attention_bias = _flat([each.norm.bias for each in attentions])
        self.qkv_ED3D = _stack([each.attention.qkv for each in attentions])
        self.mixed_EDD = _stack([each.attention.out for each in attentions])
        self.gain = _flat([block.norm.weight for block in blocks])
        self.bias = _flat([block.norm.bias for block in blocks])
        self.into_EDG = _stack([block.feed_forward.into for block in blocks])
        self.out_EFD = _stack([block.feed_forward.out for block in blocks])
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x_BLD: Tensor, pattern: AttentionPattern) -> Tensor:
        """Return [E, T, D]: the tokens as each block leaves them."""
        mixed_ETD = self._attend(x_BLD, pattern)
        x_ETD: Tensor = x_BLD.flatten(0, 1) + self.dropout(torch.bmm(mixed_ETD, self.mixed_EDD))
        normed_ETD = self._norm(x_ETD, self.gain, self.bias)
        hidden_ETF = activate(torch.bmm(normed_ETD, self.into_EDG), self.params.activation)
        added_ETD: Tensor = self.dropout(torch.bmm(hidden_ETF, self.out_EFD))
        return x_ETD + added_ETD

    def _attend(self, x_BLD: Tensor, pattern: AttentionPattern) -> Tensor:
        """Return [E, T, D]: what each position gathered in each block."""
        batch, length, width = x_BLD.shape
        head = width // self.params.num_heads
        normed_ETD = self._norm(x_BLD.flatten(0, 1), self.attention_gain, self.attention_bias)
        # [3, E * B, H, L, d] as a view: the rows of the batch, expert by expert.
        qkv = torch.bmm(normed_ETD, self.qkv_ED3D).view(-1, length, 3, self.params.num_heads, head)
        q_BHLd, k_BHLd, v_BHLd = qkv.permute(2, 0, 3, 1, 4)
        if pattern.bias is not None and len(pattern.bias) > 1:
            bias = pattern.bias.repeat(self.num_experts, 1, 1, 1)
            pattern = replace(pattern, bias=bias)
        rotary = self.params.positions == "rope"
        mixed_BHLd = attend(self, q_BHLd, k_BHLd, v_BHLd, pattern, rotary=rotary)
        return mixed_BHLd.transpose(1, 2).reshape(self.num_experts, batch * length, width)

    def _norm(self, x_: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        """Return [E, T, D]: [T, D] or [E, T, D] normalised, with each block's gain and bias."""
        gain_E1D, bias_E1D = (vector.view(self.num_experts, 1, -1) for vector in (gain, bias))
        return torch.addcmul(bias_E1D, F.layer_norm(x_, x_.shape[-1:]), gain_E1D)


def _stack(layers: Sequence[nn.Linear]) -> nn.Parameter:
    """Return [E, inputs, outputs]."""
    return nn.Parameter(torch.stack([layer.weight.detach().t() for layer in layers]))


def _flat(vectors: Sequence[Tensor]) -> nn.Parameter:
    return nn.Parameter(torch.cat([vector.detach() for vector in vectors]))

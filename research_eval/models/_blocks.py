"""Layers that the architectures share: projections, attention, feed-forward.

All are pre-norm residual sublayers without bias in their matrices, so that a body's cost is the
sum of a few products. B batch, L length, D width, F feed-forward width, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from research_eval.errors import ConfigError, Issue
from research_eval.knobs import EXECUTION
from research_eval.spec import INIT_STD, BodyInput, Past, TransformerParams

Result = TypeVar("Result")

ROPE_BASE = 10_000.0
"""Longest wavelength of rotary positions over 2 pi (Su et al. 2021)."""


class LayeredParams(TransformerParams):
    """Parameters of the bodies that run layer after layer."""

    checkpoint_activations: Annotated[bool, EXECUTION] = False
    """Whether a layer's inner values are computed again in the backward pass instead of kept."""


def output_std(num_layers: int) -> float:
    """Return the initial deviation of a matrix that writes to the residual stream.

    Two sublayers per block write to it; 1 / sqrt(2 * num_layers) keeps the sum's variance
    independent of depth (Radford et al. 2019, section 2.3).
    """
    return INIT_STD / math.sqrt(2 * num_layers)


def projection(inputs: int, outputs: int, std: float = INIT_STD) -> nn.Linear:
    """Return a matrix without bias, initialised from N(0, std)."""
    linear = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(linear.weight, std=std)
    return linear


@dataclass(frozen=True, slots=True)
class AttentionPattern:
    """Which positions may look at which.

    Attributes:
        is_causal: Position t sees positions up to t; then `bias` is None.
        bias: Added to the attention scores, 0 or -inf, broadcast to [B, H, L, P + L]; or None.
        past: Holds keys and values of the P positions before, and takes those of these.
    """

    is_causal: bool
    bias: Tensor | None = None
    past: Past | None = None

    @property
    def start(self) -> int:
        """P, the position of the first query."""
        return 0 if self.past is None else self.past.length


def attention_pattern(batch: BodyInput, *, causal: bool) -> AttentionPattern:
    """Return the pattern for a batch: real tokens see real tokens, and no row sees nothing.

    A position that could see nothing real (padding on the left, or a row of padding only) looks
    at itself or at its own row: its values are finite and no real token depends on them.
    """
    if batch.start:
        return _pattern_behind(batch)
    if batch.mask_BL is None:
        return AttentionPattern(is_causal=causal, past=batch.past)
    mask_BL = batch.mask_BL
    if causal:
        length = mask_BL.shape[1]
        ones_LL = torch.ones(length, length, dtype=torch.bool, device=mask_BL.device)
        itself_LL = torch.eye(length, dtype=torch.bool, device=mask_BL.device)
        visible = (mask_BL[:, None, None, :] | itself_LL) & ones_LL.tril()
    else:
        visible = (mask_BL | ~mask_BL.any(dim=1, keepdim=True))[:, None, None, :]
    return AttentionPattern(is_causal=False, bias=_bias(visible, batch.hidden_BLD))


def _pattern_behind(batch: BodyInput) -> AttentionPattern:
    """Return the pattern of rows that go on: each position sees all before, and those up to it."""
    start, length = batch.start, batch.ids_BL.shape[1]
    if length == 1:
        return AttentionPattern(is_causal=False, past=batch.past)
    ones = torch.ones(length, start + length, dtype=torch.bool, device=batch.ids_BL.device)
    bias = _bias(ones.tril(diagonal=start)[None, None], batch.hidden_BLD)
    return AttentionPattern(is_causal=False, bias=bias, past=batch.past)


def _bias(visible: Tensor, like_: Tensor) -> Tensor:
    bias = torch.zeros(visible.shape, dtype=like_.dtype, device=visible.device)
    return bias.masked_fill_(~visible, -math.inf)


def rotate(x_BHLd: Tensor, start: int = 0) -> Tensor:
    """Turn each pair of channels (i, i + d/2) by its position's angle (Su et al. 2021, eq. 15)."""
    length, half = x_BHLd.shape[-2], x_BHLd.shape[-1] // 2
    exponents = torch.arange(half, device=x_BHLd.device, dtype=torch.float32) / half
    positions = torch.arange(start, start + length, device=x_BHLd.device, dtype=torch.float32)
    angles_Lh = torch.outer(positions, ROPE_BASE**-exponents)
    cos_Lh, sin_Lh = angles_Lh.cos().to(x_BHLd.dtype), angles_Lh.sin().to(x_BHLd.dtype)
    a, b = x_BHLd.chunk(2, dim=-1)
    return torch.cat([a * cos_Lh - b * sin_Lh, a * sin_Lh + b * cos_Lh], dim=-1)


def attend(
    layer: nn.Module,
    q_BHLd: Tensor,
    k_BHLd: Tensor,
    v_BHLd: Tensor,
    pattern: AttentionPattern,
    *,
    rotary: bool,
) -> Tensor:
    """Return [B, H, L, d]: for each query the mean of the values, weighted by softmax(q . k).

    Args:
        layer: Whose attention it is; the past is kept under it.
        q_BHLd: Queries.
        k_BHLd: Keys of the same positions.
        v_BHLd: Values of the same positions.
        pattern: Which positions may look at which.
        rotary: Whether queries and keys are turned by their positions.
    """
    if rotary:
        q_BHLd, k_BHLd = rotate(q_BHLd, pattern.start), rotate(k_BHLd, pattern.start)
    if pattern.past is not None:
        k_BHLd, v_BHLd = pattern.past.extended(layer, k_BHLd, v_BHLd)
    bias = None if pattern.bias is None else pattern.bias.to(q_BHLd.dtype)
    return F.scaled_dot_product_attention(
        q_BHLd, k_BHLd, v_BHLd, attn_mask=bias, is_causal=pattern.is_causal
    )


class Attention(nn.Module):
    """Multi-head self-attention.

    Raises:
        ConfigError: If rotary positions are asked for heads of odd width.
    """

    def __init__(self, params: TransformerParams) -> None:
        super().__init__()
        self.num_heads = params.num_heads
        self.rotary = params.positions == "rope"
        head_dim = params.embed_dim // params.num_heads
        if self.rotary and head_dim % 2:
            raise ConfigError(
                "the model cannot be built",
                [
                    Issue(
                        "model_params.positions",
                        f"rope turns pairs of channels, but embed_dim / num_heads = {head_dim} "
                        "is odd; change num_heads or take positions=learned",
                    )
                ],
            )
        self.qkv = projection(params.embed_dim, 3 * params.embed_dim)
        self.out = projection(params.embed_dim, params.embed_dim, output_std(params.num_layers))

    def forward(self, x_BLD: Tensor, pattern: AttentionPattern) -> Tensor:
        """Return [B, L, D]: what each position gathered from those it may see."""
        batch, length, width = x_BLD.shape
        qkv = self.qkv(x_BLD).view(batch, length, 3, self.num_heads, width // self.num_heads)
        q_BHLd, k_BHLd, v_BHLd = qkv.permute(2, 0, 3, 1, 4)
        mixed_BHLd = attend(self, q_BHLd, k_BHLd, v_BHLd, pattern, rotary=self.rotary)
        mixed: Tensor = self.out(mixed_BHLd.transpose(1, 2).reshape(batch, length, width))
        return mixed


class AttentionSublayer(nn.Module):
    """x + dropout(attention(norm(x)))."""

    def __init__(self, params: TransformerParams) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(params.embed_dim)
        self.attention = Attention(params)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x_BLD: Tensor, pattern: AttentionPattern) -> Tensor:
        """Return the residual stream with attention added."""
        added: Tensor = self.dropout(self.attention(self.norm(x_BLD), pattern))
        return x_BLD + added


def in_features(params: TransformerParams) -> int:
    """Return the columns of a feed-forward's first product: F, or 2F with a gate beside it."""
    return params.ff_dim * (2 if params.activation == "swiglu" else 1)


def activate(h_: Tensor, activation: str) -> Tensor:
    """Apply the feed-forward's non-linearity along the last dimension.

    Args:
        h_: [..., F] for "gelu" (Hendrycks and Gimpel 2016); [..., 2F] for "swiglu", gate first
            (Shazeer 2020).
        activation: "gelu" or "swiglu".
    """
    if activation == "gelu":
        return F.gelu(h_)
    gate, up = h_.chunk(2, dim=-1)
    return F.silu(gate) * up


class FeedForward(nn.Module):
    """Two products with a non-linearity between them, for each position alone.

    Args:
        params: Width, feed-forward width, activation and depth.
        copies: Feed-forwards whose outputs are added; together they are one that is as many
            times as wide.
    """

    def __init__(self, params: TransformerParams, copies: int = 1) -> None:
        super().__init__()
        self.activation = params.activation
        self.into = projection(params.embed_dim, copies * in_features(params))
        self.out = projection(
            copies * params.ff_dim, params.embed_dim, output_std(params.num_layers)
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        y_BLD: Tensor = self.out(activate(self.into(x_BLD), self.activation))
        return y_BLD


class Block(nn.Module):
    """Attention, then x + dropout(feed-forward(norm(x)))."""

    def __init__(self, params: TransformerParams) -> None:
        super().__init__()
        self.attention = AttentionSublayer(params)
        self.norm = nn.LayerNorm(params.embed_dim)
        self.feed_forward = FeedForward(params)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x_BLD: Tensor, pattern: AttentionPattern) -> Tensor:
        """Return the residual stream with both sublayers added."""
        x_BLD = self.attention(x_BLD, pattern)
        added: Tensor = self.dropout(self.feed_forward(self.norm(x_BLD)))
        return x_BLD + added


def run_layer(layer: Callable[..., Result], *inputs: Any, recompute: bool) -> Result:
    """Return what a layer makes of its inputs.

    Args:
        layer: Draws random numbers from torch's global generators only, and counts nothing: with
            `recompute` it runs once more in the backward pass, with the same random numbers.
        *inputs: Of the layer.
        recompute: Whether its inner values are computed again instead of kept.
    """
    if recompute and torch.is_grad_enabled():
        result: Result = checkpoint(layer, *inputs, use_reentrant=False)
        return result
    return layer(*inputs)


def attention_flops(params: TransformerParams, length: int, *, causal: bool) -> float:
    """Return forward FLOPs per token of one attention layer.

    Four D x D products, and scores and mixing over the positions that are seen: all of them, or
    (length + 1) / 2 on average when causal.
    """
    seen = (length + 1) / 2 if causal else length
    return 8.0 * params.embed_dim**2 + 4.0 * seen * params.embed_dim


def feed_forward_params(params: TransformerParams) -> int:
    """Return the parameters of one feed-forward; its forward FLOPs per token are twice that."""
    return params.embed_dim * (in_features(params) + params.ff_dim)


def attention_params(params: TransformerParams) -> int:
    """Return the parameters of an attention sublayer and of the norm before the feed-forward."""
    return 4 * params.embed_dim**2 + 4 * params.embed_dim

"""Sends tokens to experts and brings their outputs back, without a loop over tokens.

Assignments are sorted by expert (stable), so that each expert's tokens are one contiguous slice
and each product is a plain matrix product on it. The whole is one autograd node: its buffers are
allocated once and written slice by slice, which a chain of small autograd nodes cannot do, and an
expert without tokens gets a gradient of zeros.

T tokens, K chosen experts per token, S = T * K assignments, E experts, D width, F feed-forward
width, G = F, or 2F with a gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from research_eval.models._blocks import activate, in_features, output_std
from research_eval.models._grouped import (
    Slices,
    has_grouped_product,
    slices_of,
    times_weight,
    weight_gradient,
)
from research_eval.spec import INIT_STD, BodyInput, TransformerParams


class RealTokens:
    """The real tokens of a batch in a row, padding left out.

    Args:
        batch: What the body reads.

    Attributes:
        ids_T: Their token ids.
        positions_T: Their positions in their rows.
    """

    def __init__(self, batch: BodyInput) -> None:
        rows, length = batch.ids_BL.shape
        ids = batch.ids_BL.flatten()
        positions = torch.arange(batch.start, batch.start + length, device=ids.device).repeat(rows)
        self._index_T = None
        if batch.mask_BL is not None:
            self._index_T = batch.mask_BL.flatten().nonzero().squeeze(1)
            ids, positions = ids[self._index_T], positions[self._index_T]
        self.ids_T, self.positions_T = ids, positions

    def gather(self, x_BLD: Tensor) -> Tensor:
        """Return [T, D]."""
        flat = x_BLD.flatten(0, 1)
        return flat if self._index_T is None else flat.index_select(0, self._index_T)

    def scatter(self, x_TD: Tensor, like_BLD: Tensor) -> Tensor:
        """Return [B, L, D] with zeros at padding."""
        if self._index_T is None:
            return x_TD.view(like_BLD.shape)
        flat = x_TD.new_zeros(like_BLD.shape).flatten(0, 1)
        return flat.index_copy(0, self._index_T, x_TD).view(like_BLD.shape)


class Experts(nn.Module):
    """E feed-forwards of the same shape, their matrices stacked.

    Args:
        params: Width, feed-forward width, activation and depth.
        num_experts: E.
    """

    def __init__(self, params: TransformerParams, num_experts: int) -> None:
        super().__init__()
        self.activation = params.activation
        self.into_EDG = nn.Parameter(
            torch.empty(num_experts, params.embed_dim, in_features(params)).normal_(std=INIT_STD)
        )
        self.out_EFD = nn.Parameter(
            torch.empty(num_experts, params.ff_dim, params.embed_dim).normal_(
                std=output_std(params.num_layers)
            )
        )

    def forward(
        self,
        x_TD: Tensor,
        chosen_TK: Tensor,
        weights_TK: Tensor,
        kept_TK: Tensor | None = None,
    ) -> Tensor:
        """Return [T, D]: for each token the weighted sum of its chosen experts' outputs.

        Equal to a loop over tokens and experts up to rounding; the same bits on every call.

        Args:
            x_TD: Tokens.
            chosen_TK: int64 expert indices, each below E.
            weights_TK: fp32.
            kept_TK: False at choices that no expert works on, whose weight is 0; None if there
                are none.
        """
        dtype = x_TD.dtype
        if torch.is_autocast_enabled(x_TD.device.type):
            dtype = torch.get_autocast_dtype(x_TD.device.type)
        y_TD: Tensor = _Dispatch.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
            x_TD.to(dtype),
            weights_TK,
            self.into_EDG.to(dtype),
            self.out_EFD.to(dtype),
            chosen_TK,
            kept_TK,
            self.activation,
        )
        return y_TD


@dataclass(frozen=True, slots=True)
class _Groups:
    """Assignments sorted by expert, those that are not kept left out.

    Attributes:
        shape: T and K.
        token_S: Token of each sorted assignment.
        order_S: Place of each sorted assignment in the flattened [T, K].
        place_S: Where each assignment of the flattened [T, K] is in the sorted order; None if
            some were left out.
        slices: Where each expert's assignments are.
    """

    shape: tuple[int, int]
    token_S: Tensor
    order_S: Tensor
    place_S: Tensor | None
    slices: Slices

    def spread(self, values_S: Tensor) -> Tensor:
        """Return [T, K, ...] of [S, ...], zeros at what was left out."""
        if self.place_S is not None:
            return values_S.index_select(0, self.place_S).view(*self.shape, *values_S.shape[1:])
        rows = self.shape[0] * self.shape[1]
        flat = values_S.new_zeros(rows, *values_S.shape[1:]).index_copy_(0, self.order_S, values_S)
        return flat.view(*self.shape, *values_S.shape[1:])


def _sort_by_expert(
    chosen_TK: Tensor, kept_TK: Tensor | None, num_experts: int, *, grouped: bool
) -> _Groups:
    num_tokens, places = chosen_TK.shape
    flat_S, place_S = chosen_TK.flatten(), None
    if kept_TK is not None:
        flat_S = flat_S.masked_fill(~kept_TK.flatten(), num_experts)  # sorted behind all experts
    order_S = flat_S.argsort(stable=True)
    counts_E = torch.bincount(flat_S, minlength=num_experts)[:num_experts]
    if kept_TK is None:
        place_S = torch.empty_like(order_S)
        place_S[order_S] = torch.arange(len(order_S), device=order_S.device)
    else:
        order_S = order_S[: int(counts_E.sum())]
    # No rows at all, as in a batch of padding, is more than the grouped product promises to take.
    slices = slices_of(counts_E, grouped=grouped and len(order_S) > 0)
    return _Groups((num_tokens, places), order_S // max(1, places), order_S, place_S, slices)


def _activation_gradient(da_SF: Tensor, h_SG: Tensor, activation: str) -> Tensor:
    """Return the gradient of `activate` with respect to its input; may reuse `da_SF`."""
    if activation == "gelu":
        return torch.ops.aten.gelu_backward.grad_input(da_SF, h_SG, grad_input=da_SF)  # type: ignore[no-any-return]  # operators are untyped
    gate_SF, up_SF = h_SG.chunk(2, dim=-1)
    dh_SG = torch.empty_like(h_SG)
    dgate_SF, dup_SF = dh_SG.chunk(2, dim=-1)
    torch.ops.aten.silu.out(gate_SF, out=dup_SF)
    dup_SF.mul_(da_SF)
    torch.ops.aten.silu_backward.grad_input(da_SF.mul_(up_SF), gate_SF, grad_input=dgate_SF)
    return dh_SG


def _activate_into(a_SF: Tensor, h_SG: Tensor, activation: str) -> None:
    """Write `activate(h_SG)` into `a_SF`."""
    if activation == "gelu":
        torch.ops.aten.gelu.out(h_SG, out=a_SF)
    else:
        gate_SF, up_SF = h_SG.chunk(2, dim=-1)
        torch.ops.aten.silu.out(gate_SF, out=a_SF)
        a_SF.mul_(up_SF)


def _feed_forward(
    x_SD: Tensor, into_EDG: Tensor, out_EFD: Tensor, slices: Slices, activation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return [S, G], [S, F] and [S, D]: before and after the activation, and the outputs.

    On a CPU one expert is finished before the next begins, so that its 4 MB of hidden values are
    still in the cache when the activation and the second product read them.
    """
    if slices.sizes is None:
        h_SG = times_weight(x_SD, into_EDG, slices)
        a_SF = activate(h_SG, activation)
        return h_SG, a_SF, times_weight(a_SF, out_EFD, slices)
    h_SG = x_SD.new_empty(len(x_SD), into_EDG.shape[2])
    a_SF = x_SD.new_empty(len(x_SD), out_EFD.shape[1])
    y_SD = torch.empty_like(x_SD)
    rows = (tensor.split_with_sizes(slices.sizes) for tensor in (x_SD, h_SG, a_SF, y_SD))
    for x_D, h_G, a_F, y_D, into_DG, out_FD in zip(
        *rows, into_EDG.unbind(), out_EFD.unbind(), strict=True
    ):
        if len(x_D):
            torch.mm(x_D, into_DG, out=h_G)
            _activate_into(a_F, h_G, activation)
            torch.mm(a_F, out_FD, out=y_D)
    return h_SG, a_SF, y_SD


def _feed_forward_gradients(
    dy_SD: Tensor, saved: Sequence[Tensor], slices: Slices, activation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the inputs and of both stacks of matrices.

    Args:
        dy_SD: Gradient of the outputs.
        saved: Inputs, hidden values before and after the activation, and both stacks.
        slices: Where each expert's rows are.
        activation: As in the forward pass.
    """
    x_SD, h_SG, a_SF, into_EDG, out_EFD = saved
    if slices.sizes is None:
        dout_EFD = weight_gradient(a_SF, dy_SD, slices)
        da_SF = times_weight(dy_SD, out_EFD.transpose(1, 2), slices)
        dh_SG = _activation_gradient(da_SF, h_SG, activation)
        dx_SD = times_weight(dh_SG, into_EDG.transpose(1, 2), slices)
        return dx_SD, weight_gradient(x_SD, dh_SG, slices), dout_EFD
    dx_SD, dinto_EDG, dout_EFD = map(torch.empty_like, (x_SD, into_EDG, out_EFD))
    hidden_F = x_SD.new_empty(max(slices.sizes), out_EFD.shape[1])
    rows = (tensor.split_with_sizes(slices.sizes) for tensor in (dy_SD, x_SD, h_SG, a_SF, dx_SD))
    stacks = (stack.unbind() for stack in (into_EDG, out_EFD, dinto_EDG, dout_EFD))
    for dy_D, x_D, h_G, a_F, dx_D, into_DG, out_FD, dinto_DG, dout_FD in zip(
        *rows, *stacks, strict=True
    ):
        if not len(dy_D):
            dinto_DG.zero_()
            dout_FD.zero_()
            continue
        torch.mm(a_F.t(), dy_D, out=dout_FD)
        da_F = torch.mm(dy_D, out_FD.t(), out=hidden_F[: len(dy_D)])
        dh_G = _activation_gradient(da_F, h_G, activation)
        torch.mm(x_D.t(), dh_G, out=dinto_DG)
        torch.mm(dh_G, into_DG.t(), out=dx_D)
    return dx_SD, dinto_EDG, dout_EFD


class _Dispatch(torch.autograd.Function):
    """Gather, both products of every expert, and the weighted sum, as one node."""

    @staticmethod
    def forward(
        ctx: Any,  # autograd's context has no public type
        x_TD: Tensor,
        weights_TK: Tensor,
        into_EDG: Tensor,
        out_EFD: Tensor,
        chosen_TK: Tensor,
        kept_TK: Tensor | None,
        activation: str,
    ) -> Tensor:
        grouped = has_grouped_product(x_TD, into_EDG) and has_grouped_product(x_TD, out_EFD)
        groups = _sort_by_expert(chosen_TK, kept_TK, len(into_EDG), grouped=grouped)
        with torch.autocast(x_TD.device.type, enabled=False):
            x_SD = x_TD.index_select(0, groups.token_S)
            h_SG, a_SF, y_SD = _feed_forward(x_SD, into_EDG, out_EFD, groups.slices, activation)
            y_TKD = groups.spread(y_SD)
            y_TD = torch.bmm(weights_TK.to(y_TKD.dtype).unsqueeze(1), y_TKD).squeeze(1)
        ctx.save_for_backward(x_SD, h_SG, a_SF, y_SD, weights_TK, into_EDG, out_EFD)
        ctx.groups, ctx.activation = groups, activation
        return y_TD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_TD: Tensor) -> tuple[Tensor | None, ...]:
        x_SD, h_SG, a_SF, y_SD, weights_TK, into_EDG, out_EFD = ctx.saved_tensors
        groups: _Groups = ctx.groups
        dy_SD = dy_TD.index_select(0, groups.token_S)
        dweights_TK = None
        if ctx.needs_input_grad[1]:
            dweights_S = (dy_SD * y_SD).sum(dim=1, dtype=torch.float32)
            dweights_TK = groups.spread(dweights_S)
        weights_S = weights_TK.flatten().index_select(0, groups.order_S)
        dy_SD.mul_(weights_S.unsqueeze(1))
        saved = (x_SD, h_SG, a_SF, into_EDG, out_EFD)
        dx_SD, dinto_EDG, dout_EFD = _feed_forward_gradients(
            dy_SD, saved, groups.slices, ctx.activation
        )
        dx_TD = groups.spread(dx_SD).sum(dim=1)
        return dx_TD, dweights_TK, dinto_EDG, dout_EFD, None, None, None

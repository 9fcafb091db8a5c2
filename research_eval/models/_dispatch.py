"""Sends tokens to experts and brings their outputs back, without a loop over tokens.

Assignments are sorted by expert (stable), so that each expert's tokens are one contiguous slice
and each product is a plain matrix product on it. The whole is one autograd node: its buffers are
allocated once and written slice by slice, which a chain of small autograd nodes cannot do, and an
expert without tokens gets a gradient of zeros.

T tokens, K chosen experts per token, S = T * K assignments, E experts, D width, F feed-forward
width, G = F, or 2F with a gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from research_eval.models._blocks import activate, in_features, output_std
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
        positions = torch.arange(length, device=ids.device).repeat(rows)
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

    def forward(self, x_TD: Tensor, chosen_TK: Tensor, weights_TK: Tensor) -> Tensor:
        """Return [T, D]: for each token the weighted sum of its chosen experts' outputs.

        Equal to a loop over tokens and experts up to rounding; the same bits on every call.

        Args:
            x_TD: Tokens.
            chosen_TK: int64 expert indices, each below E.
            weights_TK: fp32.
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
            self.activation,
        )
        return y_TD


@dataclass(frozen=True, slots=True)
class _Groups:
    """Assignments sorted by expert.

    Attributes:
        token_S: Token of each sorted assignment.
        order_S: Place of each sorted assignment in the flattened [T, K].
        place_S: Where each assignment of the flattened [T, K] is in the sorted order.
        ends_E: End of each expert's slice, int32.
        grouped: Whether the device has a product for all slices at once; else `slices` is used.
        slices: (expert, start, end) of the experts that have tokens.
    """

    token_S: Tensor
    order_S: Tensor
    place_S: Tensor
    ends_E: Tensor
    grouped: bool
    slices: tuple[tuple[int, int, int], ...]


def _sort_by_expert(chosen_TK: Tensor, num_experts: int, *, grouped: bool) -> _Groups:
    flat_S = chosen_TK.flatten()
    order_S = flat_S.argsort(stable=True)
    place_S = torch.empty_like(order_S)
    place_S[order_S] = torch.arange(len(order_S), device=order_S.device)
    ends_E = torch.bincount(flat_S, minlength=num_experts).cumsum(0).to(torch.int32)
    slices: tuple[tuple[int, int, int], ...] = ()
    if not grouped:  # reading the ends waits for a GPU, so the grouped product does without
        ends = ends_E.tolist()
        starts = [0, *ends[:-1]]
        slices = tuple(
            (e, s, t) for e, (s, t) in enumerate(zip(starts, ends, strict=True)) if t > s
        )
    return _Groups(order_S // chosen_TK.shape[1], order_S, place_S, ends_E, grouped, slices)


def _has_grouped_product(x_TD: Tensor, weight_EAB: Tensor) -> bool:
    """Return whether `F.grouped_mm` is fast here: bf16, CUDA from sm80, rows of 16 bytes."""
    return (
        x_TD.is_cuda
        and x_TD.dtype == torch.bfloat16
        and torch.cuda.get_device_capability(x_TD.device) >= (8, 0)
        and all(size % 8 == 0 for size in weight_EAB.shape[1:])
    )


def _times_weight(x_SA: Tensor, weight_EAB: Tensor, groups: _Groups) -> Tensor:
    """Return [S, B]: each row times the matrix of its expert."""
    if groups.grouped:
        return F.grouped_mm(x_SA, weight_EAB, offs=groups.ends_E)
    y_SB = x_SA.new_empty(x_SA.shape[0], weight_EAB.shape[2])
    for expert, start, end in groups.slices:
        torch.mm(x_SA[start:end], weight_EAB[expert], out=y_SB[start:end])
    return y_SB


def _weight_gradient(x_SA: Tensor, dy_SB: Tensor, groups: _Groups) -> Tensor:
    """Return [E, A, B]: for each expert x.T @ dy over its rows; zeros for one without rows."""
    if groups.grouped:
        return F.grouped_mm(x_SA.t(), dy_SB, offs=groups.ends_E)
    shape = (len(groups.ends_E), x_SA.shape[1], dy_SB.shape[1])
    full = len(groups.slices) == shape[0]
    dw_EAB = x_SA.new_empty(shape) if full else x_SA.new_zeros(shape)
    for expert, start, end in groups.slices:
        torch.mm(x_SA[start:end].t(), dy_SB[start:end], out=dw_EAB[expert])
    return dw_EAB


def _activation_gradient(da_SF: Tensor, h_SG: Tensor, activation: str) -> Tensor:
    """Return the gradient of `activate` with respect to its input; may reuse `da_SF`."""
    if activation == "gelu":
        return torch.ops.aten.gelu_backward.grad_input(da_SF, h_SG, grad_input=da_SF)  # type: ignore[no-any-return]  # operators are untyped
    gate_SF, up_SF = h_SG.chunk(2, dim=-1)
    dh_SG = torch.empty_like(h_SG)
    dgate_SF, dup_SF = dh_SG.chunk(2, dim=-1)
    torch.mul(da_SF, F.silu(gate_SF), out=dup_SF)
    torch.ops.aten.silu_backward.grad_input(da_SF.mul_(up_SF), gate_SF, grad_input=dgate_SF)
    return dh_SG


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
        activation: str,
    ) -> Tensor:
        grouped = _has_grouped_product(x_TD, into_EDG) and _has_grouped_product(x_TD, out_EFD)
        groups = _sort_by_expert(chosen_TK, len(into_EDG), grouped=grouped)
        with torch.autocast(x_TD.device.type, enabled=False):
            x_SD = x_TD.index_select(0, groups.token_S)
            h_SG = _times_weight(x_SD, into_EDG, groups)
            a_SF = activate(h_SG, activation)
            y_SD = _times_weight(a_SF, out_EFD, groups)
            y_TKD = y_SD.index_select(0, groups.place_S).view(*chosen_TK.shape, -1)
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
            dweights_S = torch.linalg.vecdot(dy_SD.float(), y_SD.float())
            dweights_TK = dweights_S.index_select(0, groups.place_S).view(weights_TK.shape)
        weights_S = weights_TK.flatten().index_select(0, groups.order_S)
        dy_SD.mul_(weights_S.unsqueeze(1))
        dout_EFD = _weight_gradient(a_SF, dy_SD, groups)
        da_SF = _times_weight(dy_SD, out_EFD.transpose(1, 2), groups)
        dh_SG = _activation_gradient(da_SF, h_SG, ctx.activation)
        dinto_EDG = _weight_gradient(x_SD, dh_SG, groups)
        dx_SD = _times_weight(dh_SG, into_EDG.transpose(1, 2), groups)
        dx_TD = dx_SD.index_select(0, groups.place_S).view(*weights_TK.shape, -1).sum(dim=1)
        return dx_TD, dweights_TK, dinto_EDG, dout_EFD, None, None

"""Products of rows with the matrix of their expert, for rows that are sorted by expert.

Each expert's rows are one contiguous slice, so each product is a plain matrix product on it, and
an expert without rows gets a gradient of zeros.

S rows sorted by expert, E experts, A columns in, B columns out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True, slots=True)
class Slices:
    """Where each expert's rows lie.

    Attributes:
        ends_E: End of each expert's slice, int32.
        sizes: Rows of each expert; None where the device has a product for all slices at once.
    """

    ends_E: Tensor
    sizes: tuple[int, ...] | None


def slices_of(counts_E: Tensor, *, grouped: bool = False) -> Slices:
    """Return the slices of rows of which each expert has `counts_E`, int64."""
    # Reading the sizes waits for a GPU, so the grouped product does without.
    sizes = None if grouped else tuple(counts_E.tolist())
    return Slices(counts_E.cumsum(0).to(torch.int32), sizes)


def has_grouped_product(x_SA: Tensor, weight_EAB: Tensor) -> bool:
    """Return whether `F.grouped_mm` is fast here: bf16, CUDA from sm80, rows of 16 bytes."""
    return (
        x_SA.is_cuda
        and x_SA.dtype == torch.bfloat16
        and torch.cuda.get_device_capability(x_SA.device) >= (8, 0)
        and all(size % 8 == 0 for size in weight_EAB.shape[1:])
    )


def times_weight(x_SA: Tensor, weight_EAB: Tensor, slices: Slices) -> Tensor:
    """Return [S, B]: each row times the matrix of its expert."""
    if slices.sizes is None:
        return F.grouped_mm(x_SA, weight_EAB, offs=slices.ends_E)
    y_SB = x_SA.new_empty(x_SA.shape[0], weight_EAB.shape[2])
    # One split is quicker than a slice per expert, which small slices feel.
    parts = zip(
        x_SA.split_with_sizes(slices.sizes),
        weight_EAB.unbind(),
        y_SB.split_with_sizes(slices.sizes),
        strict=True,
    )
    for x_A, weight_AB, y_B in parts:
        if len(x_A):
            torch.mm(x_A, weight_AB, out=y_B)
    return y_SB


def weight_gradient(x_SA: Tensor, dy_SB: Tensor, slices: Slices) -> Tensor:
    """Return [E, A, B]: for each expert x.T @ dy over its rows; zeros for one without rows."""
    if slices.sizes is None:
        return F.grouped_mm(x_SA.t(), dy_SB, offs=slices.ends_E)
    dw_EAB = x_SA.new_empty(len(slices.sizes), x_SA.shape[1], dy_SB.shape[1])
    parts = zip(
        x_SA.split_with_sizes(slices.sizes),
        dy_SB.split_with_sizes(slices.sizes),
        dw_EAB.unbind(),
        strict=True,
    )
    for x_A, dy_B, dw_AB in parts:
        if len(x_A):
            torch.mm(x_A.t(), dy_B, out=dw_AB)
        else:
            dw_AB.zero_()
    return dw_EAB


def grouped_product(x_SA: Tensor, weight_EAB: Tensor, slices: Slices) -> Tensor:
    """Return [S, B]: each row times the matrix of its expert, with gradients for both.

    One autograd node: `weight_EAB[e]` in a loop would allocate a gradient of the whole stack for
    every expert.
    """
    dtype = x_SA.dtype
    if torch.is_autocast_enabled(x_SA.device.type):
        dtype = torch.get_autocast_dtype(x_SA.device.type)
    y_SB: Tensor = _GroupedProduct.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
        x_SA.to(dtype), weight_EAB.to(dtype), slices
    )
    return y_SB


class _GroupedProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # autograd's context has no public type
        x_SA: Tensor,
        weight_EAB: Tensor,
        slices: Slices,
    ) -> Tensor:
        ctx.save_for_backward(x_SA, weight_EAB)
        ctx.slices = slices
        with torch.autocast(x_SA.device.type, enabled=False):
            return times_weight(x_SA, weight_EAB, slices)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_SB: Tensor) -> tuple[Tensor | None, ...]:
        x_SA, weight_EAB = ctx.saved_tensors
        dy_SB = dy_SB.contiguous()  # the grouped product refuses expanded gradients
        dx_SA = None
        if ctx.needs_input_grad[0]:
            dx_SA = times_weight(dy_SB, weight_EAB.transpose(1, 2), ctx.slices)
        return dx_SA, weight_gradient(x_SA, dy_SB, ctx.slices), None

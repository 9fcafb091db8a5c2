"""Next-token cross-entropy over a large vocabulary, without the [T, V] matrix of scores.

At 4,096 tokens and a vocabulary of 50,257 that matrix is 823 MB, and plain cross-entropy keeps
three of them. Here the scores of one chunk of rows exist at a time, and gradients are computed in
the forward pass, while the chunk's probabilities are at hand (as in Liger and cut cross-entropy).

T tokens, R rows of a chunk, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from research_eval.spec import IGNORED_LABEL

CHUNK_BYTES = 100 * 2**20
"""Memory for the scores of one chunk: 521 rows in fp32 at a vocabulary of 50,257.

Fewer rows read the weights and write their gradient more often; more rows were no faster.
"""

BLOCK_BYTES = 12 * 2**20
"""Scores turned into probabilities at once, in fp32; they should fit a cache."""


def vocabulary_loss(
    hidden_TD: Tensor, weight_VD: Tensor, targets_T: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean cross-entropy of softmax(hidden @ weight.T), of how many, and of each.

    Equal to `torch.nn.functional.cross_entropy` up to rounding, except that the mean over no
    targets is 0 and not NaN. Under autocast to bf16 the matrix products are bf16 and the softmax
    is fp32; under fp16, whose range large scores and small gradients leave, all is fp32.

    Args:
        hidden_TD: Final hidden states.
        weight_VD: Output embedding.
        targets_T: Token ids, or `IGNORED_LABEL`.

    Returns:
        The loss in nats, fp32 scalar; the number of targets, int64 scalar; and the loss at each
        target, fp32 [T], 0 where there is none, without gradient.
    """
    dtype = _product_dtype(hidden_TD.device.type)
    num_targets = (targets_T != IGNORED_LABEL).sum()
    loss, losses_T = _VocabularyLoss.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
        hidden_TD.float(), weight_VD, targets_T, num_targets, dtype, torch.is_grad_enabled()
    )
    return loss, num_targets, losses_T


def working_bytes(num_tokens: int, weight_VD: Tensor) -> int:
    """Return what `vocabulary_loss` holds while it computes the loss and its gradients.

    Args:
        num_tokens: T.
        weight_VD: Output embedding.
    """
    dtype, (vocabulary, width) = _product_dtype(weight_VD.device.type), weight_VD.shape
    scores = min(CHUNK_BYTES, num_tokens * vocabulary * dtype.itemsize)
    block = min(BLOCK_BYTES, num_tokens * vocabulary * 4)
    weights = 4 * vocabulary * width  # the gradient
    if dtype != torch.float32:
        weights += (4 + 2 * dtype.itemsize) * vocabulary * width  # weights, a product, its fp32
    hidden = 3 * 4 * num_tokens * width  # before and behind the last norm, and the gradient
    return scores + block + weights + hidden


def _product_dtype(device: str) -> torch.dtype:
    bf16 = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
    return torch.bfloat16 if bf16 else torch.float32


class _VocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # autograd's context has no public type
        hidden_TD: Tensor,
        weight_VD: Tensor,
        targets_T: Tensor,
        num_targets: Tensor,
        dtype: torch.dtype,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        share_T1 = ((targets_T != IGNORED_LABEL) / num_targets.clamp(min=1)).unsqueeze(1)
        with torch.autocast(hidden_TD.device.type, enabled=False):
            x_TD, w_VD = hidden_TD.to(dtype), weight_VD.to(dtype)
            losses_T = share_T1.new_zeros(len(x_TD))
            if with_gradient:
                dhidden_TD = torch.empty_like(hidden_TD)
                dweight_VD = torch.zeros_like(weight_VD)
            chunk_rows = max(1, CHUNK_BYTES // (w_VD.element_size() * len(w_VD)))
            scores_RV = x_TD.new_empty(min(chunk_rows, len(x_TD)), len(w_VD))
            for start in range(0, len(x_TD), chunk_rows):
                rows = slice(start, start + chunk_rows)
                x_RD, share_R1 = x_TD[rows], share_T1[rows]
                dscores_RV = torch.mm(x_RD, w_VD.t(), out=scores_RV[: len(x_RD)])
                losses_R = _losses(dscores_RV, targets_T[rows].clamp(min=0))
                losses_T[rows] = losses_R * (targets_T[rows] != IGNORED_LABEL)
                if with_gradient:
                    torch.mul(dscores_RV @ w_VD, share_R1, out=dhidden_TD[rows])
                    _add_product(dweight_VD, dscores_RV.t(), (x_RD * share_R1).to(dtype))
        if with_gradient:
            ctx.save_for_backward(dhidden_TD, dweight_VD)
        ctx.mark_non_differentiable(losses_T)
        return torch.dot(losses_T, share_T1.squeeze(1)), losses_T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dloss: Tensor, _dlosses_T: None) -> tuple[Tensor | None, ...]:
        dhidden_TD, dweight_VD = ctx.saved_tensors
        return dhidden_TD * dloss, dweight_VD * dloss, None, None, None, None


def _losses(scores_RV: Tensor, targets_R: Tensor) -> Tensor:
    """Return the cross-entropy of each row, and turn scores into its gradient in place."""
    losses = []
    block_rows = max(1, BLOCK_BYTES // (4 * scores_RV.shape[1]))
    for start in range(0, len(scores_RV), block_rows):
        rows = slice(start, start + block_rows)
        targets_R1 = targets_R[rows].unsqueeze(1)
        log_probs_RV = scores_RV[rows].log_softmax(dim=1, dtype=torch.float32)
        losses.append(-log_probs_RV.gather(1, targets_R1))
        gradient_RV = log_probs_RV.exp_()
        gradient_RV.scatter_add_(1, targets_R1, gradient_RV.new_full(targets_R1.shape, -1.0))
        scores_RV[rows] = gradient_RV
    return torch.cat(losses).squeeze(1)


def _add_product(total_VD: Tensor, a_VR: Tensor, b_RD: Tensor) -> None:
    """Add a @ b to `total_VD`, which is fp32 whatever they are."""
    if a_VR.dtype == total_VD.dtype:
        total_VD.addmm_(a_VR, b_RD)
    else:
        total_VD += a_VR @ b_RD

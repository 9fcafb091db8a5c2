"""What the learned routers share: choosing by score, and weights that always carry a gradient.

T tokens, E experts, K chosen experts per token.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

SingleWeight = Literal["prob", "straight_through"]


def choose(scores_TE: Tensor, bias_E: Tensor | None, top_k: int) -> tuple[Tensor, Tensor]:
    """Return the k highest of score + bias, highest first: their values and int64 indices."""
    biased_TE = scores_TE.detach() if bias_E is None else scores_TE.detach() + bias_E
    top = biased_TE.topk(top_k, dim=-1)
    return top.values, top.indices


def combine_weights(
    log_scores_TK: Tensor, single: SingleWeight, kept_TK: Tensor | None = None
) -> Tensor:
    """Return how the chosen experts' outputs are combined: scores divided by their sum.

    A score divided by itself would be 1 and give the router no gradient at all. A token's only
    expert is therefore weighted by its score p itself (Fedus et al. 2022), or by
    1 + p - stopgrad(p), which is 1 and has the gradient of p (straight through).

    Args:
        log_scores_TK: Logarithms of positive scores; the quotient is taken as their softmax,
            which is finite where the scores themselves are 0 in fp32.
        single: What weights a token's only expert.
        kept_TK: False at places that stay empty and get weight 0; None if all are filled.
    """
    scores_TK = log_scores_TK.exp()
    only_TK = 1 + (scores_TK - scores_TK.detach()) if single == "straight_through" else scores_TK
    if kept_TK is None:
        return only_TK if log_scores_TK.shape[1] == 1 else log_scores_TK.softmax(dim=-1)
    # Not -inf: the softmax of a row that keeps nothing, and its gradient, would be NaN.
    lowest = torch.finfo(log_scores_TK.dtype).min
    shared_TK = log_scores_TK.masked_fill(~kept_TK, lowest).softmax(dim=-1)
    is_only_T1 = kept_TK.sum(dim=1, keepdim=True) == 1
    return torch.where(is_only_T1, only_TK, shared_TK).masked_fill(~kept_TK, 0.0)

"""How experts that are all active take from one another.

E experts; row i of a matrix is what expert i takes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def row_entropy(weights_EE: Tensor) -> float:
    """Return the mean entropy of what an expert takes from the others, over ln(E - 1).

    1 means from all others alike, 0 from one only; NaN for fewer than three experts, where there
    is nothing to choose between, or if nothing is taken.
    """
    num_experts = len(weights_EE)
    if num_experts < 3:
        return math.nan
    others_EE = weights_EE.double().clamp(min=0) * (1 - torch.eye(num_experts))
    totals_E1 = others_EE.sum(dim=1, keepdim=True)
    taking_E = totals_E1.squeeze(1) > 0
    if not taking_E.any():
        return math.nan
    shares_EE = others_EE[taking_E] / totals_E1[taking_E]
    return float(torch.special.entr(shares_EE).sum(dim=1).mean() / math.log(num_experts - 1))


def asymmetry(weights_EE: Tensor) -> float:
    """Return |W - Wᵀ| / |W + Wᵀ| in Frobenius norms: 0 if all coupling is mutual, 1 if none is."""
    weights_EE = weights_EE.double()
    both = (weights_EE + weights_EE.T).norm()
    return float((weights_EE - weights_EE.T).norm() / both) if both > 0 else math.nan


def mean_similarity(similarity_EE: Tensor) -> float:
    """Return the mean cosine similarity between different experts, -1..1; NaN for one expert."""
    num_experts = len(similarity_EE)
    if num_experts < 2:
        return math.nan
    off_diagonal = similarity_EE.double().sum() - similarity_EE.double().trace()
    return float(off_diagonal / (num_experts * (num_experts - 1)))

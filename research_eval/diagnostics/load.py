"""How evenly experts are used. All take counts or shares of one layer, [E], not negative."""

from __future__ import annotations

import math

import torch
from torch import Tensor

DEAD_SHARE = 0.1
"""An expert below this share of an even load counts as dead."""


def load_entropy(load_E: Tensor) -> float:
    """Return the entropy of the load divided by ln E: 1 is even, 0 is one expert for all.

    A single expert is even; without any load there is no answer (NaN).
    """
    if len(load_E) == 1:
        return 1.0 if load_E.sum() > 0 else math.nan
    return _entropy(load_E) / math.log(len(load_E))


def effective_experts(load_E: Tensor) -> float:
    """Return exp(entropy of the load): how many evenly used experts would be as diverse, 1..E."""
    return math.exp(_entropy(load_E))


def _entropy(load_E: Tensor) -> float:
    total = load_E.sum().item()
    if total == 0:
        return math.nan
    return float(torch.special.entr(load_E.double() / total).sum())


def variation(load_E: Tensor) -> float:
    """Return standard deviation over mean of the load: 0 is even, sqrt(E - 1) is one for all."""
    load_E = load_E.double()
    mean = float(load_E.mean())
    return float(load_E.std(correction=0)) / mean if mean else math.nan


def max_violation(load_E: Tensor) -> float:
    """Return by how much the busiest expert exceeds the mean: 0 is even, E - 1 is one for all.

    MaxVio of Wang et al. 2024 (arXiv 2408.15664), section 4.1.
    """
    load_E = load_E.double()
    mean = float(load_E.mean())
    return float(load_E.max()) / mean - 1 if mean else math.nan


def dead_experts(load_E: Tensor) -> int:
    """Return how many experts have less than a tenth of an even share."""
    shares_E = load_E.double() / load_E.sum().clamp(min=1)
    return int((shares_E < DEAD_SHARE / len(load_E)).sum())

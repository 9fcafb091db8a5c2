"""What experts do, measured from routing records. Pure functions on counts.

T real tokens, E experts, K experts chosen per token.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from research_eval.spec import RoutingRecord


def load_counts(record: RoutingRecord) -> Tensor:
    """Return how many (token, choice) pairs each expert received, int64 [E]; dropped ones not."""
    chosen = record.chosen_TK if record.dropped_TK is None else record.chosen_TK[~record.dropped_TK]
    return torch.bincount(chosen.flatten(), minlength=record.num_experts)


def router_entropy_sum(record: RoutingRecord) -> Tensor:
    """Return the entropy of each token's routing distribution in nats, summed over tokens."""
    entropy_TE: Tensor = torch.special.entr(record.probs_TE.float())
    return entropy_TE.sum()


def normalised_entropy(load_E: Tensor) -> float:
    """Return the entropy of expert load divided by ln E.

    Args:
        load_E: Counts or shares, not negative.

    Returns:
        1 for an even load, 0 when one expert has all; 1 for a single expert, NaN without load.
    """
    total = load_E.sum().item()
    if total == 0:
        return math.nan
    if len(load_E) == 1:
        return 1.0
    shares_E = load_E.double() / total
    return float(torch.special.entr(shares_E).sum() / math.log(len(load_E)))

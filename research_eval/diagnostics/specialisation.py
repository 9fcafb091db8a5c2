"""Whether experts serve different kinds of input, against what chance alone would show.

N rows, G groups (labels or domains), E experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PERMUTATIONS = 200
PERMUTATIONS_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Specialisation:
    """Mutual information between the group of a row and the experts that serve it.

    Attributes:
        information: In nats, 0..ln of the smaller of G and E.
        chance: Its mean when groups are dealt to rows at random.
        chance_high: 97.5th percentile of the same; only above it is there anything to explain.
        counts_GE: How often each expert served each group.
    """

    information: float
    chance: float
    chance_high: float
    counts_GE: Tensor


def specialisation(groups_N: Tensor, counts_NE: Tensor, *, seed: int = 0) -> Specialisation:
    """Compare experts and groups.

    Tokens of a row are not independent, so groups are permuted over rows, never over tokens.

    Args:
        groups_N: Group of each row, int64 from 0.
        counts_NE: How often each expert served each row.
        seed: Of the permutations.
    """
    num_groups = int(groups_N.max()) + 1
    member_NG = F.one_hot(groups_N, num_groups).double()
    counts_NE = counts_NE.double()
    counts_GE = member_NG.T @ counts_NE
    generator = torch.Generator().manual_seed(seed)
    chance = torch.cat(
        [
            _by_chance(member_NG, counts_NE, generator)
            for _ in range(0, PERMUTATIONS, PERMUTATIONS_AT_ONCE)
        ]
    )
    return Specialisation(
        information=float(mutual_information(counts_GE)),
        chance=float(chance.mean()),
        chance_high=float(chance.quantile(0.975)),
        counts_GE=counts_GE.long(),
    )


def _by_chance(member_NG: Tensor, counts_NE: Tensor, generator: torch.Generator) -> Tensor:
    """Return the mutual information under some random deals of the groups to the rows."""
    orders = [
        torch.randperm(len(member_NG), generator=generator) for _ in range(PERMUTATIONS_AT_ONCE)
    ]
    dealt_PGN = torch.stack([member_NG[order_N].T for order_N in orders])
    return mutual_information(dealt_PGN @ counts_NE)


def mutual_information(counts_GE: Tensor) -> Tensor:
    """Return the mutual information of tables of counts [..., G, E] in nats; 0 for empty ones."""
    counts_GE = counts_GE.double()
    joint_GE = counts_GE / counts_GE.sum((-2, -1), keepdim=True).clamp(min=1)
    independent_GE = joint_GE.sum(-1, keepdim=True) * joint_GE.sum(-2, keepdim=True)
    ratio_GE = torch.where(joint_GE > 0, joint_GE / independent_GE, 1.0)
    return (joint_GE * ratio_GE.log()).sum((-2, -1))

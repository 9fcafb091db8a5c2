"""Whether experts serve different kinds of input, against what chance alone would show.

N rows, G groups (labels or domains), E experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PERMUTATIONS = 200


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
    by_chance = []
    for _ in range(PERMUTATIONS):
        order_N = torch.randperm(len(groups_N), generator=generator)
        by_chance.append(mutual_information(member_NG[order_N].T @ counts_NE))
    chance = torch.tensor(by_chance, dtype=torch.float64)
    return Specialisation(
        information=mutual_information(counts_GE),
        chance=float(chance.mean()),
        chance_high=float(chance.quantile(0.975)),
        counts_GE=counts_GE.long(),
    )


def mutual_information(counts_GE: Tensor) -> float:
    """Return the mutual information of a table of counts in nats; 0 for an empty table."""
    total = counts_GE.sum()
    if total == 0:
        return 0.0
    joint_GE = counts_GE.double() / total
    rows_G1, columns_1E = joint_GE.sum(1, keepdim=True), joint_GE.sum(0, keepdim=True)
    ratio_GE = torch.where(joint_GE > 0, joint_GE / (rows_G1 * columns_1E), 1.0)
    return float((joint_GE * ratio_GE.log()).sum())

"""What a body tells about itself besides its result.

T real tokens of a batch (padding excluded), E experts, K experts chosen per token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class AuxLoss:
    """An auxiliary term: the value is recorded under its name, weight * value is trained on."""

    value: Tensor
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRecord:
    """What one layer's router did with the T real tokens of a batch; nothing carries gradient.

    Attributes:
        probs_TE: The router's distribution over experts.
        chosen_TK: Index of the chosen experts.
        weights_TK: How the chosen outputs were combined; 0 where no expert worked on the token.
        dropped_TK: True where capacity turned a token away; None if nothing can be dropped.
    """

    layer: int
    num_experts: int
    probs_TE: Tensor
    chosen_TK: Tensor
    weights_TK: Tensor
    dropped_TK: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CouplingRecord:
    """How one layer coupled experts that are all active; nothing carries gradient.

    Attributes:
        weights_EE: What expert i (row) takes from expert j, averaged over the real tokens.
        similarity_EE: Cosine similarity of what the experts add to the residual stream, averaged
            over the real tokens or an even sample of them.
        members_HE: For a hypergraph, which experts belong to which hyperedge, 0..1.
    """

    layer: int
    weights_EE: Tensor
    similarity_EE: Tensor
    members_HE: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRecord:
    """Which experts were visited one after another; nothing carries gradient.

    N decision makers (samples, or tokens for language modelling), P steps, A actions: the
    experts, and possibly a last one that ends the path.

    Attributes:
        chosen_NP: Expert visited at each step, -1 after the end of the path.
        probs_NPA: Distribution of each decision, zero after the end of the path.
    """

    num_experts: int
    chosen_NP: Tensor
    probs_NPA: Tensor

"""What a router is.

T real tokens of a batch (padding excluded), E experts, K experts chosen per token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

from research_eval.spec.reports import AuxLoss


@dataclass(frozen=True, slots=True)
class RouterContext:
    """What a router is told when it is built.

    Attributes:
        layer: Index of its layer, from 0.
        params: The parameters of the model that it serves.
    """

    num_experts: int
    top_k: int
    vocab_size: int
    layer: int
    params: Any


@dataclass(frozen=True, slots=True)
class RouterInput:
    """What a router sees of the T real tokens of a batch.

    Attributes:
        logits_TE: Scores in fp32 from the layer's own projection; zeros if the spec is not
            `learned`.
        ids_T: Token ids.
        positions_T: Position of each token in its row.
    """

    logits_TE: Tensor
    ids_T: Tensor
    positions_T: Tensor


@dataclass(frozen=True, slots=True)
class RouterOutput:
    """What a router decides.

    Attributes:
        chosen_TK: Experts for each token, int64, all different within a row.
        weights_TK: How their outputs are combined, fp32. For a learned router the task loss
            must reach the logits through them.
        probs_TE: Its distribution over experts, for balance and diagnostics.
        aux_losses: Terms of this layer alone; the layer's own balance and z-loss are added.
    """

    chosen_TK: Tensor
    weights_TK: Tensor
    probs_TE: Tensor
    aux_losses: Mapping[str, AuxLoss] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSpec:
    """A way to choose experts.

    Attributes:
        build: Makes the module: `build(context)`; it is called with a `RouterInput`.
        learned: Whether it uses the layer's projection; False for controls, which get no
            gradient and are declared so wherever their scores are shown.
    """

    name: str
    build: Callable[[RouterContext], nn.Module]
    learned: bool = True

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
        causal: Whether position t may only depend on positions up to t.
        params: The parameters of the model that it serves.
    """

    num_experts: int
    top_k: int
    vocab_size: int
    layer: int
    causal: bool
    params: Any


@dataclass(frozen=True, slots=True)
class RouterInput:
    """What a router sees of the T real tokens of a batch.

    Attributes:
        logits_TE: Scores in fp32 from the layer's own projection; zeros if the spec is not
            `learned`.
        ids_T: Token ids.
        positions_T: Position of each token in its row.
        progress: Share of the training that is done, 0..1, for what is annealed; 1 outside it.
        bias_E: Added to the scores by which experts are chosen, never to their weights; None
            unless `balance` is "bias".
    """

    logits_TE: Tensor
    ids_T: Tensor
    positions_T: Tensor
    progress: float = 1.0
    bias_E: Tensor | None = None


@dataclass(frozen=True, slots=True)
class RouterOutput:
    """What a router decides.

    Attributes:
        chosen_TK: Experts for each token, int64, all different within a row. K is `top_k`; only
            a router that waives "batch_independent" may use another K, and in training only.
        weights_TK: How their outputs are combined, fp32. For a learned router the task loss
            must reach the logits through them. Where a `partial` router leaves a place empty,
            its weight is 0 and the expert does not see the token.
        probs_TE: Its distribution over experts, for balance, capacity and diagnostics.
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
        takes_bias: Whether it chooses by its scores + `bias_E`, so that balance="bias" works.
        partial: Whether a token may get fewer than k experts.
        waives: Promises that do not hold in training, each with its reason.
        version: Raised when the same parameters come to mean another choice.
    """

    name: str
    build: Callable[[RouterContext], nn.Module]
    learned: bool = True
    takes_bias: bool = False
    partial: bool = False
    waives: Mapping[str, str] = field(default_factory=dict)
    version: int = 1

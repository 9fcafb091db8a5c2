"""What a model is.

B batch, L length, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from research_eval.knobs import Choice, Constraint, Divides, Params, Uniform

if TYPE_CHECKING:
    from torch import Tensor, nn

from research_eval.spec.past import Past
from research_eval.spec.reports import AuxLoss, CouplingRecord, PathRecord, RoutingRecord
from research_eval.spec.router import RouterSpec

INIT_STD = 0.02
"""Standard deviation of initial weights (Radford et al. 2019); matrices that write to the
residual stream are scaled down further by 1 / sqrt(2 * num_layers)."""


class TransformerParams(Params):
    """Parameters that every model has: the shared frame around its body."""

    embed_dim: Annotated[int, Field(ge=1), Choice(32, 64, 128)] = 64
    """Width of the residual stream."""

    num_layers: Annotated[int, Field(ge=1), Uniform(1, 4)] = 2
    """Number of blocks."""

    num_heads: Annotated[int, Field(ge=1), Choice(2, 4, 8)] = 4
    """Attention heads per block."""

    ff_factor: Annotated[float, Field(gt=0), Choice(2.0, 4.0)] = 4.0
    """Feed-forward width as a multiple of `embed_dim`, rounded to whole units."""

    activation: Literal["gelu", "swiglu"] = "gelu"
    """Feed-forward form: two matrices with GELU, or three with a gated SiLU."""

    positions: Literal["learned", "rope", "none"] = "learned"
    """How positions enter: learned embeddings, rotary attention, or not at all."""

    max_positions: Annotated[int | None, Field(ge=1)] = None
    """Positions that the model can tell apart; null takes what the data set needs."""

    dropout: Annotated[float, Field(ge=0, lt=1), Uniform(0.0, 0.3, step=0.05)] = 0.0
    """Dropout rate on embeddings, attention outputs and feed-forward outputs."""

    tie_embeddings: bool = True
    """Whether the output layer of a language model shares the input embedding."""

    constraints: ClassVar[tuple[Constraint, ...]] = (Divides("num_heads", "embed_dim"),)
    aliases: ClassVar[Mapping[str, str]] = {"dim_feedforward_factor": "ff_factor"}

    @property
    def ff_dim(self) -> int:
        """Feed-forward width in units."""
        return max(1, round(self.ff_factor * self.embed_dim))


@dataclass(frozen=True, slots=True)
class BodyContext:
    """What a body is told when it is built, besides its parameters.

    Attributes:
        vocab_size: For routers that look at token ids.
        max_length: Longest input in tokens.
        causal: Whether position t may only depend on positions up to t.
        find_router: Returns the `RouterSpec` of a registered name or a `./file.py:Name`.
    """

    vocab_size: int
    max_length: int
    causal: bool
    find_router: Callable[[str], RouterSpec]


@dataclass(frozen=True, slots=True)
class BodyInput:
    """What a body reads.

    Attributes:
        hidden_BLD: Embedded tokens.
        ids_BL: Token ids, int64.
        mask_BL: True at real tokens; None if there is no padding.
        progress: Share of the training that is done, 0..1, for what is annealed; 1 outside it.
        past: What was kept of the positions before, for bodies that say `takes_past`; then the
            rows here go on from position `past.length`, without padding. None at the start of
            a row.
    """

    hidden_BLD: Tensor
    ids_BL: Tensor
    mask_BL: Tensor | None
    progress: float = 1.0
    past: Past | None = None

    @property
    def start(self) -> int:
        """Position of the first token of each row."""
        return 0 if self.past is None else self.past.length


@dataclass(frozen=True, slots=True)
class BodyOutput:
    """What a body returns.

    Attributes:
        hidden_BLD: The result; the shared frame normalises it.
        aux_losses: Auxiliary terms by name, each averaged over layers and never across them.
        routing: One record per routed layer, in order.
        couplings: One record per layer that couples its experts.
        path: The path through a pool of experts.
        after_loss: For terms that need to know how well it went: called in training with the
            task loss of each decision maker ([B] rows, or [B, L] tokens with 0 where there is no
            target; detached), it returns further auxiliary terms.
    """

    hidden_BLD: Tensor
    aux_losses: Mapping[str, AuxLoss] = field(default_factory=dict)
    routing: tuple[RoutingRecord, ...] = ()
    couplings: tuple[CouplingRecord, ...] = ()
    path: PathRecord | None = None
    after_loss: Callable[[Tensor], Mapping[str, AuxLoss]] | None = None


@dataclass(frozen=True, slots=True)
class BodyCost:
    """What a body costs, counted analytically.

    Attributes:
        flops_per_token: Forward multiply-adds times two, at a given sequence length.
        active_params: Parameters that take part in one token's forward pass.
    """

    flops_per_token: float
    active_params: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model, as `MODELS_MAP` holds it.

    Attributes:
        build: Makes the body: `build(params, context)`. Modules in it that define
            `after_step()` are called once after each optimizer step; modules that define
            `routing_parameters()` name the parameters that decide which experts work; those that
            define `waives()` add to the promises below, as their parameters require. Those with an
            attribute `routing_control`, None by default, let it decide in their place while it
            is set (`research_eval.routing_controls`). A body with a true attribute `takes_past`
            can read rows piece by piece (`BodyInput.past`), which makes generation faster.
        cost: Counts it: `cost(params, context, length)`; None lets the counter measure it.
        version: Raised when the same parameters come to mean another function.
        scale: Fields that change its cost, in the order in which matching should try them.
        waives: Promises that do not hold in training, each with its reason.
    """

    name: str
    params: type[TransformerParams]
    build: Callable[[Any, BodyContext], nn.Module]
    cost: Callable[[Any, BodyContext, int], BodyCost] | None = None
    version: int = 1
    scale: tuple[str, ...] = ("ff_factor", "embed_dim")
    waives: Mapping[str, str] = field(default_factory=dict)

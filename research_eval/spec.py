"""Everything that the author of a model, a router or a data set must know.

A model is a *body*: a module that maps hidden states to hidden states. Embedding, positions,
head, loss, optimizer, data order and evaluation are shared by all models, so that a comparison
compares only the body. A data set is a function that returns tensors.

B batch, L length, N samples, T = real tokens of a batch (padding excluded), D width, E experts,
K experts chosen per token, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from research_eval.knobs import Choice, Constraint, Divides, Params, Uniform

if TYPE_CHECKING:
    from torch import Tensor, nn

Task = Literal["classification", "language_modeling"]
DatasetType = Literal["synthetic", "real_world"]

IGNORED_LABEL = -100
"""Label of a position that has nothing to predict (PyTorch's default `ignore_index`)."""


# ---------------------------------------------------------------------------------------- data


class DatasetParams(Params):
    """Parameters that every data set has."""

    data_seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Governs generated samples and cut splits. A run's `seed` never changes the data."""


@dataclass(frozen=True, slots=True)
class Split:
    """One part of a data set, ready to be cut into batches.

    Attributes:
        ids_NL: Token ids, int32, rows filled with 0 behind their length. For language modelling
            a row holds one token more than the model reads: inputs are all but the last,
            targets all but the first.
        lengths_N: Number of real tokens in each row, int32.
        labels_N: Class of each row, int64; None for language modelling.
        num_bytes: UTF-8 bytes of the text that the targets cover, for bits per byte.
        domains_N: Index of each row's domain, int64, or None.
        loss_floor: Mean loss in nats per target that the true process reaches on these very
            rows, or None if it is not known. A model below it has seen what it should not.
    """

    ids_NL: Tensor
    lengths_N: Tensor
    labels_N: Tensor | None = None
    num_bytes: int | None = None
    domains_N: Tensor | None = None
    loss_floor: float | None = None

    def __len__(self) -> int:
        return int(self.ids_NL.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A loaded data set.

    Attributes:
        vocab_size: Token ids are below it. Id 0 is padding unless `lengths_N` says otherwise.
        max_length: Longest row that a model will read.
        label_names: Declared classes in order, empty for language modelling.
        domain_names: Names of the domains in order.
        counts: What was done on loading, for example rows removed as duplicates.
        fingerprint: sha256 over the content of all splits; the run's data hash.
        source: Where the data came from, in words.
    """

    task: Task
    vocab_size: int
    max_length: int
    train: Split
    validation: Split
    test: Split | None
    label_names: tuple[str, ...] = ()
    domain_names: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    fingerprint: str
    source: str


def data_fingerprint(*splits: Split | None) -> str:
    """Return the sha256 of all tensors of the given splits, their shapes and types included.

    Args:
        splits: Train, validation and test, in this order; None where there is no such split.
    """
    digest = hashlib.sha256()
    for split in splits:
        parts = (
            []
            if split is None
            else [split.ids_NL, split.lengths_N, split.labels_N, split.domains_N]
        )
        digest.update(f"split of {len(parts)};".encode())
        for tensor in parts:
            described = None if tensor is None else (tuple(tensor.shape), str(tensor.dtype))
            digest.update(f"{described};".encode())
            if tensor is not None:
                digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class LoadContext:
    """What a data set's `load` may use besides its parameters.

    Attributes:
        base_dir: Folder of the configuration; relative paths start here.
        cache_dir: Where prepared data may be kept, keyed by content.
        say: Called with a line of progress.
    """

    base_dir: Path
    cache_dir: Path
    say: Callable[[str], None] = lambda _line: None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """A data set, as `DATASETS_MAP` holds it.

    Attributes:
        load: Returns the data, or raises `DataError` with the ways to provide it.
        tasks: What it can be used for; the first is the default.
        version: Raised when the same parameters come to mean other data.
    """

    name: str
    dataset_type: DatasetType
    params: type[DatasetParams]
    load: Callable[[Any, LoadContext], Dataset]
    tasks: tuple[Task, ...]
    version: int = 1


# --------------------------------------------------------------------------------------- models


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
    """

    hidden_BLD: Tensor
    ids_BL: Tensor
    mask_BL: Tensor | None
    progress: float = 1.0


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
        weights_TK: How the chosen outputs were combined.
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
        similarity_EE: Cosine similarity of the experts' outputs, averaged over the real tokens.
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
            `after_step()` are called once after each optimizer step.
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


# -------------------------------------------------------------------------------------- routers


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

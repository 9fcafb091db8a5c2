"""What a data set is.

N samples, L length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import Field

from research_eval.knobs import Params

if TYPE_CHECKING:
    from torch import Tensor

Task = Literal["classification", "language_modeling"]
DatasetType = Literal["synthetic", "real_world"]

IGNORED_LABEL = -100
"""Label of a position that has nothing to predict (PyTorch's default `ignore_index`)."""


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
        num_words: Words of that text, for perplexity per word; the end of a line counts as one.
        unscored_id: Token id that is never a target, or None.
        domains_N: Index of each row's domain, int64, or None.
        loss_floor: Mean loss in nats per target that the true process reaches on these very
            rows, or None if it is not known. A model below it has seen what it should not.
    """

    ids_NL: Tensor
    lengths_N: Tensor
    labels_N: Tensor | None = None
    num_bytes: int | None = None
    num_words: int | None = None
    unscored_id: int | None = None
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


class Vocabulary(Protocol):
    """Between text and the token ids of a data set."""

    @property
    def end_of_text(self) -> int | None:
        """Id behind which a text is over; None if no id says so."""

    def prompt(self, text: str) -> list[int]:
        """Return the ids of the beginning of a text, as rows of the data set begin."""

    def text(self, ids: Sequence[int]) -> str:
        """Return what ids stand for; characters that are not complete yet as U+FFFD."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """A data set, as `DATASETS_MAP` holds it.

    Attributes:
        load: Returns the data, or raises `DataError` with the ways to provide it.
        tasks: What it can be used for; the first is the default.
        vocabulary: Returns what its ids stand for; None where they are only numbers.
        version: Raised when the same parameters come to mean other data.
    """

    name: str
    dataset_type: DatasetType
    params: type[DatasetParams]
    load: Callable[[Any, LoadContext], Dataset]
    tasks: tuple[Task, ...]
    vocabulary: Callable[[Any, LoadContext], Vocabulary] | None = None
    version: int = 1

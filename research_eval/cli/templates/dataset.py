"""A data set of your own: a function from parameters to tensors.

N rows, L length.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from research_eval.errors import DataError
from research_eval.spec import (
    Dataset,
    DatasetParams,
    DatasetSpec,
    LoadContext,
    Split,
    data_fingerprint,
)

VOCABULARY = 8


class MyParams(DatasetParams):
    """Random rows; the label says whether the first token comes again."""

    # Everything about a parameter stands here: type, legal values, default and meaning.
    # `data_seed` is inherited; a run's own seed never changes the data.
    num_samples: Annotated[int, Field(ge=10)] = 5_000
    """Rows of all splits together."""

    seq_len: Annotated[int, Field(ge=2)] = 12
    """Tokens in a row."""


def load(params: MyParams, _context: LoadContext) -> Dataset:
    """Generate rows that differ, so that no split shares one with another.

    A data set that reads files finds them from `_context.base_dir`, keeps what it prepared in
    `_context.cache_dir`, and raises `DataError` with the ways to provide what is missing.
    """
    generator = torch.Generator().manual_seed(params.data_seed)
    shape = (2 * params.num_samples, params.seq_len)
    drawn_NL = torch.randint(1, VOCABULARY, shape, dtype=torch.int32, generator=generator)
    rows_NL = torch.unique(drawn_NL, dim=0)
    rows_NL = rows_NL[torch.randperm(len(rows_NL), generator=generator)][: params.num_samples]
    if len(rows_NL) < params.num_samples:
        raise DataError(
            f"there are only {len(rows_NL)} different rows of {params.seq_len} tokens for "
            f"num_samples = {params.num_samples}; ask for longer rows or fewer of them"
        )

    # Fit on train, select on validation, test once.
    cut = params.num_samples // 10
    test, validation, train = (
        _split(part_NL) for part_NL in (rows_NL[:cut], rows_NL[cut : 2 * cut], rows_NL[2 * cut :])
    )
    return Dataset(
        task="classification",
        vocab_size=VOCABULARY,  # ids are below it, and 0 is padding
        max_length=params.seq_len,
        train=train,
        validation=validation,
        test=test,
        label_names=("once", "again"),
        fingerprint=data_fingerprint(train, validation, test),
        source=f"generated from data_seed {params.data_seed}",
    )


def _split(ids_NL: torch.Tensor) -> Split:
    comes_again_N = (ids_NL[:, 1:] == ids_NL[:, :1]).any(dim=1)
    lengths_N = torch.full((len(ids_NL),), ids_NL.shape[1], dtype=torch.int32)
    return Split(ids_NL.contiguous(), lengths_N, labels_N=comes_again_N.long())


MY_DATA = DatasetSpec(
    name="my_data",
    dataset_type="synthetic",
    params=MyParams,
    load=load,
    tasks=("classification",),  # language modelling has rows of one token more and no labels
)

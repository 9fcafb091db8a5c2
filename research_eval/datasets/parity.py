"""Parity: is the number of ones in a row odd?

No single token tells anything about the label, so a bag of words scores at chance.
"""

from __future__ import annotations

import torch

from research_eval.datasets._synthetic import Rows, SequenceParams, generate
from research_eval.spec import Dataset, DatasetSpec, LoadContext


class ParityParams(SequenceParams):
    """Rows of ids uniform on 1..vocab_size; the label is the number of ones modulo 2."""


def load(params: ParityParams, _context: LoadContext) -> Dataset:
    """Generate parity rows with the classes even and odd."""

    def draw(generator: torch.Generator, count: int) -> Rows:
        shape = (count, params.seq_len)
        ids_NL = torch.randint(
            1, params.vocab_size + 1, shape, dtype=torch.int32, generator=generator
        )
        return Rows(ids_NL, (ids_NL == 1).sum(dim=1) % 2)

    return generate(
        "parity",
        params,
        draw,
        task="classification",
        vocab_size=params.vocab_size + 1,
        label_names=("even", "odd"),
    )


SPEC = DatasetSpec(
    name="parity",
    dataset_type="synthetic",
    params=ParityParams,
    load=load,
    tasks=("classification",),
)

"""A secret pattern: was it copied into the row?

The pattern follows from `data_seed` and is the same in all splits. Half of the rows hold it,
either as a run of neighbours or in order with gaps; no other row holds it, not even by chance.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from research_eval.datasets._splits import stream
from research_eval.datasets._synthetic import Rows, SequenceParams, generate
from research_eval.knobs import AtMost, Constraint
from research_eval.spec import Dataset, DatasetSpec, LoadContext


class CopyingParams(SequenceParams):
    """Rows of uniform ids, half of which have the secret pattern written into them."""

    pattern_length: Annotated[int, Field(ge=1)] = 3
    """Tokens of the pattern."""

    contiguous: bool = True
    """Whether the tokens of the pattern stand side by side, or in order with gaps."""

    constraints: ClassVar[tuple[Constraint, ...]] = (AtMost("pattern_length", "seq_len"),)


def load(params: CopyingParams, _context: LoadContext) -> Dataset:
    """Generate rows with the classes absent and present."""
    pattern_P = secret_pattern(params)
    # Positions of a copy: a run from a random start, or a random ordered choice.
    last_start = params.seq_len - params.pattern_length

    def draw(generator: torch.Generator, count: int) -> Rows:
        ids_NL = _uniform(params, (count, params.seq_len), generator)
        present_N = torch.randint(2, (count,), generator=generator).bool()
        _erase(ids_NL, pattern_P, params, generator)
        if params.contiguous:
            start_N1 = torch.randint(last_start + 1, (count, 1), generator=generator)
            places_NP = start_N1 + torch.arange(params.pattern_length)
        else:
            shuffled_NL = torch.rand(count, params.seq_len, generator=generator).argsort(dim=1)
            places_NP = shuffled_NL[:, : params.pattern_length].sort(dim=1).values
        copied_NL = ids_NL.scatter(1, places_NP, pattern_P.expand(count, -1))
        return Rows(torch.where(present_N[:, None], copied_NL, ids_NL), present_N.long())

    return generate(
        "copying",
        params,
        draw,
        task="classification",
        vocab_size=params.vocab_size + 1,
        label_names=("absent", "present"),
    )


def secret_pattern(params: CopyingParams) -> Tensor:
    """Return the ids of the pattern, in order: int32."""
    return _uniform(params, (params.pattern_length,), stream(params.data_seed, "pattern"))


def _uniform(params: CopyingParams, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(1, params.vocab_size + 1, shape, dtype=torch.int32, generator=generator)


def _erase(
    ids_NL: Tensor, pattern_P: Tensor, params: CopyingParams, generator: torch.Generator
) -> None:
    """Replace, in place, every token that would complete the pattern by another one.

    Rejecting whole rows instead would not end for long rows with gaps allowed: at 128 tokens,
    8 ids and a pattern of 3, one row in 100,000 is free of it.
    """
    length, last = len(pattern_P), int(pattern_P[-1])
    shift_NL = torch.randint(1, params.vocab_size, ids_NL.shape, generator=generator)
    other_NL = (last - 1 + shift_NL) % params.vocab_size + 1  # uniform over all ids but the last
    matched_N = torch.zeros(len(ids_NL), dtype=torch.long)  # tokens of the pattern seen in order
    for position in range(params.seq_len):
        token_N = ids_NL[:, position]
        if params.contiguous:
            window_NW = ids_NL[:, max(0, position - length + 1) : position + 1]
            completes_N = (
                (window_NW == pattern_P).all(dim=1)
                if window_NW.shape[1] == length
                else torch.zeros_like(token_N, dtype=torch.bool)
            )
        else:
            expected_N = token_N == pattern_P[matched_N]
            completes_N = expected_N & (matched_N == length - 1)
            matched_N += (expected_N & ~completes_N).long()
        ids_NL[:, position] = torch.where(completes_N, other_NL[:, position].int(), token_N)


SPEC = DatasetSpec(
    name="copying",
    dataset_type="synthetic",
    params=CopyingParams,
    load=load,
    tasks=("classification",),
)

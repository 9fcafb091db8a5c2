"""Addition of two numbers, digit by digit.

Token layout, with `digits` digits for each number, leading zeros included, and one more for the
sum: `a + b =` for classification (2 digits + 2 tokens; the class is the last digit of the sum)
and `a + b = sum` for language modelling (3 digits + 3 tokens). Id 0 is padding, 1 to 10 are the
digits 0 to 9, 11 is `+`, 12 is `=`; the most significant digit comes first.

For language modelling every token but the first is a target. Of these, the 2 digits - 1 further
digits of the two numbers are uniform and cost ln 10 each; `+`, `=` and the sum follow from what
stands before and cost nothing. The floor is therefore (2 digits - 1) ln 10 / (3 digits + 2).
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from research_eval.datasets._synthetic import Rows, SyntheticParams, generate
from research_eval.spec import Dataset, DatasetSpec, LoadContext

PLUS, EQUALS = 11, 12
VOCAB_SIZE = 13


class AdditionParams(SyntheticParams):
    """Two numbers, uniform over all of `digits` digits, and their sum."""

    digits: Annotated[int, Field(ge=1, le=17)] = 4
    """Digits of each of the two numbers."""

    task: Literal["classification", "language_modeling"] = "classification"
    """Predict the last digit of the sum, or every next token up to the end of the sum."""


def load(params: AdditionParams, _context: LoadContext) -> Dataset:
    """Generate additions in the layout of this module."""
    causal = params.task == "language_modeling"

    def draw(generator: torch.Generator, count: int) -> Rows:
        left_N, right_N = torch.randint(10**params.digits, (2, count), generator=generator)
        sum_N = left_N + right_N
        parts = [
            _digits(left_N, params.digits),
            torch.full((count, 1), PLUS),
            _digits(right_N, params.digits),
            torch.full((count, 1), EQUALS),
        ]
        if causal:
            parts.append(_digits(sum_N, params.digits + 1))
        return Rows(torch.cat(parts, dim=1).int(), None if causal else sum_N % 10)

    floor = (2 * params.digits - 1) * math.log(10) / (3 * params.digits + 2)
    return generate(
        "addition",
        params,
        draw,
        task=params.task,
        vocab_size=VOCAB_SIZE,
        label_names=() if causal else tuple("0123456789"),
        loss_floor=(lambda _ids_NL: floor) if causal else None,
    )


def _digits(number_N: Tensor, width: int) -> Tensor:
    """Return the ids of the last `width` decimal digits, the most significant first."""
    powers = 10 ** torch.arange(width - 1, -1, -1)
    return number_N[:, None] // powers % 10 + 1


SPEC = DatasetSpec(
    name="addition",
    dataset_type="synthetic",
    params=AdditionParams,
    load=load,
    tasks=("classification", "language_modeling"),
)

"""Arithmetic modulo a number: the small task on which late generalisation was first seen.

A row is `a (op) b =`, the class is the result modulo `modulus`. There are modulus^2 rows in all;
each pair (a, b) is in exactly one split. Source: Power et al. 2022, "Grokking: Generalization
Beyond Overfitting on Small Algorithmic Datasets". Id 0 is padding, 1 to modulus are the numbers
0 to modulus - 1, then come the sign of the operation and `=`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field

from research_eval.datasets._splits import stream
from research_eval.datasets._synthetic import Rows, assemble, split_of
from research_eval.spec import Dataset, DatasetParams, DatasetSpec, LoadContext


class ModularArithmeticParams(DatasetParams):
    """Rows `a (op) b =` for all pairs of numbers below `modulus`; the class is the result."""

    modulus: Annotated[int, Field(ge=5, le=2000)] = 97
    """Size of the ring; also the number of classes."""

    operation: Literal["add", "subtract", "multiply"] = "add"
    """What is done with the two numbers."""

    train_fraction: Annotated[float, Field(ge=0.1, le=0.9)] = 0.5
    """Share of all pairs, chosen by `data_seed`, to train on; validation and test get half of
    the others each."""


def load(params: ModularArithmeticParams, _context: LoadContext) -> Dataset:
    """List all pairs and divide them."""
    modulus = params.modulus
    left_N, right_N = torch.cartesian_prod(torch.arange(modulus), torch.arange(modulus)).T
    results = {
        "add": left_N + right_N,
        "subtract": left_N - right_N,
        "multiply": left_N * right_N,
    }
    sign_N = torch.full_like(left_N, modulus + 1)
    ids_NL = torch.stack([left_N + 1, sign_N, right_N + 1, sign_N + 1], dim=1).int()
    rows = Rows(ids_NL, results[params.operation] % modulus)

    order_N = torch.randperm(modulus**2, generator=stream(params.data_seed, "pairs"))
    num_train = round(params.train_fraction * modulus**2)
    num_validation = (modulus**2 - num_train) // 2
    sizes = [num_train, num_validation, modulus**2 - num_train - num_validation]
    parts = zip(("train", "validation", "test"), torch.split(order_N, sizes), strict=True)
    return assemble(
        {purpose: split_of(rows.take(index_N)) for purpose, index_N in parts},
        task="classification",
        vocab_size=modulus + 3,
        label_names=tuple(str(number) for number in range(modulus)),
        counts={},
        source=f"all pairs modulo {modulus}, divided by data_seed {params.data_seed}",
    )


SPEC = DatasetSpec(
    name="modular_arithmetic",
    dataset_type="synthetic",
    params=ModularArithmeticParams,
    load=load,
    tasks=("classification",),
)

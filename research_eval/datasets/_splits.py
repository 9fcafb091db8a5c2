"""What all data sets share: random streams, proportional choice, and rows that recur.

N rows, L length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from research_eval.spec import Split


def stream(data_seed: int, purpose: str) -> torch.Generator:
    """Return a random generator of its own for one purpose, for example "train"."""
    digest = hashlib.sha256(f"{data_seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def row_keys(ids_T: NDArray[np.int32], lengths_N: NDArray[np.int64]) -> list[bytes]:
    """Return one key for each row: 128 bits of a hash of its ids, so equal for equal rows.

    Args:
        ids_T: The rows' ids, one row behind the other.
        lengths_N: Tokens of each row.
    """
    ends = np.cumsum(lengths_N)
    spans = zip((ends - lengths_N).tolist(), ends.tolist(), strict=True)
    return [hashlib.blake2b(ids_T[a:b].data, digest_size=16).digest() for a, b in spans]


def split_keys(split: Split) -> list[bytes]:
    """Return the `row_keys` of a split, padding left out."""
    ids_NL, lengths_N = split.ids_NL.numpy(), split.lengths_N.numpy().astype(np.int64)
    is_real_NL = np.arange(ids_NL.shape[1]) < lengths_N[:, None]
    return row_keys(ids_NL[is_real_NL], lengths_N)


def choose(
    strata_N: NDArray[np.int64],
    count: int,
    generator: torch.Generator,
    groups_N: NDArray[np.int64] | None = None,
) -> NDArray[np.bool_]:
    """Choose about `count` rows at random, in proportion to the strata.

    Each stratum's share is within one row (or group) of its even share, and without groups
    exactly `count` rows are chosen.

    Args:
        strata_N: Stratum of each row, for example its label.
        count: Rows wanted, at most N.
        generator: Decides which rows of a stratum are chosen.
        groups_N: Rows of one group, numbered from 0, are chosen together or not at all; a group
            belongs to the stratum of its first row. None makes each row its own group.

    Returns:
        True at the chosen rows.
    """
    total = len(strata_N)
    groups_N = np.arange(total) if groups_N is None else groups_N
    _, first, sizes = np.unique(groups_N, return_index=True, return_counts=True)
    shuffled = torch.randperm(len(first), generator=generator).numpy()
    order = shuffled[np.argsort(strata_N[first][shuffled], kind="stable")]
    chosen = np.zeros(len(first), dtype=bool)
    # Error diffusion in whole numbers: a group is taken when that brings the running count
    # closer to its share of the rows seen so far.
    seen = taken = 0
    for group, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        seen += size
        if (2 * taken + size) * total <= 2 * count * seen:
            chosen[group] = True
            taken += size
    found: NDArray[np.bool_] = chosen[groups_N]
    return found


def distinct(values: Iterable[Any]) -> list[Any]:
    """Return the different values in order, those of one type together."""
    return sorted(set(values), key=lambda value: (type(value).__name__, value))


def numbered(values: Sequence[Any], known: Sequence[Any]) -> NDArray[np.int64]:
    """Replace each value by its index among the known ones."""
    index = {value: number for number, value in enumerate(known)}
    return np.fromiter((index[v] for v in values), dtype=np.int64, count=len(values))

"""One stream of random numbers per purpose, all derived from the run's seed."""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, purpose: str, *indices: int) -> int:
    """Return a 63-bit seed that depends on all arguments and on nothing else.

    Args:
        seed: The run's seed.
        purpose: What it is for: "init", "noise" or "order".
        indices: For example the epoch.
    """
    text = ":".join([str(seed), purpose, *map(str, indices)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def epoch_order(num_rows: int, *, seed: int, epoch: int) -> torch.Tensor:
    """Return the order of the rows in an epoch: the same for every architecture, int64 [N]."""
    generator = torch.Generator().manual_seed(derive(seed, "order", epoch))
    return torch.randperm(num_rows, generator=generator)

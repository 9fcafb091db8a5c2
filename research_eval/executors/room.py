"""Whether the machine has what several workers need, before the first of them starts."""

from __future__ import annotations

from collections.abc import Sequence

import psutil

from research_eval.errors import ConfigError

BYTES_PER_WORKER = 350 * 2**20
"""Memory of a process that has loaded torch and trains a small model."""

BYTES_ON_GPU = 2**30
"""Memory of a GPU that a process takes before it has a model."""


def check_room(workers: int) -> None:
    """Refuse workers that do not fit into memory.

    Args:
        workers: How many processes are to run at once.

    Raises:
        ConfigError: If too little memory is free.
    """
    free = psutil.virtual_memory().available
    if workers * BYTES_PER_WORKER > free:
        fitting = max(1, free // BYTES_PER_WORKER)
        raise ConfigError(
            f"{workers} workers need about {workers * BYTES_PER_WORKER / 2**30:.1f} GiB of memory, "
            f"but {free / 2**30:.1f} GiB are free; --workers {fitting} fits"
        )


def check_gpus(asked: Sequence[int], found: int, free_bytes: Sequence[int]) -> None:
    """Refuse GPUs that are not there, named twice, or full.

    Args:
        asked: Places among the GPUs that this process sees; one worker each.
        found: How many torch can use.
        free_bytes: Free memory of each, in the same order; empty where nobody knows.

    Raises:
        ConfigError: If one cannot be used.
    """
    if len(set(asked)) < len(asked):
        raise ConfigError(f"each GPU takes one worker, but these are asked for: {list(asked)}")
    missing = [gpu for gpu in asked if not 0 <= gpu < found]
    if missing:
        there = f"GPUs 0 to {found - 1}" if found else "none that torch can use"
        raise ConfigError(
            f"there is no GPU {', '.join(map(str, missing))}: this process sees {there}"
        )
    for gpu in asked:
        if gpu < len(free_bytes) and free_bytes[gpu] < BYTES_ON_GPU:
            raise ConfigError(
                f"GPU {gpu} has {free_bytes[gpu] / 2**30:.2f} GiB of free memory, but a worker "
                f"needs {BYTES_ON_GPU / 2**30:.0f} GiB before its model; free some, or leave it out"
            )

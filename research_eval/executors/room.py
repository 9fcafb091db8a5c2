"""Whether the machine has what several workers need, before the first of them starts."""

from __future__ import annotations

from collections.abc import Sequence

import psutil
import torch

from research_eval.errors import ConfigError

BYTES_PER_WORKER = 350 * 2**20
"""Memory of a process that has loaded torch and trains a small model."""


def check_room(workers: int, gpus: Sequence[int] = ()) -> None:
    """Refuse workers that the machine has no room for.

    Args:
        workers: How many processes are to run at once; 0 or less for none.
        gpus: Instead, one process for each of these GPUs.

    Raises:
        ConfigError: If there is no such GPU, one is named twice, or too little memory is free.
    """
    if len(set(gpus)) < len(gpus):
        raise ConfigError(f"each GPU takes one worker, but these are asked for: {list(gpus)}")
    workers = len(gpus) or workers
    found = torch.cuda.device_count()
    missing = [gpu for gpu in gpus if not 0 <= gpu < found]
    if missing:
        there = f"GPUs 0 to {found - 1}" if found else "none that torch can use"
        raise ConfigError(
            f"there is no GPU {', '.join(map(str, missing))}: this machine has {there}"
        )
    free = psutil.virtual_memory().available
    if workers * BYTES_PER_WORKER > free:
        fitting = max(1, free // BYTES_PER_WORKER)
        raise ConfigError(
            f"{workers} workers need about {workers * BYTES_PER_WORKER / 2**30:.1f} GiB of memory, "
            f"but {free / 2**30:.1f} GiB are free; --workers {fitting} fits"
        )

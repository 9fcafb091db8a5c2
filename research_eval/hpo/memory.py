"""Whether the machine can hold the workers that are asked for."""

from __future__ import annotations

from collections.abc import Sequence

import psutil
import torch

from research_eval.errors import ConfigError

WORKER_BYTES = 350 * 2**20
"""What a small training needs beside torch's own code, measured on the CPU."""


def check_memory(workers: int, gpus: Sequence[int]) -> None:
    """Refuse workers that the machine has no memory or no GPU for.

    Raises:
        ConfigError: If there are more than fit, or a GPU is not there or is named twice.
    """
    if workers and gpus:
        raise ConfigError("name either workers or gpus: each GPU has one worker")
    if workers < 0:
        raise ConfigError(f"the number of workers must be 1 or more, but is {workers}")
    count = torch.cuda.device_count() if gpus else 0
    missing = [gpu for gpu in gpus if not 0 <= gpu < count]
    if missing or len(set(gpus)) < len(gpus):
        raise ConfigError(f"GPUs {list(gpus)} are asked for once each, but there are {count}")
    free = psutil.virtual_memory().available
    number = workers or len(gpus)
    if number * WORKER_BYTES > free:
        raise ConfigError(
            f"{number} workers need about {number * WORKER_BYTES / 2**30:.1f} GiB of memory, but "
            f"{free / 2**30:.1f} GiB are free; at most {free // WORKER_BYTES} fit"
        )

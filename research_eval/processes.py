"""Which of several processes this one is, as a launcher says it in the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

from research_eval.errors import ConfigError

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What `torchrun`, `accelerate launch` and others set for each process that they start."""


def quiet_torch() -> None:
    """Keep torch from warning of what it is told to do; call it before torch is loaded."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


@dataclass(frozen=True, slots=True)
class Process:
    """One of several processes that train one network together.

    Attributes:
        rank: From 0; the first one records the run and speaks for all.
        size: How many there are.
        local_rank: Its place among those of its machine: the number of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0


def launched() -> Process | None:
    """Return which process of a launcher this is; None if it was started by itself.

    A launcher is at work if there is an address to meet at, a rank, and a size above 1.

    Raises:
        ConfigError: If what the environment says cannot be.
    """
    said = {name: os.environ.get(name, "") for name in VARIABLES}
    if not (said["RANK"] and said["MASTER_ADDR"]) or said["WORLD_SIZE"] in ("", "0", "1"):
        return None
    numbers = {name: said[name] for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")}
    numbers["LOCAL_RANK"] = os.environ.get("LOCAL_RANK", said["RANK"])
    wrong = [f"{name}={text}" for name, text in numbers.items() if not text.isdecimal()]
    if not wrong and int(numbers["RANK"]) < int(numbers["WORLD_SIZE"]):
        return Process(*(int(numbers[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    told = ", ".join(wrong or [f"RANK={said['RANK']}, WORLD_SIZE={said['WORLD_SIZE']}"])
    raise ConfigError(
        f"the environment describes one of several processes, but {told} cannot be; start them "
        "with torchrun, or unset WORLD_SIZE to run alone"
    )

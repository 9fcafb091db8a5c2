"""Which device and which precision a run uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from research_eval import ranks
from research_eval.errors import ConfigError, Issue

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(asked: str, processes: int = 1) -> torch.device:
    """Return the device for `training_params.device`.

    Args:
        asked: auto, cpu, cuda, cuda:1 or mps; auto takes a GPU if there is one.
        processes: How many train together; then each takes a GPU of its own.

    Raises:
        ConfigError: If the device is not there.
    """
    if processes > 1:
        return _one_of_several(asked, processes)
    if asked == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(asked)
    there = {
        "cpu": True,
        "mps": torch.backends.mps.is_available(),
        "cuda": (device.index or 0) < torch.cuda.device_count(),
    }[device.type]
    if not there:
        raise _illegal("device", f"'{asked}' is not on this machine; auto takes what there is")
    return device


def _one_of_several(asked: str, processes: int) -> torch.device:
    """Return the device of this one of several processes."""
    found = torch.cuda.device_count()
    if asked == "cpu" or (asked == "auto" and not found):
        return torch.device("cpu")
    if asked not in ("auto", "cuda"):
        advice = f"'{asked}' is one device, but there are {processes} processes; take cuda or cpu"
        raise _illegal("device", advice)
    # A launcher may have started some of them on other machines.
    needed = ranks.local_rank() + 1 if ranks.size() > 1 else processes
    if needed > found:
        advice = f"{processes} processes need a GPU each, but this machine has {found}; take cpu"
        raise _illegal("device", f"{advice}, or fewer processes")
    return torch.device("cuda", ranks.local_rank())


def resolve_precision(asked: str, device: torch.device) -> str:
    """Return fp32, bf16 or fp16 for `training_params.precision`.

    Raises:
        ConfigError: If the device cannot do it.
    """
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if asked == "auto":
        return "bf16" if has_bf16 else "fp32"
    if asked == "fp16" and device.type == "cpu":
        raise _illegal("precision", "fp16 needs a GPU; on a CPU use bf16 or fp32")
    if asked == "bf16" and device.type == "cuda" and not has_bf16:
        raise _illegal("precision", "this GPU has no bf16; use fp16 or fp32")
    return asked


def _illegal(field: str, message: str) -> ConfigError:
    return ConfigError(
        "the configuration cannot run here", [Issue(f"training_params.{field}", message)]
    )


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context in which forward passes run."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision])


def synchronizer(device: torch.device) -> Callable[[], None]:
    """Return the function that waits for the device to finish; it does nothing on a CPU."""
    match device.type:
        case "cuda":
            return torch.cuda.synchronize
        case "mps":
            return torch.mps.synchronize
        case _:
            return lambda: None


@contextmanager
def cpu_threads(number: int | None) -> Iterator[None]:
    """Let torch use so many CPU threads for a while; None leaves its own choice."""
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)

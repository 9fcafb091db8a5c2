"""The machine as a training sees it: device, threads, memory, and what else runs beside it."""

from __future__ import annotations

import os
import sys
import time

import psutil
import torch

from research_eval import provenance

if sys.platform != "win32":
    import resource


def hardware_key(device: torch.device, processes: int = 1) -> str:
    """Return a name of the machine for comparing times.

    Device, its model and CPU threads, those of one process if there are several, and how many.
    """
    several = f" x {processes}" if processes > 1 else ""
    if device.type == "cuda":
        return f"cuda:{torch.cuda.get_device_name(device)}{several}"
    return f"{device.type}:{provenance.cpu_model()}:{torch.get_num_threads()} threads{several}"


def environment(device: torch.device, processes: int = 1) -> dict[str, object]:
    """Return `provenance.environment` with the device, its key, CPU threads and processes."""
    return provenance.environment() | {
        "device": str(device),
        "hardware": hardware_key(device, processes),
        "threads": torch.get_num_threads(),
        "processes": processes,
    }


class ContentionMeter:
    """Tells whether other work used the machine while a run was timed.

    Other processes' share of the CPU time since construction is compared with a quarter core.
    """

    LIMIT_CORES = 0.25

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._others = self._other_seconds()

    @staticmethod
    def _other_seconds() -> float:
        machine = psutil.cpu_times()
        busy = sum(machine) - machine.idle - getattr(machine, "iowait", 0.0)
        own = os.times()
        return float(busy - own.user - own.system - own.children_user - own.children_system)

    def contended(self) -> bool:
        """Return whether others used more than a quarter core on average."""
        elapsed = max(time.monotonic() - self._started, 1e-3)
        return (self._other_seconds() - self._others) / elapsed > self.LIMIT_CORES


def peak_memory_mb(device: torch.device) -> float:
    """Return the highest memory use so far in MiB: of the GPU if there is one, else the process.

    Of several processes that share a run it is this one's.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset / 2**20)
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes / 2**20

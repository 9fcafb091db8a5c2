"""What the machine does while a run is recorded: CPU, memory and GPUs, read in the background."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

from research_eval.errors import ResearchEvalError

INTERVAL_S = 5.0
MISSING_PSUTIL = (
    "CPU and memory are not recorded: psutil is not installed: pip install 'research-eval[train]'"
)
VISIBLE = "CUDA_VISIBLE_DEVICES"

Reading = dict[str, float]
Probe = Callable[[], Reading]


class SystemSampler:
    """Hands readings under `sys/` to `record` every few seconds; a context manager.

    Memory is in MiB, CPU shares in percent of the machine, power in watts, temperature in degrees
    Celsius. GPUs are numbered as the process sees them (`CUDA_VISIBLE_DEVICES`); NVML reads them,
    which needs no CUDA context. The first reading comes after one interval, since a share of time
    needs a beginning.

    Args:
        record: Takes a reading; called from a thread.
        interval_s: Seconds between readings, more than 0.
        complain: Told once what cannot be read, and why.
    """

    def __init__(
        self,
        record: Callable[[Mapping[str, float]], None],
        *,
        interval_s: float = INTERVAL_S,
        complain: Callable[[str], None] = lambda _message: None,
    ) -> None:
        self._record = record
        self._interval_s = interval_s
        self._complain = complain
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="system-metrics", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading; return when the last reading is handed over."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _sample(self) -> None:
        probes = self._probes()
        while probes and not self._stopped.wait(self._interval_s):
            reading: Reading = {}
            for probe in probes:
                reading |= probe()
            try:
                self._record(reading)
            except ResearchEvalError as error:
                self._complain(f"system metrics end here: {error}")
                return

    def _probes(self) -> list[Probe]:
        probes: list[Probe] = []
        try:
            probes.append(cpu_probe())
        except ImportError:
            self._complain(MISSING_PSUTIL)
        try:
            probes += gpu_probes()
        except OSError as error:
            self._complain(f"GPUs are not recorded: {error}")
        return probes


def cpu_probe() -> Probe:
    """Return a function that reads the machine's and this process's use of CPU and memory.

    Raises:
        ImportError: If psutil is not installed.
    """
    import psutil  # noqa: PLC0415 - an extra, and 15 ms that the start of a run need not wait for

    process = psutil.Process()
    cores = psutil.cpu_count() or 1
    # Shares are over the time since the last call, which is on the same thread by psutil's rule.
    psutil.cpu_percent()
    process.cpu_percent()

    def read() -> Reading:
        memory = psutil.virtual_memory()
        return {
            "sys/cpu_percent": psutil.cpu_percent(),
            "sys/memory_percent": memory.percent,
            "sys/process_cpu_percent": process.cpu_percent() / cores,
            "sys/process_memory_mb": process.memory_info().rss / 2**20,
        }

    return read


def gpu_probes() -> list[Probe]:
    """Return a function for every NVIDIA GPU that this process may use; none without a driver.

    Raises:
        OSError: If there is a driver that cannot be asked, or a GPU that it does not know.
    """
    handles = enumerate(_handles())
    return [_gpu_probe(pynvml, handle, f"sys/gpu{n}") for n, (pynvml, handle) in handles]


def gpu_names() -> list[str]:
    """Return the models of the GPUs that this process may use.

    Raises:
        OSError: As `gpu_probes` does.
    """
    return [pynvml.nvmlDeviceGetName(handle) for pynvml, handle in _handles()]


def free_gpu_memory() -> list[int]:
    """Return the free bytes of the GPUs that this process may use; none without a driver.

    Raises:
        OSError: As `gpu_probes` does.
    """
    return [pynvml.nvmlDeviceGetMemoryInfo(handle).free for pynvml, handle in _handles()]


def _handles() -> list[tuple[Any, Any]]:
    """Return the library and its handle of every visible GPU."""
    try:
        import pynvml  # noqa: PLC0415 - an extra
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return []
    except pynvml.NVMLError as error:
        raise OSError(str(error)) from error
    try:
        names = visible_gpus(pynvml.nvmlDeviceGetCount())
        return [(pynvml, _handle(pynvml, name)) for name in names]
    except pynvml.NVMLError as error:
        raise OSError(f"{error} (CUDA_VISIBLE_DEVICES={os.environ.get(VISIBLE)})") from error


def visible_gpus(count: int) -> list[str]:
    """Return the indices or UUIDs of the GPUs that CUDA would number from 0.

    Args:
        count: How many the machine has.
    """
    named = os.environ.get(VISIBLE)
    if named is None:
        return [str(index) for index in range(count)]
    return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]


def _handle(pynvml: Any, name: str) -> Any:
    if name.isdecimal():
        return pynvml.nvmlDeviceGetHandleByIndex(int(name))
    return pynvml.nvmlDeviceGetHandleByUUID(name)


def _gpu_probe(pynvml: Any, handle: Any, prefix: str) -> Probe:
    readings: dict[str, Callable[[], float]] = {
        "utilization_percent": lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu,
        "memory_mb": lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).used / 2**20,
        "power_w": lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        "temperature_c": lambda: pynvml.nvmlDeviceGetTemperature(
            handle, pynvml.NVML_TEMPERATURE_GPU
        ),
    }

    def read() -> Reading:
        found: Reading = {}
        for name, value in readings.items():
            try:
                found[f"{prefix}_{name}"] = float(value())
            except pynvml.NVMLError:  # a slice of a GPU (MIG) has no utilization of its own
                continue
        return found

    return read

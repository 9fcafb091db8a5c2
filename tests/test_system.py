"""What the machine does is read in the background, and what cannot be read is said."""

# ruff: noqa: N801, N802, N818 - the names are NVML's

import sys
import threading
from types import SimpleNamespace

import pytest

from research_eval import system
from research_eval.errors import StoreError
from research_eval.system import SystemSampler


def readings_of(number, **options):
    """Return so many readings, and what the sampler complained of."""
    found, told, enough = [], [], threading.Event()

    def record(reading):
        found.append(reading)
        if len(found) == number:
            enough.set()

    with SystemSampler(record, interval_s=0.01, complain=told.append, **options):
        assert enough.wait(30)
    return found, told


def test_cpu_and_memory():
    found, told = readings_of(3)
    assert told == []
    last = found[-1]
    assert last.keys() == {
        "sys/cpu_percent",
        "sys/memory_percent",
        "sys/process_cpu_percent",
        "sys/process_memory_mb",
    }
    assert 0 < last["sys/memory_percent"] <= 100
    assert 20 < last["sys/process_memory_mb"] < 100_000
    assert 0 <= last["sys/process_cpu_percent"] <= 110


def test_without_psutil_the_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    told = []
    sampler = SystemSampler(pytest.fail, interval_s=0.01, complain=told.append)
    sampler.start()
    sampler._thread.join(30)
    assert not sampler._thread.is_alive()
    assert "pip install 'research-eval[train]'" in told[0]


def test_a_recorder_that_refuses_ends_it():
    told, ended = [], threading.Event()

    def refuse(_reading):
        raise StoreError("the run was deleted")

    def complain(problem):
        told.append(problem)
        ended.set()

    with SystemSampler(refuse, interval_s=0.01, complain=complain):
        assert ended.wait(30)
    assert told == ["system metrics end here: the run was deleted"]


class FakeNvml(SimpleNamespace):
    """NVML of a machine with three GPUs, of which one is a slice; no test machine has any."""

    class NVMLError(Exception):
        pass

    class NVMLError_LibraryNotFound(NVMLError):
        pass

    class NVMLError_DriverNotLoaded(NVMLError):
        pass

    NVML_TEMPERATURE_GPU = 0

    def nvmlInit(self):
        pass

    def nvmlDeviceGetCount(self):
        return 3

    def nvmlDeviceGetHandleByIndex(self, index):
        if index >= 3:
            raise self.NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return {"GPU-two": 2}[uuid]

    def nvmlDeviceGetName(self, handle):
        return f"model {handle}"

    def nvmlDeviceGetUtilizationRates(self, handle):
        if handle == 2:
            raise self.NVMLError("Not Supported")
        return SimpleNamespace(gpu=40 + handle)

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(used=2**20 * (handle + 1), free=2**30 * (10 - handle))

    def nvmlDeviceGetPowerUsage(self, _handle):
        return 250_000

    def nvmlDeviceGetTemperature(self, _handle, _kind):
        return 60


@pytest.fixture
def nvml(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("nvml")
def test_gpus_are_numbered_as_the_process_sees_them(monkeypatch):
    assert system.gpu_names() == ["model 0", "model 1", "model 2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-two, 1")
    assert system.gpu_names() == ["model 2", "model 1"]
    assert system.free_gpu_memory() == [8 * 2**30, 9 * 2**30]
    slice_, whole = (probe() for probe in system.gpu_probes())
    assert slice_ == {
        "sys/gpu0_memory_mb": 3,
        "sys/gpu0_power_w": 250,
        "sys/gpu0_temperature_c": 60,
    }
    assert whole["sys/gpu1_utilization_percent"] == 41
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert system.gpu_probes() == []


@pytest.mark.usefixtures("nvml")
def test_a_gpu_that_is_not_there_is_said_and_the_rest_is_read(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    found, told = readings_of(1)
    assert "sys/cpu_percent" in found[0]
    assert told == ["GPUs are not recorded: Invalid Argument (CUDA_VISIBLE_DEVICES=7)"]

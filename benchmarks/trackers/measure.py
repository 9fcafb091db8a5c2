"""One measurement of one tracker, as JSON on the last line. `tracking.py` calls it.

PYTHON measure.py TRACKER TASK FOLDER SIZE
"""

from __future__ import annotations

import json
import mmap
import os
import statistics
import struct
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from drivers import DRIVERS

NAMES = 10
LIMIT_S = 20.0
"""A tracker that is slower is stopped there and judged by what it did."""


def log(driver: Any, folder: Path, steps: int) -> dict[str, float]:
    """Latency of `log` of 10 metrics, points/s including the end of the run, bytes per point."""
    driver.start("run", 0)
    values = {f"m{i}": i / 3 for i in range(NAMES)}
    taken: list[float] = []
    began = time.perf_counter()
    for step in range(steps):
        values["m0"] = step / 7
        before = time.perf_counter()
        driver.log(values, step)
        after = time.perf_counter()
        taken.append(after - before)
        if after - began > LIMIT_S:
            break
    driver.finish()
    total = time.perf_counter() - began
    points, taken = len(taken) * NAMES, sorted(taken)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {
        "log p50 us": taken[len(taken) // 2] * 1e6,
        "log p99 us": taken[int(len(taken) * 0.99)] * 1e6,
        "points/s": points / total,
        "bytes/point": size / points,
    }


def victim(driver: Any, folder: Path, name: int) -> None:
    """Log until killed; the number of acknowledged calls stands in a file that survives."""
    file = folder / f"acknowledged-{name}"
    file.write_bytes(bytes(8))
    with file.open("r+b") as opened:
        shared = mmap.mmap(opened.fileno(), 8)
    driver.start(f"run-{name}", 0)
    values = {f"m{i}": i / 3 for i in range(NAMES)}
    print("started", flush=True)
    for step in range(10**9):
        driver.log(values, step)
        struct.pack_into("<q", shared, 0, step + 1)


def lost(driver: Any, folder: Path, kills: int) -> dict[str, float]:
    """Acknowledged calls that cannot be read back after the process was killed."""
    missing = acknowledged = 0
    for name in range(kills):
        (calls,) = struct.unpack("<q", (folder / f"acknowledged-{name}").read_bytes())
        acknowledged += calls
        missing += max(0, calls - driver.count(f"run-{name}"))
    return {"lost calls": missing, "of acknowledged": acknowledged}


def crowd(driver: Any, _folder: Path, steps: int) -> dict[str, float]:
    """One of several processes that record at the same time into one place."""
    driver.start(f"run-{os.getpid()}", 0)
    values = {f"m{i}": i / 3 for i in range(NAMES)}
    began = time.time()
    done = 0
    for step in range(steps):
        driver.log(values, step)
        done = step + 1
        if time.time() - began > LIMIT_S:
            break
    driver.finish()
    return {"began": began, "ended": time.time(), "points": done * NAMES}


def fill(driver: Any, _folder: Path, runs: int) -> dict[str, float]:
    """Record runs with 20 metrics, the parameter p going from 0 to 9 again and again."""
    for number in range(runs):
        driver.start(f"run-{number}", number % 10)
        driver.log({f"m{i}": float(i) for i in range(20)}, 1)
        driver.finish()
    return {}


def some(driver: Any, _folder: Path, runs: int) -> dict[str, float]:
    """Choose a tenth of the runs by a parameter, with their metrics, warm."""
    assert driver.chosen(3) == runs // 10
    return {f"list {runs // 10} of {runs} ms": median_ms(lambda: driver.chosen(3))}


def all_runs(driver: Any, _folder: Path, runs: int) -> dict[str, float]:
    """List all runs with 20 metrics, warm."""
    assert driver.chosen(None) == runs
    return {f"list {runs} x 20 ms": median_ms(lambda: driver.chosen(None))}


def write_long(driver: Any, _folder: Path, points: int) -> dict[str, float]:
    """Record one long metric."""
    driver.start("long", 0)
    for step in range(points):
        driver.log({"m0": step / 3}, step)
    driver.finish()
    return {}


def read_long(driver: Any, _folder: Path, points: int) -> dict[str, float]:
    """Read one long metric as arrays, warm."""
    assert driver.history("long") == points
    return {f"read {points} ms": median_ms(lambda: driver.history("long"))}


def median_ms(read: Callable[[], object]) -> float:
    taken = []
    for _ in range(5):
        before = time.perf_counter()
        read()
        taken.append(time.perf_counter() - before)
    return statistics.median(taken) * 1000


TASKS = {
    task.__name__: task
    for task in (log, victim, lost, crowd, fill, some, all_runs, write_long, read_long)
}


def main() -> None:
    name, task, folder, size = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    kind = DRIVERS[name]
    if task == "version":
        print(json.dumps({"version": version(kind.package), "module": kind.module}))
        return
    print(json.dumps(TASKS[task](kind(folder), folder, size)))


if __name__ == "__main__":
    main()

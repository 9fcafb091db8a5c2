"""How long reading takes: the listing of 1,000 runs x 20 metrics, and 100,000 points of a metric.

    python benchmarks/store_read.py

Prints the median of 11 readings from a warm process, on a store made in a temporary folder.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.testing.runs import new_run, record


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Store.open(Path(folder, "runs.db"), create=True) as store,
    ):
        for number in range(1000):
            record(store, f"run-{number}", {f"metric_{i}": float(i) for i in range(20)})
        writer = store.start(new_run("long"))
        started = time.perf_counter()
        for step in range(100_000):
            writer.log({"loss": 1.0 / (step + 1)}, step=step)
        logged = time.perf_counter()
        writer.finish(RunStatus.COMPLETED)
        print(f"log() of one metric          {(logged - started) * 10:8.1f} us")
        print(f"points/s including finish    {100_000 / (time.perf_counter() - started):8.0f}")
        show("list 10 of 1,001 runs", lambda: store.runs(limit=10))
        show("list all runs, 20 metrics", store.runs)
        show("history of 100,000 points", lambda: store.history("long", "loss"))


def show(what: str, read: Callable[[], object]) -> None:
    taken = []
    for _ in range(11):
        started = time.perf_counter()
        read()
        taken.append(time.perf_counter() - started)
    print(f"{what:28} {statistics.median(taken) * 1000:8.1f} ms")


if __name__ == "__main__":
    main()

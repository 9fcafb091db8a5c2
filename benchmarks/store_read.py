"""How long reading takes: lists of runs with 20 metrics, and a metric of 100,000 points.

    python benchmarks/store_read.py

Prints median and minimum of 11 readings from a warm process, on stores made in a temporary folder.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.testing.runs import new_run, record


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        with filled(Path(folder, "small.db"), 100) as store:
            by_param, above = "-model_params.top_k", "model_params.top_k >= 8"
            show("list 10 of 100 runs, sorted", lambda: store.runs(sort=by_param, limit=10))
            show("list 10 of 100 runs, filtered", lambda: store.runs(filter=above, limit=10))
        with filled(Path(folder, "large.db"), 1000) as store:
            writer = store.start(new_run("long"))
            for step in range(100_000):
                writer.log({"loss": 1.0 / (step + 1)}, step=step)
            writer.finish(RunStatus.COMPLETED)
            show("list 10 of 1,001 runs", lambda: store.runs(limit=10))
            show("list all runs, 20 metrics", store.runs)
            show("history of 100,000 points", lambda: store.history("long", "loss"))
            show("1,000 buckets of 100,000", lambda: store.series("long", "loss"))
            cursor = store.series("long", "loss").cursor
            show("nothing new since", lambda: store.series("long", "loss", since=cursor))


def filled(path: Path, num_runs: int) -> Store:
    store = Store.open(path, create=True)
    for number in range(num_runs):
        config = json.dumps({"model_params": {"top_k": number % 16}})
        metrics = {f"metric_{i}": float(i) for i in range(20)}
        record(store, f"run-{number}", metrics, full_config_json=config)
    return store


def show(what: str, read: Callable[[], object]) -> None:
    taken = []
    for _ in range(11):
        started = time.perf_counter()
        read()
        taken.append((time.perf_counter() - started) * 1000)
    print(f"{what:30} {statistics.median(taken):8.1f} ms, {min(taken):.1f} at best")


if __name__ == "__main__":
    main()

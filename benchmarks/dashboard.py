"""What the dashboard costs at 1,000 runs, with a real browser.

    python benchmarks/dashboard.py

The first page lists 1,000 runs and draws ten curves over each other: two of 100,000 points, eight
of 10,000. CPU times come from the processes themselves, so that other work on the machine
disturbs them less than the clock. The delta poll asks for what ten live runs have recorded since;
each has one new point.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote, urlsplit

from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.testing.crowd import CURVE, fill_crowd
from research_eval.testing.runs import new_run

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "dashboard"))
from browser import find_chromium, started

LOADS = 5
POLLS = 100
CURVES = [100_000, 100_000, *[10_000] * 8]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder, "large.db")
        with Store.open(large, create=True) as store:
            fill_crowd(store, 1000, CURVES)
        by_clock, cpu_times = zip(*(start(large) for _ in range(LOADS)), strict=True)
        show("start to first answer", by_clock, "ms by the clock")
        show("start to first answer", cpu_times, "ms of CPU")
        with served(large) as (address, process):
            pages(address, process)
            ask("list of 1,000 runs", address, process, "/api/v1/runs?limit=5000")
            with Store.open(large, mode="ro") as store:
                ids = [run.experiment_id for run in store.runs(limit=len(CURVES), metrics=())]
            runs = "&".join(f"run={quote(name)}" for name in ids)
            ask("overlay of 10 curves", address, process, f"/api/v1/series?metric={CURVE}&{runs}")
        polls(Path(folder, "live.db"))


@contextmanager
def served(file: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "research_eval", "dashboard", "--db", str(file), "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        yield process.stdout.readline().strip(), process
        process.terminate()


def start(file: Path) -> tuple[float, float]:
    """Return milliseconds from the command to its first answer, by the clock and of CPU."""
    began = time.perf_counter()
    with served(file) as (address, process):
        get(address, "/runs")
        return (time.perf_counter() - began) * 1000, cpu(process) * 1000


def get(address: str, path: str) -> bytes:
    with connected(address) as connection:
        connection.request("GET", path)
        return connection.getresponse().read()


def connected(address: str) -> closing[HTTPConnection]:
    return closing(HTTPConnection(urlsplit(address).netloc))


def cpu(process: subprocess.Popen[str]) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def pages(address: str, process: subprocess.Popen[str]) -> None:
    programs = find_chromium()
    if programs is None:
        print("no Chromium: the page itself is not measured", file=sys.stderr)
        return
    found: dict[str, list[float]] = {}
    for _ in range(LOADS):
        with started(programs) as browser:
            for unit, value in load(browser, address, process).items():
                found.setdefault(unit, []).append(value)
    for unit, values in found.items():
        show("first page, 1,000 runs, 10 curves", values, unit)


def load(browser, address: str, process: subprocess.Popen[str]) -> dict[str, float]:
    """Open the page in a fresh browser and return what it cost until it came to rest."""
    browser.driver.execute_cdp_cmd("Performance.enable", {})
    before = cpu(process)
    browser.open(f"{address}runs", until=".u-over")
    browser.until(lambda: "280,000 points" in browser.texts(".note")[0])
    time.sleep(1)
    traffic = browser.traffic()
    return {
        "requests": len(traffic.urls),
        "kB": traffic.bytes / 1000,
        "ms of server CPU": (cpu(process) - before) * 1000,
        "ms of renderer CPU": renderer(browser) * 1000,
    }


def renderer(browser) -> float:
    """Return the seconds that the main thread of the page has worked since it was opened."""
    metrics = browser.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(each["value"] for each in metrics if each["name"] == "TaskDuration")


def ask(what: str, address: str, process: subprocess.Popen[str], path: str) -> None:
    get(address, path)
    before = cpu(process)
    for _ in range(POLLS):
        get(address, path)
    show(what, [(cpu(process) - before) / POLLS * 1000], "ms of server CPU")


def polls(file: Path) -> None:
    with Store.open(file, create=True) as store:
        runs = [store.start(new_run(f"live-{number}")) for number in range(10)]
        step = 0
        for step in range(5000):
            for run in runs:
                run.log({CURVE: 1.0 / (step + 1)}, step=step)
        for run in runs:
            run.flush()
        with served(file) as (address, process), connected(address) as connection:
            cursors = first_cursors(address)
            taken = 0.0
            for _ in range(POLLS):
                step += 1
                for run in runs:
                    run.log({CURVE: 0.5}, step=step)
                    run.flush()
                since = "&".join(f"since={quote(f'{n}:{c}')}" for n, c in cursors.items())
                before = cpu(process)
                connection.request("GET", f"/api/v1/series/later?metric={CURVE}&{since}")
                body = connection.getresponse().read()
                taken += cpu(process) - before
                news = json.loads(body)["runs"]
                cursors |= {name: each["cursor"] for name, each in news.items()}
            show("delta poll of 10 live runs", [taken / POLLS * 1000], "ms of server CPU")
        for run in runs:
            run.finish(RunStatus.COMPLETED)


def first_cursors(address: str) -> dict[str, str]:
    runs = "&".join(f"run=live-{number}" for number in range(10))
    found = json.loads(get(address, f"/api/v1/series?metric={CURVE}&{runs}"))
    return {curve["id"]: curve["cursor"] for curve in found["metrics"][0]["curves"]}


def show(what: str, values: Sequence[float], unit: str) -> None:
    least = f", {min(values):.4g} at best" if len(values) > 1 else ""
    print(f"{what:36} {statistics.median(values):8.4g} {unit}{least}", flush=True)


if __name__ == "__main__":
    main()

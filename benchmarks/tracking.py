"""Recording and reading beside the trackers that people use, in one run on one machine.

    python benchmarks/tracking.py --quick                       # half a minute, only ours
    python benchmarks/tracking.py --peers all --cache ~/.cache/trackers --save FILE.json

Every tracker runs in an environment of its own, `CACHE/NAME`, which is made with `venv` and `pip`
if it is missing. A tracker that cannot be installed, or does not finish a task, is said and left
out of that row. Each measurement is a process of its own in a folder of its own; of a latency the
median of `--repeats` processes counts. Run it on a quiet machine: on a busy one the p99 is that of
the neighbours.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "trackers"))
from drivers import DRIVERS, NEEDS

MEASURE = Path(__file__).resolve().parent / "trackers" / "measure.py"
OURS = "research-eval"
TIMEOUT_S = 300
Row = dict[str, float]


@dataclass(frozen=True)
class Sizes:
    """How much is recorded and read."""

    steps: int
    kills: int
    crowd_steps: int
    some: int
    all: int
    long: int
    repeats: int


FULL = Sizes(100_000, 20, 5_000, 100, 1_000, 100_000, 5)
QUICK = Sizes(5_000, 2, 500, 20, 50, 5_000, 1)


@dataclass(frozen=True)
class Tracker:
    """A tracker and the Python that has it."""

    name: str
    python: str

    def call(self, task: str, folder: Path, size: int) -> Row:
        done = subprocess.run(
            self.command(task, folder, size),
            cwd=folder,  # some trackers write into the checkout that they are started in
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
        found: Row = json.loads(done.stdout.strip().splitlines()[-1])
        return found

    def command(self, task: str, folder: Path, size: int) -> list[str]:
        return [self.python, str(MEASURE), self.name, task, str(folder), str(size)]

    def has(self, method: str) -> bool:
        return hasattr(DRIVERS[self.name], method)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--peers", default="", help="names with commas, or 'all'")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "trackers")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--repeats", type=int, help="processes per latency")
    parser.add_argument("--save", type=Path, help="write the numbers as JSON")
    asked = parser.parse_args()
    sizes = QUICK if asked.quick else FULL
    repeats = asked.repeats or sizes.repeats
    peers = [name for name in DRIVERS if name != OURS] if asked.peers == "all" else asked.peers
    names = peers.split(",") if isinstance(peers, str) else peers
    results: dict[str, dict[str, Any]] = {}
    for name in [OURS, *filter(None, names)]:
        tracker = installed(name, asked.cache)
        if tracker is not None:
            results[name] = measured(tracker, sizes, repeats)
    show(results)
    if asked.save:
        asked.save.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def installed(name: str, cache: Path) -> Tracker | None:
    """Return a tracker with its environment, making that if need be; None if it cannot be had."""
    if name == OURS:
        return Tracker(name, sys.executable)
    if name not in DRIVERS:
        raise SystemExit(f"there is no driver for '{name}'; known: {', '.join(DRIVERS)}")
    python = cache.resolve() / name / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(cache / name)], check=True)
        tracker = Tracker(name, str(python))
        if subprocess.run(tracker.command("version", cache, 0), capture_output=True).returncode:
            packages = NEEDS.get(name, (name,))
            subprocess.run([str(python), "-m", "pip", "-q", "install", *packages], check=True)
    except subprocess.CalledProcessError as error:
        print(f"{name}: left out, it cannot be installed: {error}")
        return None
    return tracker


def measured(tracker: Tracker, sizes: Sizes, repeats: int) -> dict[str, Any]:
    print(f"{tracker.name} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, Any] = tracker.call("version", folder, 0)
        module = found.pop("module")
        parts = {
            "log": lambda: medians(tracker, folder, sizes.steps, repeats),
            "kill": lambda: killed(tracker, fresh(folder), sizes.kills),
            "crowd": lambda: crowded(tracker, fresh(folder), sizes.crowd_steps),
            "some": lambda: read(tracker, fresh(folder), "fill", "some", sizes.some),
            "all": lambda: read(tracker, fresh(folder), "fill", "all_runs", sizes.all),
            "long": lambda: read(tracker, fresh(folder), "write_long", "read_long", sizes.long),
            "import": lambda: imported(tracker, module),
        }
        for part, measure in parts.items():
            try:
                found |= measure()
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                print(f"{tracker.name}: no figure for '{part}': {error}", file=sys.stderr)
    return found


def fresh(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))


def medians(tracker: Tracker, folder: Path, steps: int, repeats: int) -> Row:
    rows = [tracker.call("log", fresh(folder), steps) for _ in range(repeats)]
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def killed(tracker: Tracker, folder: Path, kills: int) -> Row:
    """Kill -9 at random times of the first two seconds."""
    if not tracker.has("count"):
        return {}
    rng = random.Random(0)
    for number in range(kills):
        command = tracker.command("victim", folder, number)
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == b"started":
                break
        time.sleep(rng.uniform(0.1, 2.0))
        process.kill()
        process.communicate()
    return tracker.call("lost", folder, kills)


def crowded(tracker: Tracker, folder: Path, steps: int) -> Row:
    """Eight processes into one place: points/s of all together, and how many failed."""
    processes = [
        subprocess.Popen(
            tracker.command("crowd", folder, steps),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(8)
    ]
    said = [process.communicate(timeout=TIMEOUT_S)[0] for process in processes]
    done = [json.loads(text.splitlines()[-1]) for text in said if text.strip().endswith("}")]
    failed = sum(1 for process in processes if process.returncode)
    if not done:
        return {"8 processes: failed": failed}
    seconds = max(row["ended"] for row in done) - min(row["began"] for row in done)
    total = sum(row["points"] for row in done)
    return {"8 processes: points/s": total / seconds, "8 processes: failed": failed}


def read(tracker: Tracker, folder: Path, writes: str, reads: str, size: int) -> Row:
    if not tracker.has("history" if reads == "read_long" else "chosen"):
        return {}
    tracker.call(writes, folder, size)
    return tracker.call(reads, folder, size)


def imported(tracker: Tracker, module: str) -> Row:
    """Seconds to import it, over a bare Python: the median of 5."""

    def seconds(code: str) -> float:
        taken = []
        for _ in range(5):
            before = time.perf_counter()
            subprocess.run([tracker.python, "-c", code], check=True, capture_output=True)
            taken.append(time.perf_counter() - before)
        return statistics.median(taken)

    return {"import ms": 1000 * (seconds(f"import {module}") - seconds("pass"))}


def show(results: dict[str, dict[str, Any]]) -> None:
    """Print a table, and how often ours goes into each: above 1 theirs is the larger number."""
    ours = results[OURS]
    print(f"{'':24}" + "".join(f"{name:>26}" for name in results))
    for row in ours:
        cells = []
        for name, found in results.items():
            value = found.get(row)
            if not isinstance(value, int | float):
                cells.append(f"{value or '-':>26}")
                continue
            ratio = f" ({value / ours[row]:.2g}x)" if name != OURS and ours[row] else ""
            cells.append(f"{f'{value:,.1f}{ratio}':>26}")
        print(f"{row:24}" + "".join(cells))


if __name__ == "__main__":
    main()

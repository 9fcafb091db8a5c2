"""What a trial costs beside its training: ours beside plain Optuna, in one run on one machine.

    python benchmarks/hpo.py --quick                   # a minute, to see that it works
    python benchmarks/hpo.py --save FILE.json          # quarter of an hour on a quiet machine

Trials are calls of a function of ten parameters that does nothing, so all that is measured is
bookkeeping. Beside ours stand Optuna on its SQLite storage, on the same in WAL mode without a
sync per commit, on its journal file, and in memory, which keeps nothing and is the floor. Each
measurement is a process of its own in a folder of its own; systems take turns, and the median of
`--repeats` counts. Syncs are counted by strace in a run apart, since it slows everything down;
where it is not installed, that is said. With workers, ours makes a process for each trial;
Optuna's are processes that share the storage from the first trial to the last.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYSTEMS = ("research-eval", "sqlite", "sqlite-wal", "journal", "memory")
TIMEOUT_S = 1800
SYNCS = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+).*\b(?:fsync|fdatasync)$", re.MULTILINE)

FLOATS = [f"x{i}" for i in range(5)]
WHOLES = [f"n{i}" for i in range(3)]
OPTIONS = ["c0", "c1"]


@dataclass(frozen=True)
class Task:
    """What is measured."""

    name: str
    sampler: str
    reports: int
    workers: int
    trials: int
    quick_trials: int
    systems: tuple[str, ...] = SYSTEMS


TASKS = (
    Task("random, no reports", "random", 0, 0, 500, 20),
    Task("tpe, no reports", "tpe", 0, 0, 500, 20),
    Task("random, 100 reports", "random", 100, 0, 50, 3),
    Task("random, 2 workers", "random", 0, 2, 200, 6, SYSTEMS[:4]),
)


# --------------------------------------------------------------------------- in a process apart


def ours(task: Task, trials: int, folder: Path) -> None:
    """Carry out a study of ours."""
    from research_eval import optimize
    from research_eval.knobs import Choice, LogUniform, Uniform

    space = {name: LogUniform(1e-4, 1e-1) for name in FLOATS}
    space |= {name: Uniform(1, 16) for name in WHOLES}
    space |= {name: Choice("a", "b", "c") for name in OPTIONS}
    result = optimize(
        objective=empty_with_reports if task.reports else empty,
        space=space,
        sampler=task.sampler,
        pruner="none",
        n_trials=trials,
        db=folder / "study.db",
        workers=task.workers or None,
    )
    assert result.standing.finished == trials


def empty(trial: Any) -> float:
    """Return a value at once."""
    return float(trial.params["x0"])


def empty_with_reports(trial: Any) -> float:
    """Return a value after a hundred reports."""
    for step in range(100):
        trial.report(step, float(step))
    return float(trial.params["x0"])


def optunas(system: str, task: Task, trials: int, folder: Path) -> None:
    """Carry out a share of a study of Optuna's."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
        "random": optuna.samplers.RandomSampler,
        "tpe": lambda: optuna.samplers.TPESampler(multivariate=True),
    }
    study = optuna.create_study(
        study_name="s",
        storage=storage_of(system, folder),
        sampler=samplers[task.sampler](),
        pruner=optuna.pruners.NopPruner(),
        load_if_exists=True,
    )

    def objective(trial: optuna.Trial) -> float:
        values = [trial.suggest_float(name, 1e-4, 1e-1, log=True) for name in FLOATS]
        for name in WHOLES:
            trial.suggest_int(name, 1, 16)
        for name in OPTIONS:
            trial.suggest_categorical(name, ("a", "b", "c"))
        for step in range(task.reports):
            trial.report(float(step), step)
        return values[0]

    study.optimize(objective, n_trials=trials)


def storage_of(system: str, folder: Path) -> Any:
    """Return one of Optuna's storages."""
    import optuna
    import sqlalchemy

    if system == "memory":
        return None
    if system == "journal":
        backend = optuna.storages.journal.JournalFileBackend(str(folder / "journal.log"))
        return optuna.storages.JournalStorage(backend)
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'optuna.db'}")
    if system == "sqlite-wal":

        def tune(connection: Any, _record: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

        storage.engine.dispose()
        sqlalchemy.event.listen(storage.engine, "connect", tune)
    return storage


def in_child(system: str, task: Task, trials: int, folder: Path) -> None:
    """Carry out a study and print how long it took, without the imports."""
    import optuna  # noqa: F401 - both need it, so neither is charged for it

    import research_eval.hpo.study  # noqa: F401

    begun = time.perf_counter()
    if system == "research-eval":
        ours(task, trials, folder)
    else:
        optunas(system, task, trials, folder)
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime
    print(json.dumps({"seconds": time.perf_counter() - begun, "cpu": cpu}))


# ------------------------------------------------------------------------------ in the parent


def call(system: str, task: Task, trials: int, folder: Path) -> list[str]:
    """Return the command of a process apart."""
    words = [sys.executable, __file__, "--child", system, task.name, str(trials), str(folder)]
    return [*words]


def timed(system: str, task: Task, trials: int) -> float:
    """Return the seconds that a study takes."""
    with tempfile.TemporaryDirectory() as name:
        if system == "research-eval" or not task.workers:
            return float(spoken(call(system, task, trials, Path(name)))["seconds"])
        if system != "memory":  # the tables are made once: starting together fails
            spoken(call(system, task, 1, Path(name)))
        each = trials // task.workers
        command = call(system, task, each, Path(name))
        processes = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            for _ in range(task.workers)
        ]
        said = [process.communicate(timeout=TIMEOUT_S)[0] for process in processes]
        return max(float(json.loads(text.splitlines()[-1])["seconds"]) for text in said)


def spoken(command: list[str]) -> dict[str, float]:
    """Return what a process printed last."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def synced(system: str, task: Task, trials: int) -> float | None:
    """Return the syncs of a trial, without those of opening and closing; None without strace."""
    if shutil.which("strace") is None:
        return None
    more = counted(system, task, trials) - counted(system, task, 1)
    return more / (trials - 1)


def counted(system: str, task: Task, trials: int) -> int:
    """Return the syncs of a whole study, as strace counts them."""
    with tempfile.TemporaryDirectory() as name:
        counts = Path(name) / "strace"
        strace = ["strace", "-f", "-c", "-o", str(counts), "-e", "trace=fsync,fdatasync"]
        spoken([*strace, *call(system, task, trials, Path(name))])
        return sum(map(int, SYNCS.findall(counts.read_text())))


def measured(task: Task, *, quick: bool, repeats: int) -> dict[str, dict[str, float | None]]:
    """Return trials per second, milliseconds and syncs of a trial, by system."""
    trials = task.quick_trials if quick else task.trials
    seconds: dict[str, list[float]] = {system: [] for system in task.systems}
    for _ in range(repeats):
        for system in task.systems:
            seconds[system].append(timed(system, task, trials))
    return {
        system: {
            "trials": trials,
            "per_second": trials / statistics.median(found),
            "milliseconds": 1000 * statistics.median(found) / trials,
            "syncs": None if task.workers else synced(system, task, min(trials, 50)),
        }
        for system, found in seconds.items()
    }


def show(task: Task, rows: dict[str, dict[str, float | None]]) -> None:
    """Print a table."""
    print(f"\n{task.name}")
    print(f"{'':16}{'trials/s':>10}{'ms/trial':>10}{'syncs/trial':>13}")
    for system, row in rows.items():
        syncs = "-" if row["syncs"] is None else f"{row['syncs']:.2f}"
        print(f"{system:16}{row['per_second']:10.1f}{row['milliseconds']:10.1f}{syncs:>13}")


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few trials, to see that it works")
    parser.add_argument("--repeats", type=int, help="studies per figure; 3 by default")
    parser.add_argument("--save", type=Path, help="write the numbers as JSON")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        system, name, trials, folder = asked.child
        task = next(task for task in TASKS if task.name == name)
        in_child(system, task, int(trials), Path(folder))
        return
    if shutil.which("strace") is None:
        print("syncs are not counted: strace is not installed")
    results = {}
    for task in TASKS:
        repeats = asked.repeats or (1 if asked.quick else 3)
        results[task.name] = measured(task, quick=asked.quick, repeats=repeats)
        show(task, results[task.name])
    if asked.save:
        asked.save.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

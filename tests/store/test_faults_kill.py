"""Processes that are killed while they record: nothing that was acknowledged is lost or doubled."""

import mmap
import random
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from contextlib import closing

import pytest

from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.testing.runs import record

VICTIM = """
import mmap, struct, sys
import numpy as np
from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.testing.runs import new_run
database, name, acknowledged, last = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
with open(acknowledged, "r+b") as file, Store.open(database) as store:
    shared = mmap.mmap(file.fileno(), 8)  # the kernel keeps it when the process is killed
    writer = store.start(new_run(name))
    print("started", flush=True)
    input()
    for step in range(last):
        if step % 100 == 0:
            writer.log_array("load", np.ones(4), layer=0, step=step)
        writer.log({f"m{i}": step for i in range(10)}, step=step)
        struct.pack_into("<q", shared, 0, step + 1)
    writer.finish(RunStatus.COMPLETED)
"""
FOREVER = 10**9


class Victim:
    """A process that records until it is killed, and says what was acknowledged."""

    def __init__(self, path, name, last=FOREVER):
        self.name = name
        self._file = path.with_name(f"{name}.acknowledged")
        self._file.write_bytes(bytes(8))
        arguments = [str(path), name, str(self._file), str(last)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", VICTIM, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_for_start(self):
        assert self.process.stdout.readline() == "started\n"

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        self.close()

    def close(self):
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def acknowledged(self):
        with self._file.open("r+b") as file, closing(mmap.mmap(file.fileno(), 8)) as shared:
            return struct.unpack_from("<q", shared)[0]


def check(store, victim):
    """Every acknowledged point is there once, and at most one call more."""
    run = store.run(victim.name)
    number = run.metrics["m0"].count if run.metrics else 0
    assert victim.acknowledged() <= number <= victim.acknowledged() + 1
    for name in ("m0", "m9") if number else ():
        assert run.metrics[name].count == number
        assert store.history(victim.name, name).steps.tolist() == list(range(number))
    arrays = [each.step for each in store.expert_stats(victim.name, "load")]
    expected = list(range(0, number, 100))
    assert arrays in (expected, [*expected, number])  # killed between array and points
    return number


def kill_at_random(path, seed, *, number, is_locked=False):
    """Kill processes that record into one file, at random times; return how much they recorded."""
    rng = random.Random(seed)
    Store.open(path, create=True).close()
    victims = [Victim(path, f"run-{i}") for i in range(number)]
    for victim in victims:
        victim.wait_for_start()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        if is_locked:
            other.execute("BEGIN IMMEDIATE")
        for victim in victims:
            victim.go()
        for victim in victims:
            time.sleep(rng.uniform(0.0, 0.08))
            victim.kill()
    with Store.open(path) as store:
        assert [run.status for run in store.runs()] == [RunStatus.LOST] * number
        recorded = [check(store, victim) for victim in victims]
        assert list(store.spool_root.iterdir()) == []
        assert store.waiting() == {}
    return recorded


@pytest.mark.parametrize("is_locked", [False, True])
def test_kill_9_loses_nothing_that_was_acknowledged(path, is_locked):
    recorded = kill_at_random(path, 0, number=3, is_locked=is_locked)
    assert sum(recorded) > 100
    with Store.open(path) as store:
        record(store, "next", {"m0": 1.0})
        store.resume("run-1", step=5).finish(RunStatus.COMPLETED)
        assert store.history("run-1", "m0").steps.tolist() == list(range(min(6, recorded[1])))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_kill_9_at_many_random_times(path, seed):
    kill_at_random(path, seed, number=4, is_locked=seed % 2 == 1)


def stop_and_go_on(path, *, steps):
    """Stop a process, keep the database locked and unlock it meanwhile, and let it go on."""
    Store.open(path, create=True).close()
    victim = Victim(path, "run-0", last=steps)
    victim.wait_for_start()
    victim.go()
    while victim.acknowledged() < steps // 10:
        time.sleep(0.001)
    victim.process.send_signal(signal.SIGSTOP)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        except sqlite3.OperationalError:
            pass  # it was stopped within a transaction
        victim.process.send_signal(signal.SIGCONT)
        victim.close()
    assert victim.process.returncode == 0
    with Store.open(path) as store:
        assert check(store, victim) == steps
        assert store.run("run-0").status is RunStatus.COMPLETED


def test_a_stopped_process_goes_on_where_it_was(path):
    stop_and_go_on(path, steps=3000)


@pytest.mark.slow
def test_eight_processes_fill_one_file_and_lose_nothing(path):
    Store.open(path, create=True).close()
    victims = [Victim(path, f"run-{i}", last=10_000) for i in range(8)]
    for victim in victims:
        victim.wait_for_start()
    for victim in victims:
        victim.go()
    for victim in victims:
        victim.close()
        assert victim.process.returncode == 0
    with Store.open(path) as store:
        assert {run.status for run in store.runs()} == {RunStatus.COMPLETED}
        assert [check(store, victim) for victim in victims] == [10_000] * 8

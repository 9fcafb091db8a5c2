"""What happens to a run when its database or its process is in trouble."""

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager

import pytest

from research_eval.errors import StoreError
from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.store import writer as writer_module
from research_eval.store.process import is_gone, process_key
from research_eval.testing.runs import new_run, record


@contextmanager
def locked(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def log_steps(writer, steps):
    for step in steps:
        writer.log({"m": step}, step=step)


def steps_of(store):
    return store.history("run-1", "m").steps.tolist()


def test_a_locked_database_delays_points_and_loses_none(path):
    with Store.open(path, create=True, busy_timeout=0.05) as store:
        writer = store.start(new_run())
        with locked(path):
            log_steps(writer, range(100))
            with pytest.raises(StoreError, match=r"is locked by another program.*100 records of"):
                writer.flush(timeout=0.1)
            with pytest.raises(StoreError, match="is locked by another program"):
                writer.finish(RunStatus.COMPLETED, timeout=0.1)
            with pytest.raises(StoreError, match="is locked by another program"):
                store.start(new_run("run-2"))
            assert store.run("run-1").status is RunStatus.RUNNING  # readers are not locked out
            log_steps(writer, range(100, 150))
        writer.finish(RunStatus.COMPLETED)
        assert steps_of(store) == list(range(150))
        assert store.run("run-1").metrics["m"].count == 150
        assert len(store.runs()) == 1


def test_finish_waits_for_a_database_that_is_locked_for_a_while(path):
    with Store.open(path, create=True, busy_timeout=0.01) as store:
        writer = store.start(new_run())
        log_steps(writer, range(10))
        finishing = threading.Thread(target=writer.finish, args=(RunStatus.COMPLETED,))
        with locked(path):
            finishing.start()
            finishing.join(0.1)
            assert finishing.is_alive()
        finishing.join()
        assert store.run("run-1").status is RunStatus.COMPLETED
        assert steps_of(store) == list(range(10))


def test_the_thread_goes_on_when_the_lock_is_gone_and_says_once_what_it_waits_for(path, caplog):
    with (
        caplog.at_level(logging.WARNING),
        Store.open(path, create=True, busy_timeout=0.01) as store,
    ):
        writer = store.start(new_run())
        with locked(path):
            log_steps(writer, range(3))
            wait_until(lambda: caplog.records)
        wait_until(lambda: "m" in store.run("run-1").metrics)
        assert steps_of(store) == [0, 1, 2]
    (warning,) = caplog.messages
    assert "3 records of run run-1 are not yet written and wait in memory" in warning


def test_a_full_disk_keeps_points_until_there_is_room(path):
    with Store.open(path, create=True) as store:
        writer = store.start(new_run())
        log_steps(writer, range(10))
        writer.flush()
        limit_pages(writer, 1)  # SQLite makes it the present size
        log_steps(writer, range(10, 5000))
        writer.log({"new": 1.0}, step=0)  # its key is undone together with the points
        with pytest.raises(StoreError, match=r"the disk is full; free some space.*wait in memory"):
            writer.flush()
        assert steps_of(store) == list(range(10))
        assert store.run("run-1").metrics["m"].count == 10
        limit_pages(writer, 2**30)
        writer.finish(RunStatus.COMPLETED)
        assert steps_of(store) == list(range(5000))
        assert store.run("run-1").metrics["m"].count == 5000
        assert store.history("run-1", "new").values.tolist() == [1.0]


def test_closing_on_a_full_disk_says_what_is_given_up(path):
    store = Store.open(path, create=True)
    writer = store.start(new_run())
    limit_pages(writer, 1)
    log_steps(writer, range(5000))
    with pytest.raises(StoreError, match="5000 records of run run-1 are not yet written"):
        store.close()
    assert not writer._thread.is_alive()


def limit_pages(writer, number):
    with writer._transaction:
        raw = writer._connection.connection.driver_connection
        raw.execute(f"PRAGMA max_page_count = {number}")


def test_a_deleted_run_stops_its_writer(store):
    writer = store.start(new_run())
    with store._writing() as connection:
        connection.exec_driver_sql("DELETE FROM experiments")
    log_steps(writer, [1])
    with pytest.raises(StoreError, match="run-1 was deleted"):
        writer.flush()
    with pytest.raises(StoreError, match="run-1 was deleted"):
        log_steps(writer, [2])


def test_no_thread_is_left_behind(path):
    before = threading.active_count()
    with Store.open(path, create=True) as store:
        record(store, "done", {})
        store.start(new_run("open"))
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_the_heart_beats_while_nothing_is_logged(store, monkeypatch):
    monkeypatch.setattr(writer_module, "HEARTBEAT_S", 0.0)
    store.start(new_run())
    started = store.run("run-1").heartbeat
    wait_until(lambda: store.run("run-1").heartbeat > started)


KILLED = """
import sys
from research_eval.store import Store
from research_eval.testing.runs import new_run
with Store.open(sys.argv[1], create=True) as store:
    writer = store.start(new_run())
    step = 0
    while True:
        for _ in range(100):
            writer.log({"m": step, "n": -step}, step=step)
            step += 1
        writer.flush()
        print(step, flush=True)
"""


def test_kill_9_leaves_every_flushed_point_and_a_run_that_reads_as_lost(path):
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(5):
        flushed = int(child.stdout.readline())
    with Store.open(path, mode="ro") as reader:
        assert reader.run("run-1").status is RunStatus.RUNNING
        child.send_signal(signal.SIGKILL)
        wait_until(lambda: reader.run("run-1").status is RunStatus.LOST)  # before it is waited for
    flushed = max([flushed, *map(int, child.stdout.read().split())])
    child.stdout.close()
    child.wait()
    with Store.open(path) as store:
        assert store.run("run-1").status is RunStatus.LOST
        steps = steps_of(store)
        assert len(steps) >= flushed
        assert steps == list(range(len(steps)))  # no hole
        assert store.run("run-1").metrics["m"].count == len(steps)
        record(store, "run-2", {"m": 1.0})
        store.resume("run-1", step=150).finish(RunStatus.COMPLETED)
        assert steps_of(store) == list(range(151))


def test_a_process_is_told_apart_from_a_later_one_of_its_number():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    key = process_key(child.pid)
    machine, _, start = key.rpartition(" ")
    assert not is_gone(child.pid, key)
    assert is_gone(os.getpid(), key)  # a living process, but another one
    assert not is_gone(child.pid, f"elsewhere {start}")  # cannot be told from here
    child.kill()
    wait_until(lambda: is_gone(child.pid, key))  # a zombie
    child.stdin.close()
    child.wait()
    assert is_gone(child.pid, key)
    assert machine == process_key(os.getpid()).rpartition(" ")[0]

"""What happens to a run when its database is in trouble."""

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager

import pytest

from research_eval.errors import StoreError
from research_eval.records import RunStatus
from research_eval.store import PendingError, Store
from research_eval.store import writer as writer_module
from research_eval.store.process import is_gone, owner_here, process_key
from research_eval.store.segments import segment_paths
from research_eval.store.spool import Spool
from research_eval.testing.runs import new_run, record, set_columns

from .conftest import run_together


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


def left_spool(path, number, *, run="run-1", attempt=1):
    """Leave a spool as a killed process does, with so many points."""
    spool = Spool(path.with_name(f"{path.name}.spool"), owner_here(run, attempt))
    log_steps(spool, range(number))
    spool.close()
    return spool.folder


def test_a_locked_database_delays_points_and_loses_none(path):
    with Store.open(path, create=True, busy_timeout=0.05) as store:
        writer = store.start(new_run())
        with locked(path):
            log_steps(writer, range(100))
            with pytest.raises(PendingError, match=r"is locked by another program.*100 records of"):
                writer.flush(timeout=0.1)
            with pytest.raises(StoreError, match="is locked by another program"):
                store.start(new_run("run-2"))
            assert store.run("run-1").status is RunStatus.RUNNING  # readers are not locked out
            assert store.waiting() == {"run-1": 100}
            log_steps(writer, range(100, 150))
            with pytest.raises(
                PendingError, match=r"151 records of run run-1 .* wait in .*\.spool"
            ):
                writer.finish(RunStatus.COMPLETED, timeout=0.1)
        writer.flush()
        assert store.run("run-1").status is RunStatus.COMPLETED
        assert steps_of(store) == list(range(150))
        assert store.run("run-1").metrics["m"].count == 150
        assert len(store.runs()) == 1


def test_what_a_bounded_finish_leaves_is_taken_in_by_the_next_opening(path):
    store = Store.open(path, create=True, busy_timeout=0.01)
    writer = store.start(new_run())
    with locked(path):
        log_steps(writer, range(10))
        with pytest.raises(PendingError, match="11 records of run run-1 are not yet in the"):
            writer.finish(RunStatus.COMPLETED, timeout=0.0)
        with pytest.raises(PendingError, match=r"is locked by another program.* 11 rec"):
            store.close()
    with Store.open(path) as again:
        assert again.run("run-1").status is RunStatus.COMPLETED
        assert steps_of(again) == list(range(10))
    assert list(again.spool_root.iterdir()) == []


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
    assert "3 records of run run-1 are not yet in the database" in warning


def test_a_full_database_keeps_points_until_there_is_room(path):
    with Store.open(path, create=True) as store:
        writer = store.start(new_run())
        log_steps(writer, range(10))
        writer.flush()
        with full(writer):
            log_steps(writer, range(10, 5000))
            writer.log({"new": 1.0}, step=0)  # its key is undone together with the points
            with pytest.raises(PendingError, match=r"the disk is full; free some.*wait in"):
                writer.flush()
            committed = store.run("run-1").metrics["m"].count
            assert 10 <= committed < 5000  # as many as the last page has room for
            assert steps_of(store) == list(range(committed))
        writer.finish(RunStatus.COMPLETED)
        assert steps_of(store) == list(range(5000))
        assert store.run("run-1").metrics["m"].count == 5000
        assert store.history("run-1", "new").values.tolist() == [1.0]


def test_closing_on_a_full_database_says_what_waits_and_loses_nothing(path):
    store = Store.open(path, create=True)
    writer = store.start(new_run())
    with full(writer):
        log_steps(writer, range(5000))
        with pytest.raises(PendingError, match="records of run run-1 are not yet in the"):
            store.close()
        assert not writer.is_open
    with Store.open(path) as store:
        assert steps_of(store) == list(range(5000))


@contextmanager
def full(writer):
    """Let the database of a writer not grow; every connection that it opens is told so."""
    writer.flush()
    engine = writer._ingester._engine
    connect, connected = engine.connect, writer._ingester._connection

    def limit(connection, pages):
        raw = connection.connection.driver_connection
        raw.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    engine.connect = lambda: limit(connect(), 1)  # SQLite makes it the present size
    limit(connected, 1)
    yield
    del engine.connect


def test_a_deleted_run_stops_its_writer_and_its_records_are_kept(store):
    writer = store.start(new_run())
    with store._writing() as connection:
        connection.exec_driver_sql("DELETE FROM experiments")
    log_steps(writer, [1])
    with pytest.raises(StoreError, match="run-1 was deleted"):
        writer.flush()
    with pytest.raises(StoreError, match="run-1 was deleted"):
        log_steps(writer, [2])
    store.close()
    (kept,) = store.spool_root.iterdir()
    assert kept.suffix == ".refused"
    assert len(segment_paths(kept)) == 1


def test_a_database_file_that_is_deleted_is_said_at_once_and_what_it_lacks_survives(path, caplog):
    store = Store.open(path, create=True)
    writer = store.start(new_run())
    log_steps(writer, range(10))
    writer.flush()
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    for suffix in ("", "-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink()
    log_steps(writer, range(10, 20))
    wait_until(lambda: caplog.messages)
    assert "runs.db was deleted while a run is recorded in it" in caplog.messages[0]
    assert "10 records of run run-1 are not yet in the database" in caplog.messages[0]
    with pytest.raises(PendingError, match=r"was deleted .* 11 records"):
        writer.finish(RunStatus.COMPLETED, timeout=1.0)
    with pytest.raises(PendingError, match="was deleted"):
        store.close()
    assert not path.exists()
    shutil.move(copy, path)
    with Store.open(path) as again:
        assert steps_of(again) == list(range(20))
        assert again.run("run-1").status is RunStatus.COMPLETED


def test_a_database_file_that_is_replaced_is_not_taken_for_the_old_one(path):
    store = Store.open(path, create=True)
    writer = store.start(new_run())
    writer.flush()
    other = path.with_name("other.db")
    Store.open(other, create=True).close()
    for suffix in ("-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink()
    other.replace(path)
    log_steps(writer, range(5))
    with pytest.raises(StoreError, match="was replaced by another file"):
        writer.flush()
    with pytest.raises(StoreError, match="run-1 was deleted from"):  # the new file has no such run
        writer.flush()
    store.close()
    (kept,) = store.spool_root.iterdir()
    assert kept.suffix == ".refused"


def test_a_spool_that_is_removed_under_its_writer_is_read_to_its_end(path):
    with Store.open(path, create=True) as store:
        writer = store.start(new_run())
        log_steps(writer, range(10))
        writer.flush()
        shutil.rmtree(store.spool_root)
        log_steps(writer, range(10, 20))
        writer.finish(RunStatus.COMPLETED)
        assert steps_of(store) == list(range(20))


def test_an_ingest_beside_a_living_writer_repeats_nothing(path):
    with Store.open(path, create=True) as store:
        writer = store.start(new_run())
        writer.spool._segment_bytes = 20_000
        for step in range(0, 5000, 500):
            log_steps(writer, range(step, step + 500))
            store.ingest(store.spool_root)
        writer.finish(RunStatus.COMPLETED)
        assert store.run("run-1").metrics["m"].count == 5000
        assert len(steps_of(store)) == 5000


def test_no_thread_and_no_spool_is_left_behind(path):
    before = threading.active_count()
    with Store.open(path, create=True) as store:
        record(store, "done", {})
        store.start(new_run("open"))
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert list(store.spool_root.iterdir()) == []
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM spools").fetchone() == (0,)


def test_the_heart_beats_while_nothing_is_logged(store, monkeypatch):
    monkeypatch.setattr(writer_module, "HEARTBEAT_S", 0.0)
    store.start(new_run())
    started = store.run("run-1").heartbeat
    wait_until(lambda: store.run("run-1").heartbeat > started)


def test_a_request_to_stop_reaches_the_writer(store, monkeypatch):
    monkeypatch.setattr(writer_module, "HEARTBEAT_S", 0.0)
    writer = store.start(new_run())
    assert not writer.stop_requested
    set_columns(store, "run-1", stop_requested="2026-01-01T00:00:00.000Z")
    wait_until(lambda: writer.stop_requested)


def test_what_a_dead_process_left_is_counted_by_readers_and_taken_in_by_writers(path):
    with Store.open(path, create=True) as store:
        store.start(new_run()).close()
    folder = left_spool(path, 1000)
    with Store.open(path, mode="ro") as reader:
        assert reader.waiting() == {"run-1": 1000}
        assert "m" not in reader.run("run-1").metrics
    assert folder.exists()
    with Store.open(path) as store:
        assert store.waiting() == {}
        assert steps_of(store) == list(range(1000))
        assert store.run("run-1").metrics["m"].count == 1000
    assert not folder.exists()


def test_several_processes_take_in_one_spool_once(path):
    with Store.open(path, create=True) as store:
        store.start(new_run()).close()
    folder = left_spool(path, 21_000)
    script = f"""
from research_eval.store import Store
from pathlib import Path
wait()
with Store.open({str(path)!r}) as store:
    store.take_in(Path({str(folder.parent)!r}), living=True)
"""
    run_together(script, 3)
    with Store.open(path) as store:
        assert steps_of(store) == list(range(21_000))
        assert store.run("run-1").metrics["m"].count == 21_000
    assert not folder.exists()


def test_a_death_between_commit_and_removal_repeats_nothing(path):
    with Store.open(path, create=True) as store:
        store.start(new_run()).close()
    folder = left_spool(path, 100)
    copy = path.with_name("copy")
    shutil.copytree(folder, copy)
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as database:
        (segment,) = segment_paths(copy)
        key = f"{folder.name}/{segment.stem}"
        database.execute("INSERT INTO spools VALUES (?, ?)", (key, segment.stat().st_size))
        database.commit()
    shutil.copytree(copy, folder)
    with Store.open(path) as store:
        assert steps_of(store) == list(range(100))
        assert store.run("run-1").metrics["m"].count == 100
    assert not folder.exists()


def test_damage_costs_what_is_damaged_and_is_said(path, caplog):
    with Store.open(path, create=True) as store:
        store.start(new_run()).close()
    folder = left_spool(path, 100)
    (segment,) = segment_paths(folder)
    with segment.open("r+b") as file:
        file.seek(segment.stat().st_size // 2)
        file.write(b"\xff")
    with caplog.at_level(logging.WARNING), Store.open(path) as store:
        steps = steps_of(store)
    assert 0 < len(steps) < 100
    assert steps == list(range(len(steps)))
    assert "bytes of" in caplog.text
    assert "damaged" in caplog.text
    assert len(list(folder.glob("*.damaged"))) == 1


def test_records_of_an_attempt_that_was_resumed_elsewhere_are_set_aside(path, caplog):
    with Store.open(path, create=True) as store:
        writer = store.start(new_run())
        log_steps(writer, range(3))
        writer.finish(RunStatus.INTERRUPTED)
        store.resume("run-1", step=2).finish(RunStatus.COMPLETED)
    folder = left_spool(path, 5)
    with caplog.at_level(logging.WARNING), Store.open(path) as store:
        assert steps_of(store) == [0, 1, 2]
    assert "resumed by another process (attempt 2)" in caplog.text
    assert len(segment_paths(folder.with_suffix(".refused"))) == 1


def test_an_outage_of_the_server_delays_points_and_loses_none(postgres, caplog):
    with Store.open(postgres.new_database(), create=True) as store:
        writer = store.start(new_run())
        log_steps(writer, range(100))
        writer.flush()
        postgres.stop("immediate")
        try:
            log_steps(writer, range(100, 200))
            wait_until(lambda: caplog.messages)
            log_steps(writer, range(200, 300))
            with pytest.raises(PendingError, match="200 records of run run-1 are not yet in"):
                writer.flush(timeout=0.1)
        finally:
            postgres.start()
        writer.finish(RunStatus.COMPLETED)
        assert "cannot be reached" in caplog.messages[0]
        assert len(caplog.messages) == 1
        assert steps_of(store) == list(range(300))
        assert store.run("run-1").metrics["m"].count == 300


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

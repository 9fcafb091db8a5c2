"""A problem of the tracker is told, and never ends a training."""

import sqlite3
import time
from contextlib import closing

import pytest

import research_eval
from research_eval.errors import StoreError
from research_eval.store import Store


def track(path, **options):
    return research_eval.track(db=path, system_interval_s=None, **options)


def test_what_cannot_be_recorded_is_said_once_and_the_rest_is_kept(path, recorded, capsys):
    with track(path) as run:
        for _ in range(3):
            run.log({"good": 1.0, "bad": "text", "": 2.0})
        run.log([1.0])
        run.log({"good": 1.0}, step="one")
        run.artifact("no/such/file")
        run.set(3)
        run.log_table("t", {"a": [1.0], "b": [1.0, 2.0]})
        run.finish("DONE")
        run.log({"good": 2.0})
    told = capsys.readouterr().err.splitlines()
    assert len(told) == len(run.problems) == 8
    for part in ("'bad'", "1 to 512 characters", "not list", "no/such/file", "differ", "'DONE'"):
        assert sum(part in line for line in told) == 1, part
    found = recorded()
    assert (found.status, found.metrics["good"].count) == ("COMPLETED", 4)
    assert "no/such/file" in found.flags["tracking"]


def test_after_the_end_nothing_is_recorded_and_that_is_said(path, recorded, capsys):
    with track(path) as run:
        run.log({"m": 1.0})
    run.log({"m": 2.0})
    run.finish("FAILED")
    assert "has ended as COMPLETED" in capsys.readouterr().err
    assert (recorded().status, recorded().metrics["m"].count) == ("COMPLETED", 1)


def test_strict_raises(path):
    with track(path, strict=True) as run:
        with pytest.raises(StoreError, match="'bad'"):
            run.log({"good": 1.0, "bad": "text"})
        with pytest.raises(StoreError, match="step"):
            run.log({"good": 1.0}, step="one")
        with pytest.raises(FileNotFoundError):
            run.artifact("no/such/file")


def test_a_locked_database_bounds_the_end_and_the_next_command_completes_it(path, capsys):
    with track(path) as run:
        run.log({"m": 0.0})
        run.flush()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            run.log({"m": 1.0})
            begun = time.monotonic()
            run.finish(timeout=0.3)
            assert time.monotonic() - begun < 10
            assert "wait in" in capsys.readouterr().err
            other.execute("ROLLBACK")
    run.flush()
    with Store.open(path, mode="ro") as store:
        found = store.run(run.id)
    assert (found.status, found.metrics["m"].count) == ("COMPLETED", 2)


def test_a_file_that_is_no_store_is_said_and_the_records_wait(tmp_path, capsys):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE mine (x)")
    before = path.read_bytes()
    with track(path) as run:
        run.log({"m": 1.0})
    assert "is a database of another program" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert list((tmp_path / "other.db.spool").rglob("*.segment"))

"""The trash is emptied for good: rows, files and space, and nothing else."""

import os
import time

import pytest

from research_eval.records import RunStatus
from research_eval.store import Store, garbage
from research_eval.store.garbage import collect, find_garbage
from research_eval.store.schema import experiments
from research_eval.testing.runs import new_run, record, set_columns

from .samples import TIME, contents, files, fill


@pytest.fixture
def store(database_url):
    with Store.open(database_url, create=True) as opened:
        yield opened


def throw_away(store, *runs):
    for run in runs:
        set_columns(store, run, deleted=TIME)


def swept(store):
    return collect(store, find_garbage(store), lambda _number: None)


def test_runs_in_the_trash_leave_nothing_behind(store, monkeypatch):
    monkeypatch.setattr(garbage, "ROWS_AT_ONCE", 3)  # many transactions
    fill(store, "kept")
    kept, kept_files = contents(store), files(store)
    fill(store, "gone")
    throw_away(store, "gone-1", "gone-2")
    found = find_garbage(store)
    assert (found.runs, found.points) == (("gone-2", "gone-1"), 17)
    assert (len(found.folders), found.file_bytes, found.kept) == (2, 1900, ())
    removed = []
    collect(store, found, removed.append)
    assert sum(removed) == 17
    assert max(removed) <= 3
    assert {name: rows for name, rows in contents(store).items() if name != "studies"} == {
        name: rows for name, rows in kept.items() if name != "studies"
    }
    assert files(store) == kept_files
    assert find_garbage(store).runs == ()


def test_looking_changes_nothing(store):
    fill(store)
    throw_away(store, "run-1", "run-2")
    before = contents(store), files(store)
    find_garbage(store)
    assert (contents(store), files(store)) == before


def test_a_run_that_lives_or_has_living_children_stays(store):
    record(store, "grandparent", {"m": 1.0})
    record(store, "parent", {"m": 1.0}, parent="grandparent")
    record(store, "child", {"m": 1.0}, parent="parent")
    record(store, "lonely", {"m": 1.0})
    writer = store.start(new_run("alive"))
    throw_away(store, "grandparent", "parent", "lonely", "alive")
    found = find_garbage(store)
    assert found.runs == ("lonely",)
    assert set(found.kept) == {"grandparent", "parent", "alive"}
    swept(store)
    writer.finish(RunStatus.COMPLETED)
    throw_away(store, "child")
    assert find_garbage(store).runs == ("alive", "child", "parent", "grandparent")


def test_a_run_that_is_restored_meanwhile_is_left_alone(store):
    fill(store)
    before = contents(store), files(store)
    throw_away(store, "run-1", "run-2")
    found = find_garbage(store)
    set_columns(store, "run-1", deleted=None)
    set_columns(store, "run-2", deleted=None)
    collect(store, found, lambda _number: None)
    assert (contents(store), files(store)) == before


def test_a_folder_beside_a_file_goes_when_it_is_old_and_no_run_owns_it(store):
    record(store, "run-1", {})
    for name, age in (("old", 2), ("young", 0), ("run-1", 2)):
        folder = store.artifact_dir / name
        folder.mkdir(exist_ok=True, parents=True)
        (folder / "file").write_text("12345")
        os.utime(folder, (time.time() - age * 86_400,) * 2)
    # Beside a server, a folder may belong to another database of the same name.
    gone = ["old"] if store.path else []
    found = find_garbage(store)
    assert [folder.name for folder in found.folders] == gone
    assert found.file_bytes == 5 * len(gone)
    swept(store)
    left = {folder.name for folder in store.artifact_dir.iterdir()}
    assert left == {"old", "run-1", "young"} - {*gone}


@pytest.mark.parametrize("mode", ["INCREMENTAL", "NONE"])
def test_the_file_becomes_small_again(path, mode):
    with Store.open(path, create=True) as store:
        if mode == "NONE":  # as in a file that another program has rewritten
            with store._engine.connect() as connection:
                raw = connection.connection.driver_connection
                raw.execute("PRAGMA auto_vacuum = NONE")
                raw.execute("VACUUM")
        record(store, "kept", {"m": 1.0})
        writer = store.start(new_run("gone"))
        for step in range(2000):
            writer.log({f"m{i}": step for i in range(10)}, step=step)
        writer.finish(RunStatus.COMPLETED)
        with store._writing() as connection:
            connection.execute(
                experiments.update()
                .where(experiments.c.experiment_id == "gone")
                .values(deleted=TIME)
            )
        full = store.info().bytes
        freed = swept(store)
        assert freed > 500_000
        assert store.info().bytes == full - freed
        assert path.stat().st_size <= full - freed
        assert not path.with_name("runs.db-wal").exists()
        assert store.run("kept").value("m") == 1.0

"""What can go wrong when a store is opened: one clear error each, and nothing written."""

import sqlite3

import pytest
from sqlalchemy import text

from research_eval.errors import StoreError
from research_eval.store import Store, creation
from research_eval.store.engine import open_engine, parse_address
from research_eval.testing.runs import new_run, record

from .conftest import run_together, unprivileged


def refused(path, match, **how):
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError, match=match):
        Store.open(path, **how)
    assert (path.read_bytes() if path.is_file() else None) == before


@pytest.mark.parametrize("mode", ["rw", "ro"])
def test_a_missing_store_is_not_made_by_the_way(path, mode):
    refused(path, "there is no database .*runs.db; record a run first", mode=mode)
    assert not path.exists()


def test_reading_cannot_be_combined_with_creating(path):
    with pytest.raises(ValueError, match="read-only cannot be created"):
        Store.open(path, mode="ro", create=True)


def test_a_store_is_made_once_and_opened_again(path):
    with Store.open(path, create=True) as store:
        record(store, "a", {})
    with Store.open(f"sqlite:///{path}", create=True) as store:
        assert [run.experiment_id for run in store.runs()] == ["a"]
        assert (store.path, store.url) == (path, f"sqlite:///{path}")
        assert store.artifact_dir == path.parent / "runs.db.artifacts"


@pytest.mark.parametrize("name", ["a b.db", "100%?#ü&.db"])
def test_any_file_name_is_taken_as_it_is(tmp_path, name):
    with Store.open(tmp_path / name, create=True) as store:
        record(store, "a", {"m": 1.0})
    with Store.open(tmp_path / name, mode="ro") as store:
        assert store.run("a").value("m") == 1.0
    assert (tmp_path / name).is_file()


def test_an_empty_file_becomes_a_store_only_when_asked(path):
    path.touch()
    refused(path, "is empty: no run was ever recorded there")
    Store.open(path, create=True).close()
    Store.open(path, mode="ro").close()


@pytest.mark.parametrize("how", [{}, {"create": True}, {"mode": "ro"}])
def test_a_file_that_is_no_database_is_refused(path, how):
    path.write_bytes(b"experiment_id,f1\n" * 100)
    refused(path, "is not a database; choose another file", **how)


def test_a_folder_is_refused(tmp_path):
    refused(tmp_path, "cannot be opened", create=True)


@pytest.mark.parametrize("how", [{}, {"create": True}, {"mode": "ro"}])
def test_a_database_of_another_program_is_refused(path, how):
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE alembic_version (version_num)")
    other.execute("CREATE TABLE trials (id)")
    other.commit()
    other.close()
    match = r"database of another program \(it has the tables alembic_version, trials\)"
    refused(path, match, **how)


@pytest.mark.parametrize("how", [{}, {"create": True}, {"mode": "ro"}])
def test_a_store_of_a_newer_version_is_refused(path, how):
    Store.open(path, create=True).close()
    other = sqlite3.connect(path)
    other.execute("UPDATE research_eval_version SET version_num = '9999'")
    other.commit()
    other.close()
    refused(path, "newer version of research-eval .its schema is 9999, .* knows up to", **how)


def test_a_store_of_an_older_version_names_the_command_that_upgrades_it(path, monkeypatch):
    Store.open(path, create=True).close()
    monkeypatch.setattr(creation, "REVISIONS", (*creation.REVISIONS, "9000"))
    monkeypatch.setattr(creation, "LATEST", "9000")
    refused(path, "has schema 0002, but this version needs 9000; .* db upgrade --db .*runs.db")


def test_a_damaged_store_is_reported_as_one_line(path):
    with Store.open(path, create=True) as store:
        record(store, "a", {f"m{i}": 1.0 for i in range(100)})
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="is damaged; copy it away"), Store.open(path) as store:
        store.runs()


def test_a_folder_that_cannot_be_written_is_reported(public_folder):
    public_folder.chmod(0o555)
    with unprivileged():
        refused(public_folder / "runs.db", "cannot be opened; look at its perm", create=True)


def test_a_read_only_file_can_be_read_and_not_written(public_folder):
    path = public_folder / "runs.db"
    with Store.open(path, create=True) as store:
        record(store, "a", {"m": 1.0})
    path.chmod(0o444)
    public_folder.chmod(0o555)
    with unprivileged():
        with Store.open(path, mode="ro") as store:
            assert store.run("a").value("m") == 1.0
        refused(path, "cannot be written: the file or its folder is read-only")


def test_a_folder_for_artifacts_that_cannot_be_made_starts_no_run(path):
    with Store.open(path, create=True) as store:
        store.artifact_dir.write_text("in the way")
        with pytest.raises(StoreError, match="cannot make the folder"):
            store.start(new_run())
        assert store.runs() == []


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("sqlite://", "a store needs a file"),
        (":memory:", "a store needs a file"),
        ("sqlite:///x.db?timeout=1", "takes no options"),
        ("mysql://u:secret@h/d", "'mysql' databases are not supported"),
        ("nonsense://", "'nonsense' databases are not supported"),
        ("postgresql://u:secret@h:port/d", "begins with 'postgresql://' is malformed"),
    ],
)
def test_an_address_that_cannot_be_used_is_explained(url, match):
    with pytest.raises(StoreError, match=match) as caught:
        Store.open(url, create=True)
    assert "secret" not in str(caught.value)


def test_a_password_is_never_shown():
    assert "secret" not in str(parse_address("postgresql://u:secret@h/d"))


def test_a_full_disk_makes_no_half_store(path, monkeypatch):
    make_tables = creation.metadata.create_all

    def on_a_small_disk(connection):
        connection.exec_driver_sql("PRAGMA max_page_count = 10")
        make_tables(connection)

    monkeypatch.setattr(creation.metadata, "create_all", on_a_small_disk)
    path.touch()
    with pytest.raises(StoreError, match="cannot grow: the disk is full"):
        Store.open(path, create=True)
    monkeypatch.undo()
    refused(path, "is empty")
    with Store.open(path, create=True) as store:
        record(store, "a", {})


def test_eight_processes_make_one_store_and_lose_nothing(path):
    script = f"""
from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.testing.runs import new_run
wait()
with Store.open({str(path)!r}, create=True) as store:
    writer = store.start(new_run(f"run-{{index}}"))
    for step in range(200):
        writer.log({{f"m{{i}}": index for i in range(5)}}, step=step)
        if step % 20 == 0:
            writer.flush()
    writer.finish(RunStatus.COMPLETED)
"""
    run_together(script, 8)
    with Store.open(path) as store:
        runs = store.runs()
        assert sorted(run.experiment_id for run in runs) == [f"run-{i}" for i in range(8)]
        assert {m.count for run in runs for m in run.metrics.values()} == {200}
        with store._reading() as connection:
            points = connection.scalar(text("SELECT count(*) FROM metric_points"))
        assert points == 8 * 5 * 200


def test_opening_leaves_a_file_in_write_ahead_mode(path):
    Store.open(path, create=True).close()
    engine = open_engine(parse_address(path), "ro", 1.0)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA auto_vacuum").scalar() == 2

"""A store is copied whole into another one of either kind, or not at all."""

import pytest
from sqlalchemy import func, select, text

from research_eval.errors import StoreError
from research_eval.records import RunStatus
from research_eval.store import Store, transfer
from research_eval.store.copying import copy_store, take_in_waiting
from research_eval.store.schema import experiments
from research_eval.testing.runs import new_run, record

from .samples import TIME, contents, files, fill


@pytest.fixture
def new_url(request, tmp_path):
    """Return a function that gives the address of an empty database of a kind."""

    def make(kind, name):
        if kind == "sqlite":
            return tmp_path / f"{name}.db"
        return request.getfixturevalue("postgres").new_database()

    return make


@pytest.fixture
def source(tmp_path):
    with Store.open(tmp_path / "source.db", create=True) as opened:
        fill(opened)
        yield opened


@pytest.fixture
def target(tmp_path):
    with Store.open(tmp_path / "target.db", create=True) as opened:
        yield opened


def copied(source, target, *, with_files=True):
    return copy_store(source, target, with_files=with_files, on_progress=lambda *_: None)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("sqlite", "sqlite"),
        ("sqlite", "postgresql"),
        ("postgresql", "sqlite"),
        ("postgresql", "postgresql"),
    ],
)
def test_a_copy_holds_everything_and_takes_new_runs(new_url, monkeypatch, here, there):
    monkeypatch.setattr(transfer, "ROWS_AT_ONCE", 4)  # many batches
    monkeypatch.setattr(transfer, "RUNS_AT_ONCE", 1)
    with (
        Store.open(new_url(here, "source"), create=True) as source,
        Store.open(new_url(there, "target"), create=True) as target,
    ):
        fill(source)
        done = copied(source, target)
        assert contents(target) == contents(source)
        assert files(target) == files(source)
        assert (done.rows["experiments"], done.rows["metric_points"], done.files) == (2, 16, 2)
        assert (done.bytes, done.running) == (1900, ())
        record(target, "new", {"m": 1.0})  # keys go on after those that were copied
        assert target.run("new").value("m") == 1.0
        assert target.history("run-1", "val/loss").values[-1] == 0.125


def test_a_copy_may_be_added_to_other_runs_but_not_to_the_same(source, target):
    fill(target, "other")
    copied(source, target, with_files=False)
    assert {run.experiment_id for run in target.runs()} == {"run-1", "run-2", "other-1", "other-2"}
    assert contents(target)["metric_points"][-16:] == contents(source)["metric_points"]
    before = contents(target)
    with pytest.raises(StoreError, match=r"2 of the 2 runs in .* are in .* already \(run-1, run-2"):
        copied(source, target)
    assert contents(target) == before


def test_another_study_of_the_same_name_is_refused(source, target):
    with target._writing() as connection:
        study = "INSERT INTO studies VALUES ('study of run', '2026', '{\"other\": 1}')"
        connection.execute(text(study))
    with pytest.raises(StoreError, match="another study of the name 'study of run'"):
        copied(source, target)
    assert target.runs() == []
    assert files(target) == {}


def test_a_copy_that_arrives_changed_is_undone_with_its_files(source, target, monkeypatch):
    write = transfer._write

    def lossy(connection, table, rows, ids):
        write(connection, table, rows[1:] if table.name == "params" else rows, ids)

    monkeypatch.setattr(transfer, "_write", lossy)
    with pytest.raises(StoreError, match="5 of 6 rows of params arrived"):
        copied(source, target)
    assert target.runs() == []
    assert not (target.artifact_dir / "run-1").exists()


def test_a_folder_in_the_way_is_left_alone(source, target):
    blocked = target.artifact_dir / "run-1"
    blocked.mkdir(parents=True)
    (blocked / "mine").touch()
    with pytest.raises(StoreError, match="is in the way"):
        copied(source, target)
    assert (blocked / "mine").exists()
    assert target.runs() == []


def test_a_run_that_goes_on_is_said(source, target):
    source.start(new_run("alive"))
    assert copied(source, target).running == ("alive",)


def test_what_waits_in_a_spool_is_taken_in_first(path, tmp_path):
    with Store.open(path, create=True) as store:
        writer = store.start(new_run("alive"))
        writer.flush()
        with store._writing():  # nobody else can write meanwhile
            writer.log({"m": 1.0}, step=1)
            with Store.open(path, mode="ro") as reader:
                assert reader.waiting() == {"alive": 1}
        take_in_waiting(path)
        with Store.open(path, mode="ro") as reader:
            assert reader.history("alive", "m").values.tolist() == [1.0]
        writer.log({"m": 2.0}, step=2)
        writer.finish(RunStatus.COMPLETED)
        assert store.run("alive").metrics["m"].count == 2
    with pytest.raises(StoreError, match="there is no database"):
        take_in_waiting(tmp_path / "nothing.db")


def test_progress_ends_at_the_total(source, target):
    seen = []
    copy_store(source, target, with_files=False, on_progress=lambda *now: seen.append(now))
    assert seen[-1][0] == seen[-1][1] == sum(len(v) for v in contents(source).values()) - 1


def test_runs_in_the_trash_are_copied_as_such(source, target):
    with source._writing() as connection:
        connection.execute(experiments.update().values(deleted=TIME))
    copied(source, target)
    with target._reading() as connection:
        deleted = select(func.count()).where(experiments.c.deleted == TIME)
        assert connection.scalar(deleted) == 2

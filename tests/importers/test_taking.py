"""What a tracker recorded is in the store, point for point; none twice, and all or nothing."""

import json
import sqlite3
from contextlib import closing

import pytest

from research_eval.cli import main
from research_eval.errors import DataError, StoreError
from research_eval.importers.taking import find, import_found
from research_eval.store import Store


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "runs.db", create=True) as opened:
        yield opened


def as_recorded(points):
    """Return what a history shows: by step, of a repeated step in order; text, so NaN is equal."""
    return [str((p.step, p.time, p.value)) for p in sorted(points, key=lambda p: p.step)]


@pytest.mark.parametrize(
    ("tracker", "fixture"),
    [
        ("mlflow", "mlflow"),
        ("mlflow", "mlruns"),
        ("trackio", "trackio"),
        ("tensorboard", "tensorboard"),
        ("wandb", "first"),
    ],
)
def test_every_point_arrives_and_the_second_time_nothing(store, left_by, tracker, fixture):
    found = find(tracker, left_by(fixture))
    done = import_found(found, store)
    assert len(done.ids) == len(found.runs) > 0
    for run, run_id in zip(found.runs, done.ids.values(), strict=True):
        record = store.run(run_id)
        assert (record.experiment_name, record.run_type) == (run.name, "import")
        assert (record.status, record.project, record.group) == (run.status, run.project, run.group)
        assert json.loads(record.full_config_json) == run.config
        assert record.timestamp.timestamp() == pytest.approx(run.started, abs=2e-3)
        assert record.ended.timestamp() == pytest.approx(run.ended, abs=2e-3)
        assert set(record.tags) == set(run.tags)
        assert [note.text for note in record.notes] == list(run.notes)
        assert record.flags == run.flags
        points = list(run.points())
        assert set(record.metrics) == {point.name for point in points}
        for name in record.metrics:
            history = store.history(run_id, name)
            told = zip(
                history.steps.tolist(), history.times.tolist(), history.values.tolist(), strict=True
            )
            wanted = as_recorded([point for point in points if point.name == name])
            assert [str(point) for point in told] == wanted
    store.tag(next(iter(done.ids)), ["mine"])  # what is noted here makes no other run of it
    again = import_found(found, store)
    assert (again.ids, set(again.skipped)) == ({}, set(done.ids))


def test_a_child_is_the_child_of_its_parent(store, left_by):
    import_found(find("mlflow", left_by("mlruns")), store)
    parent, child = store.run("first"), store.run("child")
    assert child.parent == parent.experiment_id


def test_a_run_that_went_on_is_said_and_gets_another_id_if_asked(store, left_by):
    path = left_by("trackio")
    import_found(find("trackio", path), store)
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "INSERT INTO metrics SELECT id + 100, run_id, timestamp, run_name, step + 1000, "
            "metrics, log_id, space_id FROM metrics WHERE id = 1"
        )
        database.commit()
    longer = find("trackio", path)
    with pytest.raises(StoreError, match=r"has other runs of the same ids.*--as-new"):
        import_found(longer, store)
    (new,) = import_found(longer, store, as_new=True).ids.values()
    assert new.endswith("-2")
    assert store.run(new).metrics["loss"].count == store.runs()[-1].metrics["loss"].count + 1


def test_a_name_that_cannot_be_kept_leaves_nothing(store, left_by):
    path = left_by("trackio")
    with closing(sqlite3.connect(path)) as database:
        wide = json.dumps({"x" * 600: 1.0})
        database.execute("UPDATE metrics SET metrics = ? WHERE id = 8", (wide,))
        database.commit()
    with pytest.raises(StoreError, match="1 to 512 characters, not 600"):
        import_found(find("trackio", path), store)
    assert store.runs() == []


def test_the_command(left_by, tmp_path, capsys):
    path = left_by("tensorboard")
    db = str(tmp_path / "new.db")
    assert main(["runs", "import", str(path), "--from", "tensorboard", "--db", db]) == 0
    told = capsys.readouterr().err
    assert "read 2 runs of tensorboard" in told
    assert "left out: 1 histograms" in told
    assert "took in 2 runs" in told
    assert "next: research-eval runs show tensorboard-" in told


@pytest.mark.parametrize("tracker", ["mlflow", "tensorboard", "trackio", "wandb"])
def test_a_command_that_cannot_read_makes_no_database(tracker, tmp_path, capsys):
    db = tmp_path / "new.db"
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "nothing", tmp_path / "folder"):
        code = main(["runs", "import", str(path), "--from", tracker, "--db", str(db)])
        assert code == DataError.exit_code
        assert path.name in capsys.readouterr().err
    assert not db.exists()

"""Each kind of damage is found and named, and sound stores have none."""

import pytest
from sqlalchemy import text

from research_eval.store import Store
from research_eval.store.verify import rebuild_summaries, verify

from .samples import contents, fill


@pytest.fixture
def store(database_url):
    with Store.open(database_url, create=True) as opened:
        fill(opened)
        yield opened


def problems(store):
    return {check.name: list(check.problems) for check in verify(store) if check.problems}


def change(store, statement):
    with store._writing() as connection:
        assert connection.execute(text(statement)).rowcount


def test_a_sound_store_passes_every_check(store):
    checked = {check.name: check.checked for check in verify(store)}
    assert (checked["summaries"], checked["files"]) == (2, 2)
    assert problems(store) == {}


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE metrics SET max_value = 7 WHERE metric_name = 'val/loss'",
        "UPDATE metrics SET metric_value = NULL WHERE metric_name = 'val/loss'",
        "UPDATE metrics SET num_points = 9 WHERE metric_name = 'val/loss'",
        "DELETE FROM metrics WHERE metric_name = 'val/loss'",
    ],
)
def test_a_summary_that_does_not_follow_from_the_points_is_found_and_repaired(store, damage):
    before = contents(store)
    change(store, damage)
    assert problems(store) == {
        "summaries": [
            f"run {run}, val/loss: the summary does not follow from the points"
            for run in ("run-1", "run-2")
        ]
    }
    assert rebuild_summaries(store) == 2
    assert problems(store) == {}
    assert contents(store) == before
    assert rebuild_summaries(store) == 0


def test_a_point_that_is_gone_is_found(store):
    change(store, "DELETE FROM metric_points WHERE value = 0.75")
    assert list(problems(store)) == ["summaries"]


def test_files_that_are_missing_or_changed_are_found(store):
    folder = store.artifact_dir / "run-1"
    (folder / "model.bin").write_bytes(b"Model.bin" * 100)
    (folder / "report.txt").unlink()
    changed, missing = problems(store)["files"]
    assert changed.endswith("model.bin was changed after it was recorded")
    assert missing.endswith("report.txt cannot be read: No such file or directory")
    (folder / "model.bin").write_bytes(b"short")
    assert "has 5 bytes, not 900" in problems(store)["files"][0]


def test_rows_that_belong_to_nothing_are_found(path):
    with Store.open(path, create=True) as store:
        fill(store)
        with store._engine.connect() as connection:
            raw = connection.connection.driver_connection
            raw.execute("PRAGMA foreign_keys = OFF")
            raw.execute("DELETE FROM names WHERE name = 'load'")
            raw.execute("UPDATE experiments SET parent = 'nobody' WHERE parent IS NOT NULL")
        assert problems(store)["references"] == [
            "1 rows of experiments have a parent that is not in experiments",
            "1 rows of expert_stats have a name_id that is not in names",
        ]


def test_a_page_of_rubbish_is_found_and_nothing_else_is_claimed(path):
    with Store.open(path, create=True) as store:
        fill(store)
        with store._reading() as connection:
            of_points = "SELECT pageno FROM dbstat WHERE name = 'metric_points'"
            page = connection.exec_driver_sql(of_points).scalar()
    content = bytearray(path.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    with Store.open(path, mode="ro") as store:
        (check,) = verify(store)
    assert check.name == "pages"
    assert check.problems

"""Files of every earlier version are upgraded, hold what they held, and go on being written."""

import math
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from research_eval.errors import StoreError
from research_eval.records import MetricSummary, RunStatus
from research_eval.store import Store, creation, upgrade
from research_eval.store.engine import open_engine, parse_address
from research_eval.store.schema import REVISIONS
from research_eval.store.verify import verify
from research_eval.testing.runs import record

GOLDEN = Path(__file__).with_name("golden")
"""One dump for each version, written by that version: a resumed run with everything, its child."""


def test_there_is_a_file_of_every_earlier_version():
    assert sorted(file.stem for file in GOLDEN.glob("*.sql")) == [*REVISIONS[:-1]]


@pytest.fixture(params=REVISIONS[:-1])
def upgraded(request, path):
    with closing(sqlite3.connect(path)) as database:
        database.executescript((GOLDEN / f"{request.param}.sql").read_text(encoding="utf-8"))
    folder = path.with_name("runs.db.artifacts") / "run-1"
    folder.mkdir(parents=True)
    (folder / "report.txt").write_text("golden\n")
    with pytest.raises(StoreError, match="db upgrade --db"):
        Store.open(path)
    assert upgrade.upgrade_store(path) == path.with_name(f"runs.db.before-{request.param}")
    with Store.open(path) as store:
        yield store


def test_nothing_is_lost_by_an_upgrade(upgraded):
    run = upgraded.run("run-1")
    assert (run.status, run.attempt, run.seed) == (RunStatus.COMPLETED, 2, 3)
    assert (run.project, run.tags, run.flags) == (
        "p 'ü' 🦉",
        ("paper", "é"),
        {"floor": "below ln V"},
    )
    assert run.git_diff == "+ a\n- b"
    assert run.metrics["val/loss"] == MetricSummary(
        0.125, 5, 0.125, 5, 1.7976931348623157e308, 4, 6, 3
    )
    history = upgraded.history("run-1", "val/loss").values
    expected = [0.5, math.nan, math.inf, -math.inf, 1.7976931348623157e308, 0.125]
    assert np.array_equal(history, expected, equal_nan=True)
    (load,) = upgraded.expert_stats("run-1", "load")
    assert load.values.tolist() == [0.25, 0.75]
    assert upgraded.run("run-2").parent == "run-1"
    assert [note.text for note in run.notes] == ["a note; with -- things"]
    assert upgraded.config_schema("run-1") == {"type": "object"}
    assert [check for check in verify(upgraded) if check.problems] == []


def test_an_upgraded_file_is_written_into(upgraded):
    record(upgraded, "new", {"val/loss": 0.5, "only here": 1.0}, parent="run-1", tags=("t",))
    assert upgraded.run("last").experiment_id == "new"
    assert upgraded.history("new", "val/loss").values.tolist() == [0.5]
    assert upgraded.run("best", by="val/loss:min").experiment_id == "run-1"
    assert [check for check in verify(upgraded) if check.problems] == []


@pytest.mark.parametrize("before", REVISIONS[:-1])
def test_a_server_is_upgraded_too(postgres, before):
    url = postgres.new_database()
    engine = open_engine(parse_address(url), "rw", 1.0)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        upgrade.migrate(connection, before)
    engine.dispose()
    with pytest.raises(StoreError, match=f"has schema {before}"):
        Store.open(url)
    assert upgrade.upgrade_store(url) is None  # no copy of a server
    with Store.open(url) as store:
        record(store, "new", {"m": 0.5})
        assert store.run("new").value("m") == 0.5


def test_an_older_program_meets_a_newer_file_with_one_line(path, monkeypatch):
    Store.open(path, create=True).close()
    before = path.read_bytes()
    monkeypatch.setattr(creation, "REVISIONS", REVISIONS[:-1])  # as the older program was
    monkeypatch.setattr(creation, "LATEST", REVISIONS[-2])
    for how in ({"mode": "ro"}, {"mode": "rw"}, {"create": True}):
        with pytest.raises(StoreError, match=r"newer version.*pip install --upgrade") as caught:
            Store.open(path, **how)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == before

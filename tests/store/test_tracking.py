"""Scripts record into either kind of database; only a file is opened behind their back."""

import tarfile
from pathlib import Path

import pytest

import research_eval
from research_eval.errors import StoreError
from research_eval.importers.taking import find, import_found
from research_eval.store import Store

FIXTURES = Path(__file__).resolve().parents[1] / "importers" / "fixtures"


def test_a_script_records_and_goes_on(database_url):
    options = {"db": database_url, "system_interval_s": None}
    with research_eval.track("mine", config={"lr": 0.1}, **options) as outer:
        outer.log({"m": 1.0}, step=5)
        with research_eval.track("inner", parent=outer, **options) as inner:
            inner.log({"m": 2.0})
        outer.finish("FAILED", error="no")
    with research_eval.track(resume=outer.id, **options) as again:
        again.log({"m": 3.0})
    with Store.open(database_url, mode="ro") as store:
        found = store.run(outer.id)
        assert (found.status, found.attempt, found.value("m")) == ("COMPLETED", 2, 3.0)
        assert store.history(outer.id, "m").steps.tolist() == [5, 6]
        assert store.run(inner.id).parent == outer.id
        assert found.argv is not None
    assert outer.problems == inner.problems == again.problems == []


def test_runs_of_another_tracker_arrive(database_url, tmp_path):
    with tarfile.open(FIXTURES / "mlruns.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    found = find("mlflow", tmp_path / "mlruns")
    with Store.open(database_url, create=True) as store:
        done = import_found(found, store)
        assert set(import_found(found, store).skipped) == set(done.ids)
        for run in found.runs:
            record = store.run(f"mlflow-{run.source_id}")
            assert sum(each.count for each in record.metrics.values()) == len([*run.points()])
            assert record.status is run.status


def test_a_server_that_is_away_is_said_at_the_start():
    with pytest.raises(StoreError, match="cannot be reached"):
        research_eval.track(db="postgresql://nobody@127.0.0.1:1/none", system_interval_s=None)

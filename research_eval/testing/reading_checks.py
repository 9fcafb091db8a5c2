"""How runs are found and listed."""

from __future__ import annotations

import math

import pytest
from sqlalchemy import event

from research_eval.errors import StoreError
from research_eval.records import RunStatus
from research_eval.store import RunWriter, Store
from research_eval.testing.runs import new_run, record


class ReadingChecks:
    """Runs are found by what people call them."""

    def test_a_run_is_found_by_what_a_person_calls_it(self, store: Store) -> None:
        """Id, beginning of an id, name, last, best."""
        with pytest.raises(StoreError, match="holds no runs yet"):
            store.run("last")
        record(store, "20260101-aa", {"f1": 0.5, "loss": math.inf}, experiment_name="first")
        record(store, "20260102-bb", {"f1": 0.9, "loss": 0.2}, experiment_name="twice")
        record(store, "20260102-bc", {"f1": math.nan, "loss": 0.1}, experiment_name="twice")
        store.start(new_run("20260103-dd", experiment_name="20260101-aa")).log({"f1": 1}, step=1)
        found = {
            asked: store.run(asked, by=by).experiment_id
            for asked, by in (("20260101-aa", None), ("20260102-bb", None), ("20260101", None),
                              ("first", None), ("last", None), ("best", "f1:max"))
        }  # fmt: skip  # pairs read better side by side
        assert found == {
            "20260101-aa": "20260101-aa",  # an exact id is meant before a name
            "20260102-bb": "20260102-bb",
            "20260101": "20260101-aa",
            "first": "20260101-aa",
            "last": "20260103-dd",
            "best": "20260102-bb",  # 1.0 is still running, NaN is not best
        }
        assert store.run("best", by="f1:min").experiment_id == "20260101-aa"
        assert store.run("best", by="loss:max").experiment_id == "20260102-bb"  # not the infinity

    def test_a_name_that_means_no_run_or_several_is_an_error(self, store: Store) -> None:
        """The several are listed."""
        for i in range(7):
            record(store, f"id-{i}", {"m": math.nan}, experiment_name="same")
        with pytest.raises(StoreError, match=r"several runs: id-6, id-5, id-4, id-3, id-2, \.\.\."):
            store.run("same")
        with pytest.raises(StoreError, match="several runs"):
            store.run("id")
        for nobody in ("ID-1", "%", "", "d-1"):
            with pytest.raises(StoreError, match="no run is called"):
                store.run(nobody)
        for by in (None, "m", "m:up", ":max"):
            with pytest.raises(StoreError, match="'best' needs a metric and a direction"):
                store.run("best", by=by)
        with pytest.raises(StoreError, match="has a finite 'm'"):
            store.run("best", by="m:max")

    def test_runs_are_listed_newest_first_and_filtered(self, store: Store) -> None:
        """Filters combine; metrics are read as asked."""
        record(store, "a", {"x": 1.0, "y": 2.0}, project="p", model_type="moe")
        record(store, "b", {"x": 3.0}, project="p", model_type="dense", tags=("t",))
        record(store, "c", {}, project="q", model_type="moe", dataset_name="d", git_diff="big")
        store.start(new_run("d", project="q"))

        def ids(**asked: object) -> str:
            return "".join(run.experiment_id for run in store.runs(**asked))  # type: ignore[arg-type]

        assert ids() == "dcba"
        assert ids(limit=2) == "dc"
        assert ids(project="p") == "ba"
        assert ids(project="p", model_type="moe") == "a"
        assert ids(dataset_name="d") == "c"
        assert ids(status=RunStatus.COMPLETED, limit=1) == "c"
        assert ids(status=RunStatus.RUNNING) == "d"
        assert ids(project="none") == ""
        (run,) = store.runs(project="p", model_type="moe", metrics=["x", "z"])
        assert (run.value("x"), list(run.metrics)) == (1.0, ["x"])
        assert store.runs(metrics=())[-1].metrics == {}
        assert [run.git_diff for run in store.runs(dataset_name="d")] == [None]

    def test_runs_are_found_by_identity(self, store: Store) -> None:
        """All parts that are given must agree."""
        for i, (config, seed) in enumerate([("c", 0), ("c", 1), ("k", 0)]):
            record(store, f"r{i}", {}, config_hash=config, code_hash="k", data_hash="d", seed=seed)
        found = store.find(config_hash="c", code_hash="k", data_hash="d", seed=0)
        assert [run.experiment_id for run in found] == ["r0"]
        assert [run.experiment_id for run in store.find(config_hash="c")] == ["r1", "r0"]
        assert store.find(config_hash="c", data_hash="other") == []

    def test_listing_costs_the_same_queries_for_any_number_of_runs(self, store: Store) -> None:
        """And never looks at points."""
        statements: list[str] = []
        event.listen(
            store._engine, "before_cursor_execute", lambda *call: statements.append(call[2])
        )
        counts = []
        for i in (1, 5):
            for j in range(i):
                record(store, f"r{i}-{j}", {"x": 1.0}, tags=("t",))
            statements.clear()
            store.runs()
            counts.append(len([s for s in statements if s.startswith("SELECT")]))
            assert not any("metric_points" in s for s in statements)
        assert counts == [5, 5]

    def test_info_counts(self, store: Store) -> None:
        """Runs by status, and the size of the database."""
        record(store, "a", {})
        record(store, "b", {})
        store.start(new_run("c")).finish(RunStatus.FAILED)
        store.start(new_run("d"))
        info = store.info()
        assert info.runs == {RunStatus.COMPLETED: 2, RunStatus.FAILED: 1, RunStatus.RUNNING: 1}
        assert info.bytes > 10_000

    def test_a_writer_knows_its_run(self, store: Store) -> None:
        """Its folder lies in the store's folder of artifacts."""
        writer: RunWriter = store.start(new_run())
        assert writer.experiment_id == "run-1"
        assert writer.folder == store.artifact_dir / "run-1"
        assert writer.folder.is_dir()

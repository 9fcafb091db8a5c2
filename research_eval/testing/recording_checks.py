"""What a store keeps of a run, and what it refuses."""

from __future__ import annotations

import hashlib
import math
import threading
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from research_eval.errors import StoreError
from research_eval.records import MetricSummary, NewRun, RunStatus
from research_eval.store import Store
from research_eval.store.schema import experiments
from research_eval.testing.runs import new_run, record

EXTREMES = (math.nan, math.inf, -math.inf, 1.7976931348623157e308, 5e-324, math.pi)
"""Without -0.0: SQLite stores a whole number without its sign when it is zero."""


class RecordingChecks:
    """What goes in comes out."""

    def test_a_run_comes_back_as_it_was_given(self, store: Store) -> None:
        """Every field of `NewRun` is kept, whatever characters it holds."""
        record(store, "parent", {})
        given = new_run(
            project="p", model_type="moe", dataset_name="parity", dataset_type="synthetic",
            epochs=3, batch_size=64, seed=2**40, group="g", parent="parent", phase="confirm",
            study="s", trial=7, config_schema_json='{"type": "object"}', config_hash="c",
            code_hash="k", data_hash="d", git_commit="abc", git_diff="+ 'x'", argv="run 'ü' 🦉",
            hardware="cpu", host="box", tags=("a", "b"),
        )  # fmt: skip  # one field a line would hide the test
        store.start(given).finish(RunStatus.COMPLETED)
        found = store.run("run-1")
        kept = {f.name: getattr(found, f.name) for f in fields(NewRun) if f.name != "pid"}
        assert kept == {name: getattr(given, name) for name in kept}
        assert found.pid is not None
        assert (found.status, found.attempt, found.error) == (RunStatus.COMPLETED, 1, None)
        assert found.ended is not None
        assert found.ended >= found.timestamp

    def test_values_are_kept_exactly(self, store: Store) -> None:
        """NaN and infinities are values like others."""
        writer = store.start(new_run())
        for step, value in enumerate(EXTREMES):
            writer.log({"loss": value, f"only {step}": value}, step=step)
        writer.finish(RunStatus.COMPLETED)
        history = store.history("run-1", "loss").values
        assert np.array_equal(history, EXTREMES, equal_nan=True)
        found = store.run("run-1").metrics
        last = [found[f"only {step}"].value for step in range(len(EXTREMES))]
        assert np.array_equal(last, EXTREMES, equal_nan=True)
        assert (found["loss"].count, found["loss"].nonfinite) == (6, 3)
        assert (found["loss"].minimum, found["loss"].maximum_step) == (5e-324, 3)
        assert (found["only 0"].minimum, found["only 0"].nonfinite) == (None, 1)

    def test_steps_may_repeat_and_go_backwards(self, store: Store) -> None:
        """A history goes by step; the last value is the one recorded last."""
        writer = store.start(new_run())
        for number, step in enumerate((5, 3, 5, -(2**63), 2**63 - 1, 4), start=1):
            writer.log({"m": number}, step=step)
        writer.finish(RunStatus.COMPLETED)
        history = store.history("run-1", "m")
        assert history.steps.tolist() == [-(2**63), 3, 4, 5, 5, 2**63 - 1]
        assert history.values.tolist() == [4.0, 2.0, 6.0, 1.0, 3.0, 5.0]
        assert (np.diff(history.times[np.argsort(history.values)]) >= 0).all()
        assert store.run("run-1").metrics["m"] == MetricSummary(6.0, 4, 1.0, 5, 6.0, 4, 6, 0)

    @pytest.mark.parametrize("name", ["val/loss", "🦉 ünï", "a b'\"%_;--", "x" * 512, "NULL", " "])
    def test_any_text_names_a_metric(self, store: Store, name: str) -> None:
        """Names are never interpreted."""
        record(store, "run-1", {name: 1.0})
        assert store.metric_names("run-1") == [name]
        assert store.history("run-1", name).values.tolist() == [1.0]

    @pytest.mark.parametrize("name", ["", "x" * 513, "a\0b", "\ud800"])
    def test_a_name_that_cannot_be_kept_is_refused_at_once(self, store: Store, name: str) -> None:
        """Nothing of the call is recorded, and the writer goes on."""
        writer = store.start(new_run())
        with pytest.raises(StoreError, match="name"):
            writer.log({"ok": 1.0, name: 1.0}, step=1)
        writer.finish(RunStatus.COMPLETED)
        assert store.metric_names("run-1") == []

    def test_text_that_a_database_cannot_hold_is_escaped(self, store: Store) -> None:
        """A traceback or an argument may hold anything."""
        writer = store.start(new_run(argv="run \udcff.json"))
        writer.flag("f", "nul \0")
        writer.finish(RunStatus.FAILED, error="\0\ud800 end")
        found = store.run("run-1")
        assert (found.argv, found.flags) == ("run \\udcff.json", {"f": "nul \\x00"})
        assert found.error == "\\x00\\ud800 end"

    @pytest.mark.parametrize("step", [2**63, -(2**63) - 1])
    def test_a_step_beyond_64_bits_is_refused_at_once(self, store: Store, step: int) -> None:
        """It would otherwise poison the queue."""
        writer = store.start(new_run())
        with pytest.raises(StoreError, match="64 bits"):
            writer.log({"m": 1.0}, step=step)

    def test_arrays_keep_type_shape_and_order(self, store: Store) -> None:
        """Of one layer and step the last array counts."""
        writer = store.start(new_run())
        load = np.array([0.25, np.nan, np.inf], dtype=np.float32)
        writer.log_array("load", np.zeros(3), layer=1, step=2)
        writer.log_array("load", load, layer=1, step=2)
        writer.log_array("load", np.arange(6).reshape(2, 3).T, layer=0, step=2)
        writer.log_array("load", np.array(True), layer=5, step=1)
        load[:] = 0  # the caller may use its buffer again
        writer.finish(RunStatus.COMPLETED)
        found = store.expert_stats("run-1", "load")
        assert [(s.step, s.layer, s.values.dtype.str) for s in found] == [
            (1, 5, "|b1"),
            (2, 0, "<i8"),
            (2, 1, "<f4"),
        ]
        assert found[1].values.tolist() == [[0, 3], [1, 4], [2, 5]]
        assert np.array_equal(found[2].values, [0.25, np.nan, np.inf], equal_nan=True)
        assert store.expert_stats("run-1", "drops") == []

    def test_an_array_of_objects_is_refused(self, store: Store) -> None:
        """Only numbers can be read back without running code."""
        with pytest.raises(StoreError, match="must hold numbers"):
            store.start(new_run()).log_array("x", np.array([{}]), layer=0, step=0)

    def test_artifacts_carry_the_hash_of_their_content(self, store: Store) -> None:
        """A file that is registered again is described again."""
        writer = store.start(new_run())
        for content in ("old", "new!"):
            (writer.folder / "a.txt").write_text(content)
            writer.artifact("report", writer.folder / "a.txt")
        writer.finish(RunStatus.COMPLETED)
        (found,) = store.artifacts("run-1")
        assert (found.kind, found.path, found.bytes) == ("report", "run-1/a.txt", 4)
        assert found.sha256 == hashlib.sha256(b"new!").hexdigest()
        assert (store.artifact_dir / found.path).read_text() == "new!"

    def test_an_artifact_that_is_elsewhere_is_refused(self, store: Store, tmp_path: Path) -> None:
        """The record would point to what cannot travel with it."""
        writer = store.start(new_run())
        (tmp_path / "x").write_text("")
        with pytest.raises(StoreError, match="must lie in the run's folder"):
            writer.artifact("report", tmp_path / "x")
        with pytest.raises(StoreError, match="cannot be read: No such file"):
            writer.artifact("report", writer.folder / "missing")

    def test_a_schema_is_kept_with_the_run(self, store: Store) -> None:
        """Readers know ranges without the code that declared them."""
        schema = '{"properties": {"lr": {"maximum": 1}}}'
        record(store, "a", {}, config_schema_json=schema)
        record(store, "b", {}, config_schema_json=schema)
        record(store, "c", {})
        assert store.config_schema("a") == store.config_schema("b")
        assert store.config_schema("b")["properties"]["lr"] == {"maximum": 1}
        with pytest.raises(StoreError, match="without a schema"):
            store.config_schema("c")

    def test_threads_may_log_at_once(self, store: Store) -> None:
        """No point is lost between them."""
        writer = store.start(new_run())

        def work(name: str) -> None:
            for step in range(500):
                writer.log({name: step}, step=step)

        threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.finish(RunStatus.COMPLETED)
        for i in range(4):
            assert store.history("run-1", f"t{i}").values.tolist() == list(range(500))

    def test_many_names_and_points_fit_into_several_transactions(self, store: Store) -> None:
        """More than one batch of points, more than one query of names."""
        writer = store.start(new_run())
        for step in range(25):
            writer.log({f"m{i}": i for i in range(1200)}, step=step)
        writer.finish(RunStatus.COMPLETED)
        found = store.run("run-1").metrics
        assert len(found) == 1200
        assert {(m.count, m.step) for m in found.values()} == {(25, 24)}

    def test_a_summary_is_the_fold_of_its_history(self, store: Store) -> None:
        """Over random values, in any number of transactions."""
        rng = np.random.default_rng(0)
        values = rng.choice([1.0, -2.0, 3.5, math.nan, math.inf], size=200)
        writer = store.start(new_run())
        for step, value in enumerate(values):
            writer.log({"m": value}, step=step)
            if step % 50 == 0:
                writer.flush()
        writer.finish(RunStatus.COMPLETED)
        found, finite = store.run("run-1").metrics["m"], values[np.isfinite(values)]
        assert (found.minimum, found.maximum) == (finite.min(), finite.max())
        assert found.minimum_step == int(np.flatnonzero(values == finite.min())[0])
        assert (found.count, found.nonfinite) == (200, 200 - len(finite))

    @pytest.mark.parametrize("bad", ["", "last", "best", "a/b", "..", "a b", "x" * 201])
    def test_an_id_that_cannot_be_a_folder_or_is_a_keyword_is_refused(
        self, store: Store, bad: str
    ) -> None:
        """Nothing is recorded."""
        with pytest.raises(StoreError, match="cannot be the id of a run"):
            store.start(new_run(bad))
        assert store.runs() == []

    def test_an_id_is_used_once_and_a_parent_must_exist(self, store: Store) -> None:
        """The first run stays as it is."""
        record(store, "run-1", {"m": 1.0})
        with pytest.raises(StoreError, match="there is a run run-1 already"):
            store.start(new_run())
        with pytest.raises(StoreError, match="the parent of run run-2, nobody, is not in this"):
            store.start(new_run("run-2", parent="nobody"))
        assert [run.value("m") for run in store.runs()] == [1.0]

    def test_a_read_only_store_changes_nothing(self, store: Store, store_url: str | Path) -> None:
        """Neither by its methods nor by its connection."""
        record(store, "run-1", {})
        with Store.open(store_url, mode="ro") as reader:
            with pytest.raises(StoreError, match="was opened read-only"):
                reader.start(new_run("x"))
            with pytest.raises(StoreError, match="was opened read-only"):
                reader.resume("run-1", step=0)
            with pytest.raises(StoreError), reader._reading() as connection:
                connection.execute(experiments.delete())
        assert store.run("run-1")

    def test_asking_for_an_unknown_run_or_metric_is_an_error(self, store: Store) -> None:
        """An empty answer would hide a misspelling."""
        record(store, "run-1", {"m": 1.0})
        with pytest.raises(StoreError, match="has no metric 'x'"):
            store.history("run-1", "x")
        for ask in (
            lambda: store.history("nobody", "m"),
            lambda: store.metric_names("nobody"),
            lambda: store.expert_stats("nobody", "x"),
            lambda: store.artifacts("nobody"),
            lambda: store.config_schema("nobody"),
        ):
            with pytest.raises(StoreError, match="there is no run nobody"):
                ask()

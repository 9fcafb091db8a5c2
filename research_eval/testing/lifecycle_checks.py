"""What becomes of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from research_eval.errors import StoreError
from research_eval.records import TRANSITIONS, MetricSummary, RunStatus
from research_eval.store import Store
from research_eval.store.schema import attempts, experiments, metric_points
from research_eval.store.statements import transition
from research_eval.testing.runs import new_run, set_columns


class LifecycleChecks:
    """The status of a run is true, and a resumed run tells one story."""

    @pytest.mark.parametrize("before", RunStatus)
    def test_only_allowed_transitions_happen(self, store: Store, before: RunStatus) -> None:
        """`records.TRANSITIONS` is the rule, and the database holds to it."""
        store.start(new_run()).close()
        for after in RunStatus:
            set_columns(store, "run-1", status=before)
            is_allowed = after in TRANSITIONS[before]
            with store._writing() as connection:
                assert transition(connection, 1, after) is is_allowed
                stored = connection.scalar(select(experiments.c.status))
            assert stored == (after if is_allowed else before)

    def test_an_ended_run_takes_nothing_more(self, store: Store) -> None:
        """A point after the end would make its summary a lie."""
        writer = store.start(new_run())
        writer.finish(RunStatus.FAILED, error="boom", contended=True)
        with pytest.raises(StoreError, match="run-1 has ended as FAILED"):
            writer.log({"m": 1.0}, step=1)
        with pytest.raises(StoreError, match="run-1 has ended as FAILED"):
            writer.finish(RunStatus.COMPLETED)
        found = store.run("run-1")
        assert (found.status, found.error, found.contended) == (RunStatus.FAILED, "boom", True)

    def test_a_run_does_not_end_as_running(self, store: Store) -> None:
        """The writer stays usable after the refusal."""
        writer = store.start(new_run())
        with pytest.raises(StoreError, match="cannot end as RUNNING"):
            writer.finish(RunStatus.RUNNING)
        writer.finish(RunStatus.COMPLETED)
        assert store.run("run-1").status is RunStatus.COMPLETED

    def test_what_is_flushed_is_visible(self, store: Store, store_url: str | Path) -> None:
        """While the run goes on."""
        writer = store.start(new_run())
        writer.log({"m": 1.0}, step=1)
        writer.flush()
        with Store.open(store_url, mode="ro") as reader:
            found = reader.run("run-1")
            assert (found.status, found.value("m")) == (RunStatus.RUNNING, 1.0)

    def test_a_stale_heartbeat_reads_as_lost(self, store: Store) -> None:
        """And the reader changes nothing."""
        writer = store.start(new_run())
        assert store.run("run-1").status is RunStatus.RUNNING
        set_columns(store, "run-1", heartbeat="2020-01-01T00:00:00.000Z")
        assert store.run("run-1").status is RunStatus.LOST
        assert [r.status for r in store.runs(status=RunStatus.LOST)] == [RunStatus.LOST]
        assert store.runs(status=RunStatus.RUNNING) == []
        assert store.info().runs == {RunStatus.LOST: 1}
        with store._reading() as connection:
            assert connection.scalar(select(experiments.c.status)) == RunStatus.RUNNING
        writer.finish(RunStatus.COMPLETED)

    def test_a_lost_run_that_is_alive_goes_on(self, store: Store) -> None:
        """A laptop was closed and opened again."""
        writer = store.start(new_run())
        set_columns(store, "run-1", status="LOST", heartbeat="2020-01-01T00:00:00.000Z")
        writer.log({"m": 1.0}, step=1)
        writer.flush()
        assert store.run("run-1").status is RunStatus.RUNNING
        writer.finish(RunStatus.COMPLETED)
        assert store.run("run-1").status is RunStatus.COMPLETED

    def test_closing_the_store_keeps_unfinished_points(self, store_url: str | Path) -> None:
        """Leaving without `finish` is no loss of data."""
        with Store.open(store_url, create=True) as store:
            store.start(new_run()).log({"m": 1.0}, step=1)
        with Store.open(store_url) as store:
            assert store.history("run-1", "m").values.tolist() == [1.0]

    def interrupted(self, store: Store, steps: range) -> None:
        """Record an INTERRUPTED run with the value -step at each step."""
        writer = store.start(new_run())
        for step in steps:
            writer.log({"m": -step}, step=step)
        writer.log({"late": 1.0}, step=steps[-1])
        writer.log_array("load", np.array([1.0]), layer=0, step=steps[-1])
        writer.finish(RunStatus.INTERRUPTED, error="signal 15")

    def test_a_resume_supersedes_later_points_and_keeps_them(self, store: Store) -> None:
        """Histories and summaries tell one story; the database remembers both."""
        self.interrupted(store, range(1, 7))
        writer = store.resume("run-1", step=4)
        found = store.run("run-1")
        assert (found.status, found.attempt, found.error) == (RunStatus.RUNNING, 2, None)
        assert found.ended is None
        assert found.metrics == {"m": MetricSummary(-4.0, 4, -4.0, 4, -1.0, 1, 4, 0)}
        for step in (5, 6):
            writer.log({"m": 10.0 * step}, step=step)
        writer.finish(RunStatus.COMPLETED)
        history = store.history("run-1", "m")
        assert history.steps.tolist() == [1, 2, 3, 4, 5, 6]
        assert history.values.tolist() == [-1, -2, -3, -4, 50, 60]
        assert store.run("run-1").metrics["m"] == MetricSummary(60.0, 6, -4.0, 4, 60.0, 6, 6, 0)
        assert store.metric_names("run-1") == ["m"]
        assert store.expert_stats("run-1", "load") == []
        with store._reading() as connection:
            assert len(connection.execute(select(metric_points)).all()) == 9

    def test_a_resume_further_back_supersedes_every_earlier_attempt(self, store: Store) -> None:
        """Attempt 1 reached 6, attempt 2 went on from 4, attempt 3 from 2, attempt 4 from 3."""
        self.interrupted(store, range(1, 7))
        for resumed_step, steps in ((4, (5, 6)), (2, (3, 4)), (3, (4, 5))):
            writer = store.resume("run-1", step=resumed_step)
            for step in steps:
                writer.log({"m": step * 10.0**resumed_step}, step=step)
            writer.finish(RunStatus.INTERRUPTED)
        history = store.history("run-1", "m")
        assert history.steps.tolist() == [1, 2, 3, 4, 5]
        assert history.values.tolist() == [-1, -2, 300, 4000, 5000]
        with store._reading() as connection:
            limits = select(attempts.c.resumed_step, attempts.c.valid_to_step)
            found = connection.execute(limits.order_by(attempts.c.attempt)).all()
        assert [tuple(row) for row in found] == [(None, 2), (4, 2), (2, 3), (3, None)]

    def test_a_lost_run_is_resumed(self, store: Store, store_url: str | Path) -> None:
        """What the old process still sends is refused, so no two of them write one run."""
        with Store.open(store_url) as other:
            old = other.start(new_run())
            old.log({"m": 1.0}, step=1)
            old.flush()
            set_columns(store, "run-1", heartbeat="2020-01-01T00:00:00.000Z")
            writer = store.resume("run-1", step=1)
            old.log({"m": 99.0}, step=1)
            with pytest.raises(StoreError, match=r"resumed by another process \(attempt 2\)"):
                old.finish(RunStatus.COMPLETED)
        writer.finish(RunStatus.COMPLETED)
        assert store.history("run-1", "m").values.tolist() == [1.0]

    @pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.PRUNED, RunStatus.DIVERGED])
    def test_an_ended_run_is_not_resumed(self, store: Store, status: RunStatus) -> None:
        """Its record is final."""
        store.start(new_run()).finish(status)
        with pytest.raises(StoreError, match=f"run-1 is {status}; only an INTERRUPTED, LOST"):
            store.resume("run-1", step=1)

    def test_a_running_run_is_not_resumed(self, store: Store) -> None:
        """The message says where it runs."""
        store.start(new_run(host="box"))
        with pytest.raises(StoreError, match="run-1 is RUNNING on box as process"):
            store.resume("run-1", step=1)
        with pytest.raises(StoreError, match="there is no run nobody"):
            store.resume("nobody", step=1)

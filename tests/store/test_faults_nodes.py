"""Machines without a database only leave files, which another machine takes in."""

import os
import subprocess
import sys

import pytest

from research_eval.errors import StoreError
from research_eval.records import RunStatus
from research_eval.store import Store, headstart
from research_eval.testing.runs import new_run


@pytest.fixture
def shared(tmp_path, monkeypatch):
    folder = tmp_path / "shared"
    monkeypatch.setenv("RESEARCH_EVAL_SPOOL", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_run_of_a_node_arrives_whole_with_its_files(path, shared):
    recording = headstart.start(new_run(tags=("a",), project="p"), None)
    writer = recording.writer
    for step in range(100):
        writer.log({"m": step}, step=step)
    writer.folder.mkdir(parents=True)
    (writer.folder / "out.txt").write_text("result")
    writer.artifact("report", writer.folder / "out.txt")
    assert not path.exists()
    with Store.open(path, create=True) as store:
        assert store.ingest(shared).records == 102  # with the start, and while it runs
        assert store.run("run-1").status is RunStatus.RUNNING
        writer.tag("late")
        writer.finish(RunStatus.COMPLETED, contended=True)
        recording.close()
        assert store.ingest(shared).runs == ("run-1",)
        run = store.run("run-1")
        assert (run.status, run.contended, run.project) == (RunStatus.COMPLETED, True, "p")
        assert (run.tags, run.pid) == (("a", "late"), os.getpid())
        assert store.history("run-1", "m").steps.tolist() == list(range(100))
        (artifact,) = store.artifacts("run-1")
        assert (store.artifact_dir / artifact.path).read_text() == "result"
        assert store.ingest(shared).records == 0
    assert sorted(each.name for each in shared.iterdir()) == ["artifacts"]
    assert list((shared / "artifacts").iterdir()) == []


def test_runs_that_ended_long_ago_keep_their_times(path, shared, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1e9)
    recording = headstart.start(new_run(), None)
    recording.writer.finish(RunStatus.FAILED, error="boom")
    monkeypatch.undo()
    with Store.open(path, create=True) as store:
        store.ingest(shared)
        run = store.run("run-1")
    assert (run.status, run.error) == (RunStatus.FAILED, "boom")
    assert (run.timestamp.timestamp(), run.ended.timestamp()) == (1e9, 1e9)


def test_a_killed_node_leaves_what_it_logged(path, shared):
    script = """
import os, signal
from research_eval.store import headstart
from research_eval.testing.runs import new_run
writer = headstart.start(new_run(), None).writer
for step in range(500):
    writer.log({"m": step}, step=step)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    with Store.open(path, create=True) as store:
        assert store.ingest(shared).records == 501
        assert store.run("run-1").status is RunStatus.LOST
        assert store.history("run-1", "m").steps.tolist() == list(range(500))


def test_an_id_that_is_taken_is_refused_and_its_records_are_kept(path, shared):
    recording = headstart.start(new_run(), None)
    recording.writer.finish(RunStatus.COMPLETED)
    with Store.open(path, create=True) as store:
        store.start(new_run()).finish(RunStatus.COMPLETED)
        ((kept, reason),) = store.ingest(shared).refused.items()
    assert "there is a run run-1 already" in reason
    assert kept.suffix == ".refused"


def test_a_folder_that_is_not_there_is_an_error(store, tmp_path):
    with pytest.raises(StoreError, match=r"there is no folder .*nowhere; give the one that RES"):
        store.ingest(tmp_path / "nowhere")

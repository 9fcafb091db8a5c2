"""What a script records is in the store, whatever it is."""

import argparse
import hashlib
import json
import math
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

import research_eval
from research_eval.errors import ConfigError, StoreError
from research_eval.records import RunStatus
from research_eval.store import Store


def track(path, *arguments, **options):
    return research_eval.track(*arguments, **{"db": path, "system_interval_s": None} | options)


def test_everything_that_is_given_is_recorded(path, recorded, history):
    with track(
        path, "mine", config={"lr": 0.1}, project="p", group="g", tags=["a", "b"], seed=7
    ) as run:
        for step in range(3):
            run.log({"loss": 1 / (step + 1), "nan": math.nan}, step=step * 10)
        run.set(argparse.Namespace(layers=2))
        run.tag("c")
        run.note("a remark")
        run.summary({"best": torch.tensor(0.5)})
    found = recorded()
    assert found.experiment_id == run.id
    assert (found.experiment_name, found.run_type, found.status) == ("mine", "track", "COMPLETED")
    assert (found.project, found.group, found.seed) == ("p", "g", 7)
    assert json.loads(found.full_config_json) == {"lr": 0.1, "layers": 2}
    assert set(found.tags) == {"a", "b", "c"}
    assert [note.text for note in found.notes] == ["a remark"]
    assert history("loss") == ([0, 10, 20], [1.0, 0.5, 1 / 3])
    assert (found.value("best"), found.metrics["best"].step) == (0.5, 20)
    assert found.metrics["nan"].nonfinite == 3
    assert run.problems == []


def test_a_step_that_is_not_given_is_one_more_than_the_highest(path, history):
    with track(path) as run:
        run.log({"m": 0.0})
        run.log({"m": 1.0})
        run.log({"m": 7.0}, step=7)
        run.log({"m": 3.0}, step=3)
        run.log({"m": 8.0})
    assert history("m") == ([0, 1, 3, 7, 8], [0.0, 1.0, 3.0, 7.0, 8.0])


def test_arrays_and_tables(path):
    with track(path) as run:
        run.log({"m": 0.0}, step=4)
        run.log_array("load", np.arange(4), layer=1)
        run.log_array("load", torch.ones(2, 3), layer=2, step=5)
        run.log_table("experts", {"load": [0.25, 0.75], "entropy": [1.0, 2.0]})
    with Store.open(path, mode="ro") as store:
        first, second = store.expert_stats(run.id, "load")
        (entropy,) = store.expert_stats(run.id, "experts.entropy")
    assert (first.step, first.layer, first.values.tolist()) == (4, 1, [0, 1, 2, 3])
    assert (second.step, second.layer, second.values.shape) == (5, 2, (2, 3))
    assert entropy.values.tolist() == [1.0, 2.0]


def test_an_artifact_is_a_copy_with_its_hash(path, tmp_path):
    source = tmp_path / "model.bin"
    source.write_bytes(b"weights")
    with track(path) as run:
        run.artifact(source, kind="checkpoint")
        source.write_bytes(b"later")
    with Store.open(path, mode="ro") as store:
        (kept,) = store.artifacts(run.id)
        file = store.artifact_dir / kept.path
    assert file.read_bytes() == b"weights"
    assert (kept.sha256, kept.bytes) == (hashlib.sha256(b"weights").hexdigest(), 7)
    assert kept.kind == "checkpoint"


def test_where_the_run_came_from(path, recorded, script):
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    Path("file").write_text("one\n")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    Path("file").write_text("one\ntwo\n")
    with script("with track('x', db=db): pass", "--token", "hush") as process:
        assert process.wait() == 0
    found = recorded()
    assert len(found.git_commit) == 40
    assert "+two" in found.git_diff
    assert json.loads(found.argv)[1:] == ["--token", "***"]
    details = json.loads(found.env_details_json)
    assert details["directory"] == str(Path.cwd())
    assert details["installed"]["torch"] == torch.__version__
    assert found.host == os.uname().nodename
    assert found.hardware
    with track(path, git_diff=False):
        pass
    assert recorded().git_diff is None


def test_nested_and_grouped_runs(path, recorded):
    with track(path, "outer", group="sweep") as outer:
        with track(path, "inner", parent=outer, group="sweep") as inner:
            inner.log({"m": 1.0})
        outer.log({"m": 2.0})
    assert recorded(inner.id).parent == outer.id
    assert {recorded(run.id).group for run in (inner, outer)} == {"sweep"}
    with track(path, parent=outer.id) as later:
        pass
    assert recorded(later.id).parent == outer.id


def test_a_parent_that_nobody_knows_costs_no_point(path, recorded):
    with track(path, parent="nobody") as run:
        run.log({"m": 1.0})
    found = recorded(run.id)
    assert (found.parent, found.value("m"), found.status) == (None, 1.0, "COMPLETED")
    assert "nobody" in found.flags["parent_unknown"]


def interrupted(run, steps, error):
    """Log so many steps and leave the run by an exception."""
    with suppress(error), run:
        for step in range(steps):
            run.log({"m": step}, step=step)
        raise error
    return run


def test_a_resumed_run_continues_its_sequence(path, recorded, history):
    run = interrupted(track(path, "mine", config={"lr": 1}), 2, KeyboardInterrupt)
    with track(path, resume=run.id, config={"more": 2}, tags=["again"]) as again:
        again.log({"m": 2.0})
    assert (again.id, again.name) == (run.id, "mine")
    found = recorded()
    assert (found.attempt, found.status) == (2, "COMPLETED")
    assert json.loads(found.full_config_json) == {"lr": 1, "more": 2}
    assert found.tags == ("again",)
    assert history("m") == ([0, 1, 2], [0.0, 1.0, 2.0])


def test_a_run_whose_steps_went_back_goes_on_after_the_highest(path, history):
    run = track(path)
    for step in (5, 9, 2):
        run.log({"m": step}, step=step)
    run.finish("INTERRUPTED")
    with track(path, resume=run.id) as again:
        again.log({"m": 10})
    assert history("m")[0] == [2, 5, 9, 10]
    empty = track(path)
    empty.finish("FAILED")
    with track(path, resume=empty.id) as again:
        again.log({"m": 0})
    assert history("m")[0] == [0]


def test_a_failed_run_goes_on_from_a_step(path, recorded, history):
    run = interrupted(track(path), 5, ZeroDivisionError)
    with track(path, resume=run.id, resume_step=2) as again:
        again.log({"m": 30.0})
    assert history("m") == ([0, 1, 2, 3], [0.0, 1.0, 2.0, 30.0])
    assert recorded().metrics["m"].count == 4


def test_what_is_finished_is_not_resumed(path):
    with track(path) as run:
        pass
    with pytest.raises(StoreError, match="is COMPLETED; only an INTERRUPTED, LOST or FAILED"):
        track(path, resume=run.id)
    with pytest.raises(StoreError, match="no run is called 'nobody'"):
        track(path, resume="nobody")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": 3}, "a configuration is a mapping"),
        ({"seed": 0.5}, "seed is an integer of 64 bits, not 0.5"),
        ({"seed": 2**64}, "seed is an integer of 64 bits"),
        ({"project": 3}, "project is text, not 3"),
        ({"system_interval_s": 0}, "system_interval_s is a number above 0 or None, not 0"),
    ],
)
def test_a_mistake_at_the_start_is_refused_and_nothing_recorded(path, options, message):
    with pytest.raises(ConfigError, match=message):
        track(path, **options)
    assert not path.exists()


def test_a_database_that_cannot_be_one_is_refused_at_the_start(tmp_path):
    for db in (":memory:", "sqlite:///x.db?a=b", "mysql://host/db"):
        with pytest.raises(StoreError):
            track(db)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot"):
        track(tmp_path / "file" / "runs.db")


def test_system_metrics_stand_at_the_step_of_the_training(path, recorded):
    with track(path, system_interval_s=0.02) as run:
        run.log({"m": 1.0}, step=9)
        while "sys/process_memory_mb" not in recorded_metrics(run, recorded):
            run.flush()
    found = recorded().metrics
    assert found["sys/process_memory_mb"].value > 50
    assert 0 <= found["sys/memory_percent"].value <= 100
    assert {name.partition("/")[0] for name in found} == {"m", "sys"}
    assert found["sys/cpu_percent"].step == 9


def recorded_metrics(run, recorded):
    run.flush()
    return recorded().metrics


def test_status_can_be_named(path, recorded):
    with track(path) as run:
        run.finish("DIVERGED", error="the loss is NaN")
    assert (recorded().status, recorded().error) == (RunStatus.DIVERGED, "the loss is NaN")


def test_a_script_waits_for_nothing_heavy(script, tmp_path):
    # A node that only spools has no thread that loads SQLAlchemy behind the back of this test.
    code = (
        "import os, sys\n"
        f"os.environ['RESEARCH_EVAL_SPOOL'] = {str(tmp_path / 'spool')!r}\n"
        "run = track('x', config={'lr': 0.1}, system_interval_s=None)\n"
        "run.log({'m': 1.0})\n"
        "print(*sys.modules, flush=True)\n"
        "os._exit(0)\n"
    )
    with script(code) as process:
        loaded = set(process.stdout.read().split())
    assert loaded
    assert not loaded & {"torch", "numpy", "pandas", "sqlalchemy", "psutil", "pydantic"}

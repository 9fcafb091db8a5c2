"""Every value, step, time, parameter and status that a tracker wrote is read as it was."""

import math
import shutil
import struct

import pytest

from research_eval.errors import DataError
from research_eval.importers import mlflow, tensorboard, trackio, wandb
from research_eval.records import RunStatus
from tests.importers.conftest import FIXTURES, VALUES

CONFIG = {"lr": 0.001, "layers": 2, "note": "größer"}


def series(run, name):
    """Return (steps, values) of a metric; a NaN equals itself."""
    points = [point for point in run.points() if point.name == name]
    return [p.step for p in points], ["nan" if math.isnan(p.value) else p.value for p in points]


def same(values):
    return ["nan" if math.isnan(value) else value for value in values]


def as_float32(value):
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


def by_name(runs):
    return {run.name: run for run in runs}


STEPS = [index * 10 for index in range(len(VALUES))]


def test_mlflow_database(left_by):
    runs = by_name(mlflow.read(left_by("mlflow")))
    assert {name: run.status for name, run in runs.items()} == {
        "first": RunStatus.COMPLETED,
        "child": RunStatus.COMPLETED,
        "broken": RunStatus.FAILED,
        "killed": RunStatus.INTERRUPTED,
    }
    first = runs["first"]
    largest = math.nextafter(math.inf, 0)
    kept = [math.copysign(largest, v) if math.isinf(v) else v for v in VALUES]
    assert series(first, "loss") == (STEPS, same(kept))
    assert "infinit" in first.flags["mlflow_infinities"]
    assert series(first, "val/acc") == ([50, 40, 40], [0.75, 0.5, 0.8])
    assert (first.config, first.project, first.notes) == (CONFIG, "demo", ("a note",))
    assert first.tags == ("team=a",)
    assert runs["child"].parent == first.source_id
    times = [point.time for point in first.points()]
    assert first.started <= times[0] <= times[-1] <= first.ended


def test_mlflow_folder(left_by):
    runs = by_name(mlflow.read(left_by("mlruns")))
    assert set(runs) == {"first", "child", "broken", "killed"}
    first = runs["first"]
    assert series(first, "loss") == (STEPS, same(VALUES))
    assert series(first, "val/acc") == ([50, 40, 40], [0.75, 0.5, 0.8])
    assert (first.config, first.project, first.notes) == (CONFIG, "demo", ("a note",))
    assert runs["child"].parent == first.source_id
    assert runs["broken"].status is RunStatus.FAILED


def test_trackio(left_by):
    (run,) = trackio.read(left_by("trackio"))
    assert series(run, "loss") == (STEPS, same(VALUES))
    assert (run.name, run.project, run.config) == ("first", "trackio", CONFIG | {"deep": {"k": 2}})
    assert run.left_out == {"values that are no numbers": len(VALUES)}
    assert run.status is RunStatus.COMPLETED
    assert "does not record how a run ended" in run.flags["imported_without_status"]


def test_tensorboard(left_by):
    runs = by_name(tensorboard.read(left_by("tensorboard")))
    assert set(runs) == {"first", "trial"}
    first = runs["first"]
    assert series(first, "loss") == (STEPS, same(map(as_float32, VALUES)))
    assert series(first, "val/acc") == ([40, 40], [0.5, 0.75])
    assert first.left_out == {"histograms": 1, "text": 1}
    assert runs["trial"].config == CONFIG | {"on": True}
    assert series(runs["trial"], "best") == ([0], [0.25])


def test_tensorboard_as_torch_writes_it(tmp_path):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for step, value in enumerate(VALUES):
            writer.add_scalar("old", value, step)
            writer.add_scalar("new", value, step, new_style=True, double_precision=True)
    (run,) = tensorboard.read(tmp_path)
    assert series(run, "new")[1] == same(VALUES)


def test_wandb():
    runs = by_name(wandb.read(FIXTURES))
    first = runs["first"]
    assert series(first, "loss") == (STEPS, same(VALUES))
    assert series(first, "val.acc") == (STEPS, [index / 10 for index in range(len(VALUES))])
    assert series(first, "best") == ([STEPS[-1]], [0.9])
    assert first.config == CONFIG | {"deep": {"k": 2}, "later": True}
    assert (first.project, first.group, first.tags) == ("demo", "g", ("a", "b"))
    assert first.notes == ("a note",)
    assert (first.status, runs["broken"].status) == (RunStatus.COMPLETED, RunStatus.FAILED)


def test_a_wandb_run_that_was_killed_is_lost_with_all_that_is_whole(tmp_path):
    whole = (FIXTURES / "first.wandb").read_bytes()
    for size in (len(whole) // 2, len(whole) // 2 + 1, len(whole) - 100):
        (tmp_path / "run.wandb").write_bytes(whole[:size])
        (run,) = wandb.read(tmp_path)
        assert run.status is RunStatus.LOST
        assert "no end" in run.flags["imported_without_end"]
        values = series(run, "loss")[1]
        assert values == same(VALUES)[: len(values)]


@pytest.mark.parametrize("reader", [mlflow, tensorboard, trackio, wandb])
def test_what_is_not_understood_is_refused(reader, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty"):
        list(reader.read(tmp_path / "empty"))
    for name in ("x.db", "x.wandb", "events.out.tfevents.1"):
        (tmp_path / name).write_bytes(b"this is no record of any kind, but long enough" * 9)
        with pytest.raises(DataError, match=r"x\.|events"):
            list(reader.read(tmp_path / name))


@pytest.mark.parametrize("reader", [mlflow, trackio])
def test_a_database_of_another_kind_is_refused(reader, left_by):
    other = left_by("trackio" if reader is mlflow else "mlflow")
    with pytest.raises(DataError, match=r"is not a database of .* as known: no "):
        list(reader.read(other))


@pytest.mark.parametrize(("reader", "name"), [(wandb, "first.wandb"), (tensorboard, "events")])
def test_a_damaged_record_is_said(reader, name, tmp_path, left_by):
    if reader is tensorboard:
        source = next(left_by("tensorboard").glob("events*"))
        name = source.name
    else:
        source = FIXTURES / name
    target = tmp_path / "damaged" / name
    target.parent.mkdir()
    shutil.copy(source, target)
    data = bytearray(target.read_bytes())
    data[len(data) // 2 if reader is wandb else 300] ^= 0xFF
    target.write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        list(reader.read(target))

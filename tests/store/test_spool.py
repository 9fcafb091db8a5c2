"""The files of a spool: what is in them survives, and what is torn or damaged is told apart."""

import json
import logging
import math
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest

from research_eval.errors import StoreError
from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.store import spool as spool_module
from research_eval.store.process import owner_here
from research_eval.store.segments import (
    MAGIC,
    OWNER_NAME,
    Array,
    Entry,
    Segment,
    read_segment,
    segment_paths,
    try_lock,
)
from research_eval.store.spool import Spool
from research_eval.testing.runs import new_run


@pytest.fixture
def spool(tmp_path):
    opened = Spool(tmp_path / "spools", owner_here("run-1"), segment_bytes=2000)
    yield opened
    opened.close()


def everything(spool):
    return [record for path in segment_paths(spool.folder) for record, _ in read_segment(path)]


def test_what_goes_in_comes_out_in_order_over_many_segments(spool):
    given = []
    for step in range(100):
        values = {"loss": step / 3, f"only {step % 7} 🦉": [math.inf, 5e-324][step % 2]}
        spool.log(values, step=-step)
        given.append((tuple(values), -step, tuple(values.values())))
    spool.record("flag", {"name": "f", "reason": "nul \0 and \ud800"})
    spool.array({"name": "load"}, b"\0\1" * 5000)
    *points, entry, array = everything(spool)
    assert len(segment_paths(spool.folder)) > 3
    assert [(p.names, p.step, p.values) for p in points] == given
    assert [p.seq for p in points] == list(range(100))
    assert (entry.kind, entry.payload["reason"]) == ("flag", "nul \0 and \ud800")
    assert array == Array({"name": "load"}, b"\0\1" * 5000)
    assert spool.records == 202


def test_a_segment_is_read_from_any_record_on(spool):
    for step in range(10):
        spool.log({"a": step} if step % 3 else {"b": step, "c": step}, step=step)
    (path,) = segment_paths(spool.folder)
    found = list(read_segment(path))
    for index, (_, end) in enumerate(found):
        assert list(read_segment(path, end)) == found[index + 1 :]


def test_a_torn_tail_ends_the_reading_wherever_it_is_torn(spool, tmp_path):
    for step in range(3):
        spool.log({"a": step}, step=step)
    (path,) = segment_paths(spool.folder)
    found, whole = list(read_segment(path)), path.read_bytes()
    torn = tmp_path / "000000.segment"
    for length in range(len(whole)):
        torn.write_bytes(whole[:length])
        expected = [(record, end) for record, end in found if end <= length]
        assert list(read_segment(torn)) == expected
        segment = Segment(torn)
        assert segment.remainder(max([segment.start, *(end for _, end in expected)])) == 0
        segment.close()


def test_damage_is_noticed_at_any_byte(spool, tmp_path):
    spool.log({"a": 1.0}, step=1)
    (path,) = segment_paths(spool.folder)
    whole = path.read_bytes()
    (record, _), damaged = next(read_segment(path)), tmp_path / "000000.segment"
    for index in range(len(MAGIC), len(whole)):
        damaged.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        assert [found for found, _ in read_segment(damaged)] != [record]


def test_the_spool_needs_neither_sqlalchemy_nor_numpy():
    script = "import sys, research_eval.store.writer; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"sqlalchemy", "numpy", "pandas", "torch", "pydantic"} & set(loaded)


@pytest.mark.parametrize(
    ("values", "step", "match"),
    [
        ({"a": "1.5"}, 1, "the value of 'a' is not a number: '1.5'"),
        ({"ok": 1.0, "a": None}, 1, "the value of 'a' is not a number: None"),
        ({"a": 10**400}, 1, "the value of 'a' is not a number: 1000"),
        ({"a": 1j}, 1, "the value of 'a' is not a number"),
        ({"a": 1.0}, 2**63, "64 bits"),
    ],
)
def test_what_is_no_number_is_refused_and_nothing_of_it_is_kept(spool, values, step, match):
    with pytest.raises(StoreError, match=match):
        spool.log(values, step=step)
    with pytest.raises(StoreError, match=r"a step is an integer, not 1\.5"):
        spool.log({"a": 1.0}, step=1.5)
    spool.log({"a": np.float32(2)}, step=np.int64(7))
    assert [(p.step, p.values) for p in everything(spool)] == [(7, (2.0,))]


def test_a_clock_that_goes_back_changes_no_order(path, monkeypatch):
    clock = iter([2e9, 1e9, 3e9, *[4e9] * 10])
    with Store.open(path, create=True) as store:
        writer = store.start(new_run())
        monkeypatch.setattr(spool_module.time, "time", lambda: next(clock))
        for value in (1.0, 2.0, 3.0):
            writer.log({"m": value}, step=5)
        writer.finish(RunStatus.COMPLETED)
        monkeypatch.undo()
        history = store.history("run-1", "m")
        assert history.values.tolist() == [1.0, 2.0, 3.0]
        assert history.times.tolist() == [2e9, 1e9, 3e9]
        assert store.run("run-1").value("m") == 3.0


def test_a_forked_child_is_refused_and_does_not_keep_the_spool_alive(spool):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        try:
            spool.log({"a": 1.0}, step=1)
        except StoreError as error:
            os.write(write, str(error).encode())
        signal.pause()
    said = os.read(read, 1000).decode()
    spool.log({"a": 2.0}, step=2)
    spool.close()
    descriptor = try_lock(spool.folder / OWNER_NAME)  # the child lives and does not hold it
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for each in (read, write):
        os.close(each)
    assert f"is recorded by process {os.getpid()}; a forked child starts a run of its own" in said
    assert descriptor is not None
    os.close(descriptor)
    assert [p.values for p in everything(spool)] == [(2.0,)]


@contextmanager
def files_limited_to(size):
    """Let no file of this process grow beyond a size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_once_and_what_is_missing_is_counted(path, caplog):
    with Store.open(path, create=True) as store:
        writer = store.start(new_run())
        with files_limited_to(20_000), caplog.at_level(logging.WARNING, "research_eval"):
            for step in range(1000):
                writer.log({f"m{i}": step for i in range(10)}, step=step)
        assert 0 < writer.unacknowledged < 10_000
        said = [each for each in caplog.messages if "what is missing is counted" in each]
        assert len(said) == 1
        assert "; free some space" in said[0]
        writer.finish(RunStatus.COMPLETED)
        run = store.run("run-1")
        assert run.metrics["m0"].count * 10 + writer.unacknowledged == 10_000
        assert f"{writer.unacknowledged} points" in run.flags["unacknowledged"]
        assert run.unacknowledged == writer.unacknowledged


def test_strict_raises_what_cannot_be_kept(tmp_path):
    spool = Spool(tmp_path, owner_here("run-1"), strict=True)
    with files_limited_to(1000):
        spool.log({"m": 0.0}, step=0)
        with pytest.raises(StoreError, match="cannot keep what run run-1 logs"):
            spool.array({}, bytes(1000))
    spool.log({"m": -1.0}, step=-1)
    *kept, told, last = everything(spool)
    assert told == Entry("unacknowledged", told.payload)
    assert (told.payload["count"], last.step, len(kept)) == (1, -1, 1)
    spool.close()


def test_a_folder_that_cannot_be_written_is_an_error_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file cannot keep records: Not a directory"):
        Spool(tmp_path / "file", owner_here("run-1"))


def test_many_names_and_a_long_parameter(path):
    long = "x" * 10**6
    config = json.dumps({"text": long})
    names = [f"metric {i}" for i in range(20_000)]
    with Store.open(path, create=True) as store:
        writer = store.start(new_run(full_config_json=config))
        writer.log(dict.fromkeys(names, 1.0), step=1)
        writer.set({"more": {"deep": long}})
        writer.finish(RunStatus.COMPLETED)
        run = store.run("run-1")
        assert json.loads(run.full_config_json) == {"text": long, "more": {"deep": long}}
        assert Counter(m.count for m in run.metrics.values()) == {1: 20_000}

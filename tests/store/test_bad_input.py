"""Whatever a program logs and whatever happens to a file has a defined outcome."""

import json
import math
import sqlite3
import struct
from contextlib import closing

import numpy as np
import pytest

from research_eval.errors import StoreError
from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.testing.runs import new_run, record

from .samples import fill


@pytest.fixture
def store(database_url):
    with Store.open(database_url, create=True) as opened:
        yield opened


def test_a_parameter_of_a_million_characters_is_kept_whole(store):
    text = "x🦉" * 500_000
    record(store, "run-1", {}, full_config_json=json.dumps({"prompt": text, "k": 1}))
    assert store.run("run-1").params["prompt"] == text
    assert [run.experiment_id for run in store.runs(filter="params.k == 1")] == ["run-1"]


def test_names_of_emoji_are_names(store):
    writer = store.start(new_run(experiment_name="🦉" * 100, tags=("🏷️",), project="👩‍🔬"))
    writer.log({"🎯/f1": 0.5, "👩‍🔬": 1.0}, step=1)
    writer.flag("🚩", "⚠️")
    writer.finish(RunStatus.COMPLETED)
    run = store.run("🦉" * 100)
    assert (run.tags, run.project, run.flags) == (("🏷️",), "👩‍🔬", {"🚩": "⚠️"})
    assert run.value("🎯/f1") == 0.5
    assert store.metric_names("run-1") == ["🎯/f1", "👩‍🔬"]


def test_a_hundred_thousand_names_fit_into_one_call(store):
    number = 100_000 if store.path else 10_000  # a server takes 10 s for them all
    writer = store.start(new_run())
    writer.log({f"m{i}": i for i in range(number)}, step=1)
    writer.finish(RunStatus.COMPLETED)
    assert len(store.metric_names("run-1")) == number
    assert store.history("run-1", f"m{number - 1}").values.tolist() == [number - 1]
    (run,) = store.runs(metrics=["m5"])
    assert run.value("m5") == 5.0


def test_every_bit_of_a_value_is_kept_but_the_sign_of_zero_in_a_file(store):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**64, size=2000, dtype=np.uint64)
    values = [*(v for v in bits.view(np.float64) if not math.isnan(v)), 5e-324, 1e308, -1e-310]
    writer = store.start(new_run())
    for step, value in enumerate(values):
        writer.log({"m": value}, step=step)
    writer.log({"zero": -0.0, "nan": float("nan")}, step=0)
    writer.finish(RunStatus.COMPLETED)
    assert store.history("run-1", "m").values.tobytes() == np.array(values).tobytes()
    assert math.isnan(store.history("run-1", "nan").values[0])
    zero = store.history("run-1", "zero").values[0]
    assert math.copysign(1.0, zero) == (1.0 if store.path else -1.0)


def test_steps_may_repeat_and_run_backwards(store):
    steps = [3, 2, 1, 2, 3, 3, -5, 0]
    writer = store.start(new_run())
    for number, step in enumerate(steps):
        writer.log({"m": number}, step=step)
    writer.finish(RunStatus.COMPLETED)
    history = store.history("run-1", "m")
    assert history.steps.tolist() == sorted(steps)
    assert sorted(history.values.tolist()) == list(range(len(steps)))
    assert store.run("run-1").metrics["m"].value == 7.0


@pytest.fixture
def filled(path):
    """A file with some pages of points, and the number of one of these pages."""
    with Store.open(path, create=True) as store:
        fill(store)
        for number in range(20):
            record(store, f"more-{number}", {f"m{i}": i for i in range(20)})
        with store._reading() as connection:
            of_points = "SELECT max(pageno) FROM dbstat WHERE name = 'metric_points'"
            page = connection.exec_driver_sql(of_points).scalar()
    return path, page


def read_everything(path):
    with Store.open(path, mode="ro") as store:
        for run in store.runs():
            for name in run.metrics:
                store.history(run.experiment_id, name)


def refused(path, content, match):
    path.write_bytes(content)
    with pytest.raises(StoreError, match=match) as caught:
        read_everything(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("lost", [1, 1000, 4096, 50_000])
def test_a_file_that_is_cut_off_is_noticed_on_opening(filled, lost):
    path, _page = filled
    content = path.read_bytes()
    size = len(content)
    refused(path, content[:-lost], rf"is cut off: {size - lost} of {size} bytes are there")


def test_a_page_of_rubbish_in_the_middle_is_one_line(filled):
    path, page = filled
    content = path.read_bytes()
    rubbish = b"\xa5" * 4096
    refused(
        path, content[: 4096 * (page - 1)] + rubbish + content[4096 * page :], "is damaged; copy"
    )


def test_a_file_without_its_header_is_no_database(filled):
    path, _page = filled
    refused(path, b"\0" * 16 + path.read_bytes()[16:], "is not a database; choose another file")


def test_a_file_of_another_program_stays_as_it_is(path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name)")
        other.commit()
    before = path.read_bytes()
    for how in ({"create": True}, {}, {"mode": "ro"}):
        with pytest.raises(StoreError, match="database of another program"):
            Store.open(path, **how)
    assert path.read_bytes() == before


def test_a_header_of_another_kind_of_file_is_refused(path):
    path.write_bytes(struct.pack("<I", 0x04034B50) + b"PK" * 5000)
    with pytest.raises(StoreError, match="is not a database; choose another file"):
        Store.open(path)

"""Tags, notes, names, the trash, and requests to stop."""

import pytest

from research_eval.errors import StoreError
from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.testing.runs import new_run, record, set_columns


@pytest.fixture
def store(database_url):
    with Store.open(database_url, create=True) as opened:
        yield opened


def ids(store, **asked):
    return [run.experiment_id for run in store.runs(sort="id", **asked)]


def test_tags_come_and_go(store):
    record(store, "a", {}, tags=("old",))
    store.tag("a", ["b", "old", "é \U0001f600", "b"])
    assert store.run("a").tags == ("b", "old", "é \U0001f600")
    store.tag("a", ["c"], remove=["b", "never there"])
    assert store.runs()[0].tags == ("c", "old", "é \U0001f600")
    with pytest.raises(StoreError, match="at least one character"):
        store.tag("a", ["d", " "])
    assert "d" not in store.run("a").tags


def test_notes_are_kept_in_order(store):
    record(store, "a", {})
    store.note("a", "first\nline")
    store.note("a", "second")
    found = store.run("a").notes
    assert [note.text for note in found] == ["first\nline", "second"]
    assert found[0].timestamp <= found[1].timestamp
    with pytest.raises(StoreError, match="at least one character"):
        store.note("a", " \n")


def test_a_run_is_renamed_and_keeps_its_id(store):
    record(store, "a", {})
    store.rename("a", "a better name")
    assert store.run("a better name").experiment_id == "a"
    with pytest.raises(StoreError, match="at least one character"):
        store.rename("a", "")


def test_a_run_in_the_trash_is_invisible_until_it_is_restored(store):
    for name in "abc":
        record(store, name, {"f1": ord(name)}, config_hash="same", experiment_name=f"run {name}")
    store.delete(["c", "b"])
    assert ids(store) == ["a"]
    assert ids(store, deleted=True) == ["b", "c"]
    assert store.runs(deleted=True)[0].deleted is not None
    assert [run.experiment_id for run in store.find(config_hash="same")] == ["a"]
    assert store.run("last").experiment_id == "a"
    assert store.run("best", by="f1:max").experiment_id == "a"
    assert store.info().runs == {RunStatus.COMPLETED: 1}
    assert list(store.frame("seed").index) == ["a"]
    with pytest.raises(StoreError, match="run c is in the trash; `research-eval runs restore c`"):
        store.run("c")
    with pytest.raises(StoreError, match="no run is called 'run c'"):
        store.run("run c")
    assert store.run("run c", deleted=True).experiment_id == "c"
    with pytest.raises(StoreError, match="run a is not in the trash"):
        store.run("a", deleted=True)
    store.restore(["c"])
    assert ids(store) == ["a", "c"]
    assert store.run("c").value("f1") == ord("c")


def test_deleting_takes_all_or_none_and_no_running_run(store):
    record(store, "a", {})
    store.start(new_run("b"))
    with pytest.raises(StoreError, match="run b still runs; nothing was deleted"):
        store.delete(["a", "b"])
    with pytest.raises(StoreError, match="there is no run x"):
        store.delete(["a", "x"])
    with pytest.raises(StoreError, match="there is no run x"):
        store.restore(["x"])
    assert ids(store) == ["a", "b"]


def test_a_lost_run_can_be_deleted(store):
    store.start(new_run("a")).flush()
    set_columns(store, "a", heartbeat="2020-01-01T00:00:00.000Z")
    store.delete(["a"])
    assert ids(store, deleted=True) == ["a"]


def test_a_writer_learns_that_its_run_is_asked_to_stop(store):
    made = store.start(new_run("a"))
    made.log({"m": 1.0}, step=1)
    made.flush()
    assert not made.stop_requested
    store.ask_to_stop("a")
    made.log({"m": 1.0}, step=2)
    made.flush()
    assert made.stop_requested
    assert store.run("a").stop_requested is not None
    made.finish(RunStatus.INTERRUPTED)
    with pytest.raises(StoreError, match="run a is INTERRUPTED; only a RUNNING one"):
        store.ask_to_stop("a")
    again = store.resume("a", step=1)
    again.log({"m": 1.0}, step=2)
    again.flush()
    assert not again.stop_requested


def test_a_read_only_store_edits_nothing(store, database_url):
    record(store, "a", {})
    with Store.open(database_url, mode="ro") as reader:
        for edit in (
            lambda: reader.tag("a", ["x"]),
            lambda: reader.note("a", "x"),
            lambda: reader.rename("a", "x"),
            lambda: reader.delete(["a"]),
            lambda: reader.restore(["a"]),
            lambda: reader.ask_to_stop("a"),
        ):
            with pytest.raises(StoreError, match="was opened read-only"):
                edit()


def test_nothing_is_written_beside_a_run_that_is_not_there(store):
    for edit in (
        lambda: store.tag("x", ["t"]),
        lambda: store.note("x", "n"),
        lambda: store.rename("x", "n"),
        lambda: store.ask_to_stop("x"),
    ):
        with pytest.raises(StoreError, match="there is no run x"):
            edit()

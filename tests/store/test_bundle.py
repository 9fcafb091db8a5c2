"""Runs travel in one file without loss, and a bad file changes nothing."""

import hashlib
import json
import sqlite3
import zipfile
from contextlib import closing

import pytest

from research_eval.errors import StoreError
from research_eval.store import Store
from research_eval.store.bundle import plan_export, write_bundle
from research_eval.store.importing import import_bundle
from research_eval.store.schema import experiments
from research_eval.testing.runs import new_run, record, set_columns

from .samples import contents, files, fill

EVERYTHING = ("checkpoint", "report")


@pytest.fixture
def source(tmp_path):
    with Store.open(tmp_path / "source.db", create=True) as opened:
        fill(opened)
        yield opened


@pytest.fixture
def target(database_url):
    with Store.open(database_url, create=True) as opened:
        yield opened


@pytest.fixture
def bundle(source, tmp_path):
    return exported(source, tmp_path / "runs.zip")


def exported(store, path, ids=("run-1", "run-2"), kinds=EVERYTHING):
    write_bundle(store, plan_export(store, ids, kinds), path)
    return path


def test_what_was_exported_comes_in_without_loss(source, target, bundle):
    done = import_bundle(target, bundle, as_new=False)
    assert contents(target) == contents(source)
    assert files(target) == files(source)
    assert (done.ids, done.skipped) == ({"run-1": "run-1", "run-2": "run-2"}, ())
    assert done.rows == sum(map(len, contents(source).values())) - 1  # without the study
    again = import_bundle(target, bundle, as_new=False)
    assert (again.ids, again.skipped, again.rows) == ({}, ("run-1", "run-2"), 0)
    assert contents(target) == contents(source)


def test_a_bundle_of_a_server_comes_into_a_file(target, tmp_path):
    fill(target)
    path = exported(target, tmp_path / "runs.zip")
    with Store.open(tmp_path / "new.db", create=True) as new:
        import_bundle(new, path, as_new=False)
        assert contents(new) == contents(target)
        assert files(new) == files(target)


def test_files_travel_by_kind_and_only_they_are_spoken_of(source, target, tmp_path):
    plan = plan_export(source, ["run-1"], ["report"])
    assert (len(plan.files), plan.file_bytes) == (1, 1000)
    write_bundle(source, plan, tmp_path / "small.zip")
    import_bundle(target, tmp_path / "small.zip", as_new=False)
    assert list(files(target)) == ["run-1/report.txt"]
    assert [artifact.kind for artifact in target.artifacts("run-1")] == ["report"]
    # The same run with more of its files is still the same run.
    whole = import_bundle(target, exported(source, tmp_path / "whole.zip"), as_new=False)
    assert whole.skipped == ("run-1",)


def test_the_parent_of_a_run_comes_along(source, target, tmp_path):
    plan = plan_export(source, ["run-2"], ())
    assert (plan.ids, plan.parents) == (("run-1", "run-2"), ("run-1",))
    write_bundle(source, plan, tmp_path / "child.zip")
    import_bundle(target, tmp_path / "child.zip", as_new=False)
    assert target.run("run-2").parent == "run-1"


def test_other_runs_of_the_same_ids_are_refused_or_get_new_ids(source, target, bundle):
    import_bundle(target, bundle, as_new=False)
    set_columns(target, "run-1", seed=7)
    before = contents(target), files(target)
    with pytest.raises(StoreError, match=r"other runs of the same ids .*run-1 \(in experiments\)"):
        import_bundle(target, bundle, as_new=False)
    assert (contents(target), files(target)) == before
    done = import_bundle(target, bundle, as_new=True)
    assert (done.ids, done.skipped) == ({"run-1": "run-1-2"}, ("run-2",))
    assert target.run("run-1-2").seed == source.run("run-1").seed
    assert [a.path for a in target.artifacts("run-1-2")] == [
        "run-1-2/model.bin",
        "run-1-2/report.txt",
    ]
    assert (target.artifact_dir / "run-1-2" / "report.txt").read_text() == "report.txt" * 100


def test_children_follow_a_parent_that_gets_a_new_id(target, bundle):
    record(target, "run-1", {"other": 1.0})
    record(target, "run-2", {"other": 1.0})
    import_bundle(target, bundle, as_new=True)
    assert target.run("run-2-2").parent == "run-1-2"
    assert target.run("run-1").value("other") == 1.0


def test_any_program_reads_a_bundle(bundle, tmp_path):
    with zipfile.ZipFile(bundle) as members:
        manifest = json.loads(members.read("manifest.json"))
        members.extract("runs.db", tmp_path / "out")
    assert manifest["runs"] == ["run-1", "run-2"]
    assert manifest["format"] == 1
    with closing(sqlite3.connect(tmp_path / "out" / "runs.db")) as database:
        assert database.execute("SELECT count(*) FROM metric_history").fetchone() == (12,)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_nothing_is_exported_that_cannot_be_whole(source, tmp_path):
    path = tmp_path / "runs.zip"
    (source.artifact_dir / "run-1" / "report.txt").write_text("changed")
    with pytest.raises(StoreError, match=r"report\.txt was changed after it was recorded"):
        exported(source, path)
    (source.artifact_dir / "run-1" / "report.txt").unlink()
    with pytest.raises(StoreError, match=r"cannot be written: .*report\.txt"):
        exported(source, path)
    path.touch()
    with pytest.raises(StoreError, match="exists already"):
        exported(source, path, kinds=())
    assert [each.name for each in tmp_path.glob("*runs.zip*")] == ["runs.zip"]


def rewritten(bundle, change):
    """Write a bundle anew after a change to its members, with a manifest that agrees."""
    with zipfile.ZipFile(bundle) as members:
        held = {name: members.read(name) for name in members.namelist() if name != "manifest.json"}
        manifest = json.loads(members.read("manifest.json"))
    change(held, manifest)
    manifest["files"] = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in held.items()
    }
    with zipfile.ZipFile(bundle, "w") as members:
        for name, content in (held | {"manifest.json": json.dumps(manifest)}).items():
            members.writestr(name, content)


def in_database(statement):
    def change(held, _manifest):
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(held["runs.db"])
            database.execute(statement)
            database.commit()
            held["runs.db"] = database.serialize()

    return change


def add_member(name):
    return lambda held, _manifest: held.update({name: b"evil"})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (add_member("../evil"), "would lie outside"),
        (add_member("/evil"), "would lie outside"),
        (add_member("artifacts/../../evil"), "would lie outside"),
        (add_member("artifacts\\..\\evil"), "would lie outside"),
        (add_member("evil"), "would lie outside"),
        (
            in_database("UPDATE artifacts SET path = '../../evil' WHERE kind = 'report'"),
            "would lie outside",
        ),
        (
            in_database("UPDATE artifacts SET path = 'run-2/x' WHERE kind = 'report'"),
            "would lie outside",
        ),
        (in_database("UPDATE experiments SET experiment_id = '../evil' WHERE id = 2"), "outside"),
        (in_database("UPDATE research_eval_version SET version_num = '9999'"), "newer version"),
        (in_database("DROP TABLE research_eval_version"), "database of another program"),
        (lambda held, _manifest: held.pop("runs.db"), "not those of its manifest"),
        (lambda _held, manifest: manifest.update(format=2), "has format 2"),
        (lambda held, _m: held.update({"runs.db": b"no database" * 1000}), "is not a database"),
    ],
)
def test_a_bundle_that_would_do_harm_is_refused(tmp_path, path, bundle, change, match):
    rewritten(bundle, change)
    with Store.open(path, create=True) as target:
        with pytest.raises(StoreError, match=match):
            import_bundle(target, bundle, as_new=False)
        assert target.runs() == []
        assert files(target) == {}
    assert list(tmp_path.rglob("evil*")) == []
    assert list(tmp_path.glob(".import*")) == []


def packed_wrongly(content):
    """Replace the beginning of what is compressed by bits that deflate does not know."""
    name, extra = (int.from_bytes(content[at : at + 2], "little") for at in (26, 28))
    start = 30 + name + extra
    content[start : start + 8] = b"\xff" * 8


def encrypted(content):
    """Say of the first member that it is encrypted."""
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1


@pytest.mark.parametrize(
    "how", ["cut", "flipped", "swapped", "empty", "text", packed_wrongly, encrypted]
)
def test_a_damaged_bundle_is_refused_and_nothing_is_imported(path, bundle, how):
    content = bytearray(bundle.read_bytes())
    if how == "cut":
        del content[len(content) // 2 :]
    elif how == "flipped":
        content[len(content) // 3] ^= 0xFF
    elif how == "empty":
        content.clear()
    elif how == "text":
        content[:] = b"not a zip"
    elif callable(how):
        how(content)
    bundle.write_bytes(content)
    if how == "swapped":
        with zipfile.ZipFile(bundle) as members:
            held = {name: members.read(name) for name in members.namelist()}
        held["artifacts/run-1/report.txt"] = b"tampered!!" * 100
        with zipfile.ZipFile(bundle, "w") as members:
            for name, data in held.items():
                members.writestr(name, data)
    with Store.open(path, create=True) as target:
        with pytest.raises(StoreError, match=r"is damaged or is not a bundle.*nothing was imp"):
            import_bundle(target, bundle, as_new=False)
        assert target.runs() == []
        assert files(target) == {}


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ({"sha256": "0" * 64, "bytes": 2**60}, "are free in"),
        ({"sha256": "0" * 64, "bytes": "1"}, "not those of its manifest"),
        (["sha256", "bytes"], "cannot be read"),
    ],
)
def test_a_manifest_that_lies_is_refused_before_anything_is_unpacked(path, bundle, told, match):
    with zipfile.ZipFile(bundle) as members:
        held = {name: members.read(name) for name in members.namelist()}
    manifest = json.loads(held["manifest.json"])
    manifest["files"]["runs.db"] = told
    held["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(bundle, "w") as members:
        for name, content in held.items():
            members.writestr(name, content)
    with (
        Store.open(path, create=True) as target,
        pytest.raises(StoreError, match=match),
    ):
        import_bundle(target, bundle, as_new=False)


def test_a_missing_bundle_is_one_line(path, tmp_path):
    with (
        Store.open(path, create=True) as target,
        pytest.raises(StoreError, match=r"nothing\.zip cannot be unpacked: .*No such file"),
    ):
        import_bundle(target, tmp_path / "nothing.zip", as_new=False)


def test_a_running_run_is_exported_as_far_as_it_is(path, tmp_path):
    with Store.open(path, create=True) as store:
        writer = store.start(new_run())
        writer.log({"m": 1.0}, step=1)
        writer.flush()
        exported(store, tmp_path / "now.zip", ["run-1"], ())
        with Store.open(tmp_path / "new.db", create=True) as target:
            import_bundle(target, tmp_path / "now.zip", as_new=False)
            assert target.history("run-1", "m").values.tolist() == [1.0]
            with target._reading() as connection:
                assert connection.scalar(experiments.select().with_only_columns(
                    experiments.c.status)) == "RUNNING"  # fmt: skip  # one question

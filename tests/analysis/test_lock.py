"""What a lock pins comes out again to the byte, or nothing does; and what is anonymous stays so."""

import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from research_eval.analysis import Request, analyze, analyze_again
from research_eval.analysis.paper.lock import LOCK_FILE
from research_eval.errors import ConfigError, StoreError
from research_eval.testing.runs import set_columns

AGAIN = """
import sys
from pathlib import Path
from research_eval.analysis import analyze_again
from research_eval.store import Store
with Store.open(sys.argv[1], mode="ro") as store:
    analyze_again(store, Path(sys.argv[2]), folder=Path(sys.argv[3]))
"""


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def paper(lab, tmp_path):
    """Return a function that writes a paper of six runs into a folder, and the folder."""

    def write(**more):
        for arm, scores in (("dense", (0.70, 0.72, 0.71)), ("moe", (0.80, 0.82, 0.81))):
            lab.seeds(arm, scores, metrics={"final_test_f1": 0.5}, **more)
        folder = tmp_path / "paper"
        analyze(lab.store, Request(candidate="moe"), folder=folder, paper_width=3.25)
        return folder

    return write


def again(lab, lock, folder):
    analyze_again(lab.store, lock, folder=folder)
    return contents(folder)


def test_the_same_bytes_come_out_in_another_process_when_the_store_has_gained_runs(
    lab, paper, tmp_path
):
    written = paper()
    lab.seeds("moe", [0.99, 0.98], config={"better": True})
    lab.run("goe", 0.9)
    lab.run("moe", 0.1, dataset_name="other")
    lab.store.tag("run0000", ["camera-ready"])
    later = tmp_path / "later"
    command = [sys.executable, "-W", "error", "-c", AGAIN]
    done = subprocess.run(
        [*command, str(lab.path), str(written / LOCK_FILE), str(later)],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert contents(later) == contents(written)
    assert len(contents(later)) > 10


def test_a_lock_names_no_place(lab, paper):
    text = (paper() / LOCK_FILE).read_text()
    assert str(lab.path.parent) not in text
    lock = json.loads(text)
    assert list(lock["data"][0]["runs"]) == [f"run{place:04}" for place in range(6)]
    assert lock["data"][0]["question"]["candidate"] == "moe"


def test_runs_that_are_gone_deleted_or_changed_are_named_and_nothing_is_written(
    lab, paper, tmp_path
):
    lock = paper() / LOCK_FILE
    set_columns(lab.store, "run0001", status="FAILED")
    set_columns(lab.store, "run0002", experiment_name="renamed")
    set_columns(lab.store, "run0003", deleted="2026-01-01T00:00:00+00:00")
    tree = json.loads(lock.read_text())
    tree["data"][0]["runs"]["run9999"] = tree["data"][0]["runs"]["run0000"]
    lock.write_text(json.dumps(tree))
    with pytest.raises(StoreError) as told:
        analyze_again(lab.store, lock, folder=tmp_path / "later")
    assert str(told.value) == (
        "the lock pins 7 runs, and not all are there as they were; in the trash (research-eval "
        "runs restore ID): run0003; not in this database: run9999; changed since: run0001 (was "
        "COMPLETED, is FAILED), run0002 (its record). Nothing was written"
    )
    assert not (tmp_path / "later").exists()


def test_what_decides_is_told_with_both_values(lab, paper, tmp_path):
    lock = paper() / LOCK_FILE
    tree = json.loads(lock.read_text())
    tree["data"][0]["runs"]["run0000"]["value"] = 0.75
    lock.write_text(json.dumps(tree))
    with pytest.raises(StoreError, match=r"run0000 \(was 0.75, is 0.7\)"):
        analyze_again(lab.store, lock, folder=tmp_path / "later")


@pytest.mark.parametrize("version", ["1.0.0", None])
def test_other_bytes_are_not_written_and_the_version_is_told(lab, paper, tmp_path, version):
    lock = paper() / LOCK_FILE
    tree = json.loads(lock.read_text())
    tree["data"][0]["files"]["parity_seeds.pdf"] = "0"
    tree["made_with"]["matplotlib"] = version or tree["made_with"]["matplotlib"]
    lock.write_text(json.dumps(tree))
    with pytest.raises(ConfigError) as told:
        analyze_again(lab.store, lock, folder=tmp_path / "later")
    assert "1 of" in str(told.value)
    assert "parity_seeds.pdf" in str(told.value)
    assert ("matplotlib was 1.0.0 and is" in str(told.value)) == (version is not None)
    assert not (tmp_path / "later").exists()


BROKEN = {
    "no JSON": "{",
    "another file": "{}",
    "another version": '{"format": 2}',
    "a list": "[]",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_lock_is_refused_in_one_line(lab, tmp_path, text):
    lock = tmp_path / "paper.lock.json"
    lock.write_text(text)
    with pytest.raises(ConfigError, match="is no lock of version 1") as told:
        analyze_again(lab.store, lock, folder=tmp_path / "later")
    assert "\n" not in str(told.value)


# ---------------------------------------------------------------------------- anonymous

WHO = {
    "host": "zeus-lab-17",
    "argv": json.dumps(["/home/mmusterfrau/bin/research-eval", "run", "/home/mmusterfrau/a.json"]),
    "env_details_json": json.dumps(
        {"user": "mmusterfrau", "git_remote": "git@github.com:musterlab/secret-idea.git"}
    ),
    "project": "musterlab-private",
    "hardware": "cpu:zeus-lab-17:1 threads",
}
SECRET = re.compile(rb"musterfrau|zeus|musterlab|secret-idea", re.IGNORECASE)


def unpacked(pdf):
    """Return a PDF with its streams unpacked, fonts included."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    return pdf + b"".join(zlib.decompressobj().decompress(each) for each in streams)


def test_nothing_that_is_written_says_who_and_what_was_removed_is_told(lab, tmp_path):
    plug_in = "/home/mmusterfrau/ideas/mine.py:Mine"
    timing = {"inference_latency_ms_batch_p50": 1.0}
    for arm, scores in (("dense", (0.70, 0.72, 0.71)), (plug_in, (0.80, 0.82, 0.81))):
        lab.seeds(arm, scores, metrics=timing, flags={"slow": "on zeus-lab-17"}, **WHO)
    removed = []
    request = Request(candidate=plug_in)
    (plain,) = analyze(lab.store, request, folder=tmp_path / "plain", paper_width=3.25)
    (clean,) = analyze(
        lab.store,
        request,
        folder=tmp_path / "anonymous",
        command="research-eval analyze --db /home/mmusterfrau/runs.db",
        paper_width=3.25,
        on_removed=removed.append,
    )
    assert any(SECRET.search(content) for content in contents(tmp_path / "plain").values())
    for name, content in contents(tmp_path / "anonymous").items():
        text = unpacked(content) if name.endswith(".pdf") else content
        assert not SECRET.search(text + name.encode()), name
    kinds = {each.kind for each in removed[0].account}
    assert {"host", "path", "project"} <= kinds
    means = [sorted(report.section("seeds").table["mean"]) for report in (plain, clean)]
    assert means[0] == means[1]
    later = again(lab, tmp_path / "anonymous" / LOCK_FILE, tmp_path / "later")
    assert later == contents(tmp_path / "anonymous")


def test_neither_a_study_nor_a_group_says_who(lab, tmp_path):
    lab.store.save_study("musterlab-private", json.dumps({"asked": {}}))
    for name, origin in (("base", {}), ("variant", {"origin": {"changed": {"lr": 0.1}}})):
        place = {"group": "mmusterfrau-parts", "study": "musterlab-private"}
        lab.seeds("moe", (0.7, 0.72), config={"lr": len(name) / 40} | origin, **place, **WHO)
    request = Request(ablation="mmusterfrau-parts")
    (report,) = analyze(
        lab.store, request, folder=tmp_path / "a", paper_width=3.25, on_removed=lambda _: None
    )
    assert report.section("ablation").table is not None
    assert not any(SECRET.search(each) for each in contents(tmp_path / "a").values())
    lock = tmp_path / "a" / LOCK_FILE
    assert again(lab, lock, tmp_path / "later") == contents(tmp_path / "a")
    lab.store.save_study("musterlab-private", json.dumps({"asked": {"n_trials": 3}}))
    with pytest.raises(StoreError, match=r"study that was asked for something else.*: run0000"):
        analyze_again(lab.store, lock, folder=tmp_path / "changed")


def test_commits_without_names_are_still_told_apart(lab, tmp_path):
    for seed, commit in enumerate(("a" * 40, "b" * 40)):
        lab.run("moe", 0.5, seed, git_commit=commit)
    (report,) = analyze(lab.store, Request(), folder=tmp_path, on_removed=lambda _: None)
    assert "at several commits" in " ".join(report.section("provenance").sentences)


def test_studies_and_evaluations_are_still_found_when_their_names_say_who(lab, tmp_path):
    for arm in ("dense", "moe"):
        for trial in range(3):
            place = {"study": "musterlab-private", "trial": trial, "phase": "search"}
            lab.run(arm, 0.5 + trial / 10, config={"trial": trial}, **place, **WHO)
    reports = [
        analyze(lab.store, Request(), folder=tmp_path / name, on_removed=on_removed)[0]
        for name, on_removed in (("plain", None), ("anonymous", lambda _: None))
    ]
    for name in ("budget_curve", "seeds", "contrasts"):
        tables = [report.section(name).table for report in reports]
        assert tables[0].select_dtypes("number").equals(tables[1].select_dtypes("number"))
    assert not any(SECRET.search(each) for each in contents(tmp_path / "anonymous").values())


def test_a_folder_that_is_a_file_is_told_before_anything_is_written(lab, paper, tmp_path):
    lock = paper() / LOCK_FILE
    Path(tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        analyze_again(lab.store, lock, folder=tmp_path / "file")

"""A bundle does not tell who made it, and is still worth something."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load, save_file

from research_eval.store import Store
from research_eval.store.verify import verify
from research_eval.testing.runs import new_run

from .conftest import NAMES, ROUTER, sql

SECRETS = (
    "wunderlich",
    "gpu-node-17",
    "cs.acme.edu",
    "acme-lab",
    "secret-moe",
    "Müller",
    "M&uuml;ller",
    "0123456789abcdef0123456789abcdef01234567",
    "/mnt/groups",
    "hush-hush",
    "b89b3ae7-edbc",
)
"""Of the one who made the runs; nothing of it may be in what leaves."""

DETAILS = {
    "user": "wunderlich",
    "base_dir": "/home/wunderlich/secret-moe",
    "data_source": "/mnt/groups/acme-lab/data.csv",
    "author": "José Müller",
    "email": "jmueller@cs.acme.edu",
    "git_remote": "git@github.com:acme-lab/secret-moe.git",
    "installed": {"torch": "2.10.0", "hush-hush": "0.1"},
    "packages": {"torch": "2.10.0"},
    "threads": 1,
}
TRACEBACK = """Traceback (most recent call last):
  File "/home/wunderlich/secret-moe/train.py", line 3, in <module>
  File "/mnt/groups/acme-lab/env/lib/python3.11/site-packages/torch/nn/modules/linear.py", line 1
OSError: [Errno 2] gpu-node-17: '/mnt/groups/acme-lab/My Data/x.csv' (ask jmueller@cs.acme.edu)
"""
DIFF = """diff --git a/x.py b/x.py
+# José Müller, https://wandb.ai/acme-lab/secret-moe
+root = "/home/wunderlich/secret-moe"
"""
REPORT = (
    '<html><head><meta name="author" content="Jos&eacute; M&uuml;ller Wunderlich"></head>'
    '<td title="/home/wunderlich/secret-moe">gpu-node-17.cs.acme.edu</td></html>'
)


@pytest.fixture
def hostile(cli, with_router):
    """Record a run with a plug-in and one with everything else, on a machine that tells a lot."""
    Path("router.py").write_text(f'"""By José Müller (wunderlich@cs.acme.edu)."""\n{ROUTER}')
    assert cli("run", with_router).code == 0
    sql("UPDATE experiments SET host = 'gpu-node-17.cs.acme.edu', argv = ?, env_details_json = "
        "json_patch(env_details_json, ?), error = ?, git_diff = ?, git_commit = ?, process = ?",
        json.dumps(["/home/wunderlich/bin/research-eval", "run", "--db", "postgresql://m@db.acme/x"]),
        json.dumps(DETAILS), TRACEBACK, DIFF, SECRETS[7], f"{SECRETS[-1]} 1")  # fmt: skip
    sql("UPDATE attempts SET host = 'gpu-node-17'")
    with Store.open(NAMES) as store:
        config = {"user": "wunderlich", "data_dir": "/mnt/groups/acme-lab/d", "model": "moe"}
        writer = store.start(
            new_run(
                "wunderlich-1",
                full_config_json=json.dumps(config),
                env_details_json=json.dumps(DETAILS),
                host="gpu-node-17",
                project="hush-hush",
                tags=("acme-lab", "paper"),
                group="wunderlich's",
                seed=0,
            )
        )
        writer.log({"acme-lab/score": 0.25, "final_val_f1": 0.5}, step=1)
        writer.flag("of_wunderlich", "see /home/wunderlich/notes.txt")
        for kind, name, text in (
            ("report", "report.html", REPORT),
            ("log", "wunderlich.log", f"{TRACEBACK}{DIFF}"),
            ("file", "facts.json", json.dumps(DETAILS)),
        ):
            (writer.folder / name).write_text(text)
            writer.artifact(kind, writer.folder / name)
        writer.finish("COMPLETED")
    return Path.cwd()


def unpacked(bundle):
    """Return the content of every member by its name."""
    with zipfile.ZipFile(bundle) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def export(cli, *options):
    return cli("runs", "export", "--filter", "seed == 0", "--with", "all", "-o", "a.zip", *options)


def test_nothing_that_tells_who_or_where_is_left(cli, hostile):
    said = export(cli, "--anonymous")
    assert said.code == 0, said.err
    members = unpacked("a.zip")
    assert len([name for name in members if name.startswith("artifacts/")]) == 5
    for name, content in members.items():
        for secret in (*SECRETS, str(hostile)):
            spellings = {secret.lower().encode(), json.dumps(secret)[1:-1].lower().encode()}
            for spelling in spellings:
                assert spelling not in content.lower(), f"{secret} in {name}"
                assert spelling not in name.lower().encode()
    with zipfile.ZipFile("a.zip") as opened:
        assert {entry.date_time[0] for entry in opened.infolist()} == {1980}, "no time zone"
    told = {line.split()[0] for line in said.err.splitlines() if line}
    assert {"host", "user", "path", "person", "email", "url", "commit", "project"} <= told


@pytest.mark.usefixtures("hostile")
def test_without_the_option_it_all_travels(cli):
    assert export(cli).code == 0
    everything = b"".join(unpacked("a.zip").values())
    assert all(secret.encode() in everything for secret in ("wunderlich", "gpu-node-17"))


@pytest.mark.usefixtures("hostile")
def test_what_is_left_means_what_it_did(cli):
    with Store.open(NAMES, mode="ro") as store:
        before = store.run("last")
    export(cli, "--anonymous")
    said = cli("runs", "import", "a.zip", "--db", "theirs.db")
    assert said.code == 0, said.err
    with Store.open("theirs.db", mode="ro") as store:
        assert [check for check in verify(store) if check.problems] == []
        (imported,) = (run for run in store.runs() if run.project == "anon_project_1")
        (trained,) = (run for run in store.runs() if run.config_hash)
    assert {name: m.value for name, m in imported.metrics.items()} == {
        "anon_team_1/score" if "acme" in name else name: m.value
        for name, m in before.metrics.items()
    }
    assert imported.group == f"{imported.params['user']}'s", "one name for one thing"
    assert imported.params["model"] == "moe"
    assert "site-packages/torch/nn/modules/linear.py" in trained.error
    assert json.loads(trained.env_details_json)["installed"]["torch"] == "2.10.0"


def test_an_anonymous_bundle_is_reproduced(cli, hostile, elsewhere):
    export(cli, "--anonymous")
    elsewhere()
    said = cli("reproduce", hostile / "a.zip", "--trust", "--format", "json")
    assert said.code == 0, said.err
    assert {row["verdict"] for row in said.json} == {"bit-equal"}
    assert "names were taken out of its plug-in" in said.err


def picture(path):
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff Author wunderlich \x00")


def table(path):
    rows = {"annotator": ["wunderlich"] * 100}
    pq.write_table(pa.table(rows), path, compression="zstd", use_dictionary=False)


def archive(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("notes.txt", "wunderlich " * 100)


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    ("name", "write"), [("plot.png", picture), ("rows.parquet", table), ("all.zip", archive)]
)
def test_a_file_that_cannot_be_changed_is_refused_by_name(cli, name, write):
    with Store.open(NAMES) as store:
        writer = store.start(new_run("other", seed=0))
        write(writer.folder / name)
        writer.artifact("file", writer.folder / name)
        writer.finish("COMPLETED")
    said = export(cli, "--anonymous")
    assert said.code == 4
    assert name in said.errors[0]
    assert not Path("a.zip").exists()
    assert cli("runs", "export", "other", "--anonymous", "-o", "b.zip").code == 0


def recorded(*, tags=(), files=(), tensors=None):
    """Record a run of wunderlich."""
    with Store.open(NAMES, create=True) as store:
        run = new_run("r", env_details_json=json.dumps(DETAILS), seed=0, tags=tags)
        writer = store.start(run)
        for name in files:
            (writer.folder / name).write_text("")
            writer.artifact("log", writer.folder / name)
        if tensors is not None:
            save_file(tensors, writer.folder / "model.safetensors")
            writer.artifact("checkpoint", writer.folder / "model.safetensors")
        writer.finish("COMPLETED")


def test_tensors_are_called_like_the_attributes_of_a_plug_in(cli):
    recorded(tensors={"wunderlich_gate.weight": np.arange(3.0)})
    assert export(cli, "--anonymous").code == 0
    (content,) = (each for name, each in unpacked("a.zip").items() if name.endswith("tensors"))
    ((name, values),) = load(content).items()
    assert name == "anon_user_1_gate.weight"
    assert values.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "told",
    [
        {"tags": ("wunderlich", "Wunderlich")},
        {"files": ("wunderlich.log", "Wunderlich.log")},
    ],
)
def test_two_things_that_would_become_one_are_refused(cli, told):
    recorded(**told)
    said = export(cli, "--anonymous")
    assert (said.code, len(said.errors)) == (4, 1), said.err
    assert not Path("a.zip").exists()


@pytest.mark.usefixtures("hostile")
def test_only_a_bundle_can_be_anonymous(cli):
    assert export(cli, "--anonymous", "--format", "csv").code == 2

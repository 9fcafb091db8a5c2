"""`db` and bundles as a user meets them: what is said, what is refused, exit codes."""

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from research_eval.records import NewRun, RunStatus
from research_eval.store import Store

DATABASE = "experiment_results.db"


def record(store, experiment_id, *, top_k=1, metrics=None):
    new = NewRun(
        experiment_id=experiment_id,
        run_type="json",
        experiment_name=f"run {experiment_id}",
        full_config_json=json.dumps({"model_params": {"top_k": top_k}}),
        env_details_json="{}",
    )
    writer = store.start(new)
    writer.log(metrics or {"final_val_f1": 0.5}, step=7)
    (writer.folder / "report.txt").write_text("good")
    writer.artifact("report", writer.folder / "report.txt")
    writer.finish(RunStatus.COMPLETED)


@pytest.fixture(autouse=True)
def _recorded():
    with Store.open(DATABASE, create=True) as store:
        record(store, "aaa", top_k=1, metrics={"final_val_f1": 0.5, "loss": float("nan")})
        record(store, "bbb", top_k=2)


def ids(path=DATABASE):
    with Store.open(path, mode="ro") as store:
        return sorted(run.experiment_id for run in store.runs())


def change(statement):
    with closing(sqlite3.connect(DATABASE)) as database:
        database.execute(statement)
        database.commit()


def test_a_copy_is_made_counted_and_not_made_twice(cli):
    said = cli("db", "copy", DATABASE, "copy.db")
    assert said.code == 0
    assert "copied and compared: 2 experiments" in said.err
    assert "2 files, 8 B, into" in said.err
    assert said.err.splitlines()[-1].endswith("copy.db")
    assert ids("copy.db") == ["aaa", "bbb"]
    again = cli("db", "copy", DATABASE, "copy.db")
    assert again.code == 4
    assert "2 of the 2 runs" in again.errors[0]
    assert len(again.errors) == 1
    said = cli("db", "copy", DATABASE, "third.db", "--no-files")
    assert "the files stay in" in said.err
    assert not Path("third.db.artifacts").exists()


def test_a_copy_needs_a_source(cli):
    said = cli("db", "copy", "nothing.db", "copy.db")
    assert said.code == 4
    assert "there is no database" in said.errors[0]
    assert not Path("copy.db").exists()


def test_verify_passes_a_sound_store_and_names_what_is_wrong(cli):
    said = cli("db", "verify")
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()[2:]] == [
        "pages",
        "references",
        "spools",
        "summaries",
        "files",
    ]
    change("UPDATE metrics SET metric_value = 1 WHERE metric_name = 'final_val_f1'")
    said = cli("db", "verify")
    assert said.code == 4
    assert "run aaa, final_val_f1: the summary does not follow from the points" in said.err
    assert "db verify --repair" in said.errors[-1]
    said = cli("db", "verify", "--repair")
    assert said.code == 0
    assert "summaries of 2 runs were wrong and are made anew" in said.err
    Path(f"{DATABASE}.artifacts", "aaa", "report.txt").write_text("evil")
    said = cli("db", "verify", "--format", "json")
    assert said.code == 4
    (files,) = (check for check in said.json if check["name"] == "files")
    assert files["problems"][0].endswith("report.txt was changed after it was recorded")


def test_gc_says_first_and_removes_only_when_asked(cli):
    assert cli("runs", "delete", "aaa").code == 0
    said = cli("db", "gc", "--dry-run")
    assert "to remove: 1 runs with 2 points, 1 folders with 4 B" in said.err
    assert "nothing was removed" in said.err
    assert cli("runs", "restore", "aaa").code == 0
    assert cli("runs", "delete", "aaa").code == 0
    said = cli("db", "gc")
    assert said.code == 0
    assert "smaller, files 4 B" in said.err
    assert ids() == ["bbb"]
    assert not Path(f"{DATABASE}.artifacts", "aaa").exists()
    assert cli("runs", "restore", "aaa").code == 4
    assert "to remove: 0 runs" in cli("db", "gc").err


def test_stats_show_tables_and_the_largest_runs(cli):
    said = cli("db", "stats")
    assert said.code == 0
    assert "metric_points" in said.out
    assert "3 points of " in said.err
    found = cli("db", "stats", "--format", "json").json
    assert found["tables"]["experiments"]["rows"] == 2
    assert list(found["largest"]) == ["aaa", "bbb"]
    assert found["largest"]["aaa"]["points"] == 2


def test_upgrade_keeps_a_copy_once(cli):
    golden = Path(__file__).parents[1] / "store" / "golden" / "0001.sql"
    with closing(sqlite3.connect("old.db")) as database:
        database.executescript(golden.read_text(encoding="utf-8"))
    said = cli("runs", "list", "--db", "old.db")
    assert said.code == 4
    assert "research-eval db upgrade --db" in said.errors[0]
    said = cli("db", "upgrade", "--db", "old.db")
    assert said.code == 0
    assert "as it was before: " in said.err
    assert cli("runs", "list", "--db", "old.db").code == 0
    said = cli("db", "upgrade", "--db", "old.db")
    assert said.code == 0
    assert "as it was before" not in said.err


def test_a_bundle_goes_out_and_comes_in(cli):
    said = cli("runs", "export", "aaa", "-o", "one.zip", "--with", "reports")
    assert said.code == 0
    assert "1 runs with" in said.err
    assert "1 files, 4 B" in said.err
    Path("bad.zip").write_text("not a bundle")
    for bad in ("bad.zip", "none.zip"):
        assert cli("runs", "import", bad, "--db", "other.db").code == 4
    assert not Path("other.db").exists()
    said = cli("runs", "import", "one.zip", "--db", "other.db")
    assert said.code == 0
    assert said.err.splitlines()[-1] == "next: research-eval runs show aaa"
    assert ids("other.db") == ["aaa"]
    assert Path("other.db.artifacts", "aaa", "report.txt").read_text() == "good"
    said = cli("runs", "import", "one.zip", "--db", "other.db")
    assert said.code == 0
    assert "1 were here already, just so: aaa" in said.err
    assert cli("runs", "rename", "aaa", "mine", "--db", "other.db").code == 0
    said = cli("runs", "import", "one.zip", "--db", "other.db")
    assert said.code == 4
    assert "--as-new" in said.errors[0]
    said = cli("runs", "import", "one.zip", "--as-new", "--db", "other.db")
    assert "run aaa is here as aaa-2" in said.err


def test_a_filter_chooses_what_is_exported(cli):
    said = cli("runs", "export", "--filter", "model_params.top_k >= 2", "-o", "two.json",
               "--format", "json")  # fmt: skip  # one command
    assert said.code == 0
    (row,) = json.loads(Path("two.json").read_text())
    assert (row["experiment_id"], row["model_params.top_k"]) == ("bbb", 2)
    said = cli("runs", "export", "--filter", "model_params.top_k > 9", "-o", "none.zip")
    assert (said.code, Path("none.zip").exists()) == (2, False)


def test_flat_tables_keep_nan_apart_from_nothing(cli):
    everything = ["--filter", "status == 'COMPLETED'"]
    for form in ("csv", "json", "parquet"):
        assert cli("runs", "export", *everything, "-o", f"t.{form}", "--format", form).code == 0
    with Path("t.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["experiment_id"]: row for row in csv.DictReader(file)}
    assert (rows["aaa"]["metrics.loss"], rows["bbb"]["metrics.loss"]) == ("nan", "")
    rows = {row["experiment_id"]: row for row in json.loads(Path("t.json").read_text())}
    assert (rows["aaa"]["metrics.loss"], "metrics.loss" in rows["bbb"]) == ("NaN", False)
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = {row["experiment_id"]: row for row in parquet.read_table("t.parquet").to_pylist()}
    assert rows["aaa"]["metrics.loss"] != rows["aaa"]["metrics.loss"]
    assert rows["bbb"]["metrics.loss"] is None
    assert rows["bbb"]["metrics.final_val_f1"] == 0.5


def test_parquet_without_pyarrow_is_one_line(cli, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    said = cli("runs", "export", "aaa", "-o", "t.parquet", "--format", "parquet")
    assert said.code == 4
    assert "pip install pyarrow" in said.errors[0]
    assert not Path("t.parquet").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["aaa"], "name the file to write"),
        (["-o", "x.zip"], "name runs, or choose them"),
        (["aaa", "-o", "x.zip", "--with", "checkponits"], "did you mean 'checkpoint'"),
        (["aaa", "-o", "x.csv", "--format", "csv", "--with", "all"], "only a bundle carries files"),
    ],
)
def test_an_export_that_cannot_be_meant_is_refused(cli, words, says):
    said = cli("runs", "export", *words)
    assert said.code == 2
    assert says in said.errors[0]
    assert list(Path().glob("x.*")) == []


def test_what_is_there_is_not_written_over(cli):
    for name, form in (("t.csv", "csv"), ("t.zip", "bundle")):
        Path(name).write_text("mine")
        said = cli("runs", "export", "aaa", "-o", name, "--format", form)
        assert said.code == 4
        assert "exists already" in said.errors[0]
        assert Path(name).read_text() == "mine"

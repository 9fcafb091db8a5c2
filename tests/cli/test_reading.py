"""`runs` and `db`: what is recorded, shown in any form, without changing or loading anything."""

import csv
import io
import json
import math
from pathlib import Path

import pytest

from research_eval.records import NewRun, RunStatus
from research_eval.store import Store


def record(store, experiment_id, *, status=RunStatus.COMPLETED, error=None, metrics=None, **fields):
    """Record a run that is over at once."""
    config = {"training_params": {"monitor": "val_f1:max"}, "epochs": 3}
    new = NewRun(
        experiment_id=experiment_id,
        run_type="json",
        experiment_name=fields.pop("experiment_name", f"run {experiment_id}"),
        full_config_json=json.dumps(config),
        env_details_json=json.dumps({"python": "3.11"}),
        **fields,
    )
    writer = store.start(new)
    writer.log(metrics or {"final_val_f1": 0.5}, step=7)
    writer.finish(status, error=error)
    return writer


@pytest.fixture
def store():
    with Store.open("experiment_results.db", create=True) as opened:
        yield opened


def test_runs_are_listed_newest_first_with_their_score(cli, store):
    record(store, "aaaaaaaaaaaa", project="p", model_type="moe", dataset_name="parity", seed=3)
    record(store, "bbbbbbbbbbbb", status=RunStatus.DIVERGED, metrics={"final_val_f1": math.nan})
    said = cli("runs", "list")
    assert said.code == 0
    _head, _rule, second, first = said.out.splitlines()
    assert first.split()[:6] == ["aaaaaaaa", "run", "aaaaaaaaaaaa", "moe", "parity", "3"]
    assert "final_val_f1" in first
    assert "0.5" in first
    assert "diverged" in second
    assert "nan" in second
    assert not any(line.endswith(" ") for line in said.out.splitlines())


def test_the_list_can_be_filtered_and_cut(cli, store):
    record(store, "aaaaaaaaaaaa", project="p", model_type="moe", dataset_name="parity")
    record(store, "bbbbbbbbbbbb", status=RunStatus.FAILED, model_type="dense", project="q")

    def listed(*options):
        rows = cli("runs", "list", "--format", "json", *options).json
        return [row["experiment_id"][0] for row in rows]

    assert listed() == ["b", "a"]
    assert listed("--limit", "1") == ["b"]
    assert listed("--project", "p") == ["a"]
    assert listed("--model-type", "dense") == ["b"]
    assert listed("--dataset-name", "parity") == ["a"]
    assert listed("--status", "failed") == ["b"]
    assert listed("--project", "nobody") == []
    assert cli("runs", "list", "--status", "odd").code == 2
    assert cli("runs", "list", "--limit", "0").code == 2


def test_flags_stand_beside_scores_in_words(cli, store):
    record(store, "aaaaaaaaaaaa")
    new = NewRun(
        experiment_id="bbbbbbbbbbbb",
        run_type="json",
        experiment_name="b",
        full_config_json="{}",
        env_details_json="{}",
    )
    flagged = store.start(new)
    flagged.flag("below_loss_floor", "final_val_loss 0.1 is below 0.2")
    flagged.finish(RunStatus.COMPLETED)
    assert "below loss floor" in cli("runs", "list").out
    assert "final_val_loss 0.1 is below 0.2" in cli("runs", "show", "b").out


def test_a_run_is_shown_whole(cli, store):
    trace = "Traceback (most recent call last):\n  File x.py\nValueError: no\x1b[0m good"
    record(store, "abcdefabcdef", status=RunStatus.FAILED, error=trace, git_commit="c0ffee")
    out = cli("runs", "show", "abcd").out
    for expected in ("abcdefabcdef", "FAILED", "c0ffee", "epochs", "training_params.monitor"):
        assert expected in out
    assert "  File x.py\n" in out
    assert "no\\x1b[0m good" in out
    shown = cli("runs", "show", "last", "--format", "json").json
    assert shown["metrics"]["final_val_f1"]["value"] == 0.5
    assert shown["config"]["epochs"] == 3
    assert shown["error"][""] == trace
    rows = list(csv.DictReader(io.StringIO(cli("runs", "show", "last", "--format", "csv").out)))
    found = {(row["section"], row["name"]): row["value"] for row in rows}
    assert found["metrics", "final_val_f1.value"] == "0.5"
    assert found["config", "training_params.monitor"] == "val_f1:max"


def test_the_best_run_is_best_by_something(cli, store):
    record(store, "aaaaaaaaaaaa", metrics={"final_val_f1": 0.9})
    record(store, "bbbbbbbbbbbb", metrics={"final_val_f1": 0.1}, git_diff="-a\n+b\n")
    best = cli("runs", "show", "best", "--by", "final_val_f1:max", "--format", "json").json
    assert best["run"]["experiment_id"] == "aaaaaaaaaaaa"
    worst = cli("runs", "show", "best", "--by", "final_val_f1:min")
    assert "a diff of 2 lines" in worst.out
    assert cli("runs", "show", "best").code == 4


def test_non_finite_numbers_are_legal_json(cli, store):
    record(store, "abcdefabcdef", metrics={"final_val_f1": math.nan, "x": -math.inf})
    assert cli("runs", "list", "--format", "json").json[0]["score"] == "NaN"
    assert (
        cli("runs", "show", "last", "--format", "json").json["metrics"]["x"]["value"] == "-Infinity"
    )


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_hostile_names_reach_no_terminal(cli, store, form):
    name = 'a"b,c\n[red]x[/] \x1b]0;owned\x07 \x9b1m \u202e'
    record(store, "abcdefabcdef", experiment_name=name, project="=cmd()")
    for command in (("list",), ("show", "last")):
        out = cli("runs", *command, "--format", form).out
        assert not set(out) & {"\x1b", "\x07", "\x9b", "\u202e"}
        assert "[red]x[/]" in out
    if form == "json":
        assert cli("runs", "list", "--format", form).json[0]["experiment_name"] == name
    if form == "csv":
        [row] = csv.DictReader(io.StringIO(cli("runs", "list", "--format", form).out))
        assert row["experiment_name"].startswith('a"b,c')


def test_ids_are_cut_only_while_they_stay_different(cli, store):
    record(store, "aaaaaaaaaa11")
    record(store, "aaaaaaaaaa22")
    out = cli("runs", "list").out
    assert "aaaaaaaaaa1 " in out
    assert "aaaaaaaaaa2 " in out
    assert cli("runs", "show", "aaaaaaaaaa1").code == 0
    ambiguous = cli("runs", "show", "aaaa")
    assert ambiguous.code == 4
    assert "aaaaaaaaaa11" in ambiguous.errors[0]


def test_an_empty_list_is_a_list(cli, store):
    assert store.runs() == []
    assert cli("runs", "list").code == 0
    assert cli("runs", "list", "--format", "json").json == []
    assert cli("runs", "list", "--format", "csv").out.startswith("experiment_id,")
    last = cli("runs", "show", "last")
    assert (last.code, len(last.errors)) == (4, 1)


@pytest.mark.parametrize(
    "command",
    [("runs", "list"), ("runs", "show", "last"), ("db", "info"), ("run", "--resume", "a")],
)
def test_reading_creates_no_database(cli, command):
    said = cli(*command)
    assert said.code == 4
    assert len(said.errors) == 1
    assert "research-eval run" in said.errors[0]
    assert cli(*command, "--db", "elsewhere/other.db").code == 4
    assert not list(Path().iterdir())


def test_a_database_is_made_once_and_found_from_below(cli, monkeypatch):
    assert cli("db", "init").code == 0
    path = Path("experiment_results.db").resolve()
    with Store.open(path) as store:
        record(store, "abcdefabcdef")
    assert cli("db", "init").code == 0
    below = Path("a/b")
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    said = cli("db", "info", "--format", "json")
    assert said.json["database"]["location"] == str(path)
    assert said.json["runs"] == {"completed": 1}
    assert f"database: {path}" in said.err
    monkeypatch.setenv("RESEARCH_EVAL_DB", str(path.with_name("other.db")))
    assert cli("db", "info").code == 4

"""`runs`: find, compare, label, throw away, follow and stop."""

import csv
import io
import json
import threading
from pathlib import Path

import pytest

from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.testing.runs import new_run, record


@pytest.fixture
def store():
    with Store.open("experiment_results.db", create=True) as opened:
        yield opened


@pytest.fixture
def three(store):
    for i, top_k in enumerate((1, 2, 4)):
        config = {"model_params": {"top_k": top_k}, "epochs": 3, "lr": 0.1}
        metrics = {"final_val_f1": 0.5 + i / 10, "val/loss": 2.0 - i}
        text = json.dumps(config)
        record(store, "abc"[i] * 12, metrics, full_config_json=text, seed=i, model_type="moe")
    return store


def listed(said):
    return "".join(row["experiment_id"][0] for row in said.json)


@pytest.mark.usefixtures("three")
def test_runs_are_listed_by_a_condition_in_an_order_with_columns(cli):
    def ask(*options):
        return cli("runs", "list", "--format", "json", *options)

    assert listed(ask("--filter", "model_params.top_k >= 2")) == "cb"
    assert listed(ask("--filter", 'metrics."val/loss" > 0.5', "--sort", "seed")) == "ab"
    assert listed(ask("--sort", "-metrics.final_val_f1", "--limit", "2")) == "cb"
    assert (
        listed(ask("--filter", "seed < 2", "--model-type", "moe", "--status", "completed")) == "ba"
    )
    columns = 'seed, params.lr, metrics."val/loss".max, tag'
    assert ask("--columns", columns, "--limit", "1").json == [
        {"experiment_id": "c" * 12, "seed": 2, "params.lr": 0.1, 'metrics."val/loss".max': 0.0,
         "tag": []}
    ]  # fmt: skip  # one row
    table = cli("runs", "list", "--columns", columns).out.splitlines()
    assert table[0].split() == ["id", "seed", "params.lr", 'metrics."val/loss".max', "tag"]
    assert table[2].split() == ["cccccccc", "2", "0.1", "0", "-"]
    sorted_by = cli("runs", "list", "--sort", "-model_params.top_k").out.splitlines()
    assert "model_params.top_k" in sorted_by[0]
    rows = list(csv.DictReader(io.StringIO(ask("--columns", "seed", "--format", "csv").out)))
    assert [row["seed"] for row in rows] == ["2", "1", "0"]


@pytest.mark.usefixtures("three")
def test_a_wrong_condition_is_pointed_at(cli):
    for option in ("--filter", "--sort", "--columns"):
        said = cli("runs", "list", option, "epochs, sead" if option != "--filter" else "sead == 1")
        assert said.code == 2
        message, text, pointer = said.errors
        assert "there is no column 'sead'" in message
        assert "did you mean 'seed'" in message
        assert text[pointer.index("^") :].startswith("sead")
    hostile = cli("runs", "list", "--filter", "\x1b[31m == 1")
    assert (hostile.code, "\x1b" in hostile.err) == (2, False)


@pytest.mark.usefixtures("three")
def test_names_that_no_run_has_are_noted(cli):
    said = cli("runs", "list", "--filter", "metrics.final_val_f2 > 0", "--format", "json")
    assert (said.code, said.json) == (0, [])
    assert "no run has a metric 'final_val_f2'; did you mean 'final_val_f1'?" in said.err


@pytest.mark.usefixtures("three")
def test_runs_are_compared(cli):
    said = cli("runs", "diff", "aaa", "ccc")
    assert "epochs" not in said.out
    lines = [line.split() for line in said.out.splitlines()]
    assert ["final_val_f1", "0.5", "0.7", "0.2"] in lines
    assert ["model_params.top_k", "1", "4"] in lines
    found = cli("runs", "diff", "a", "b", "c", "--metrics", "val/loss", "--format", "json").json
    assert found["configuration"] == {"model_params.top_k": {"a" * 12: 1, "b" * 12: 2, "c" * 12: 4}}
    assert list(found["metrics"]) == ["val/loss"]
    rows = list(csv.DictReader(io.StringIO(cli("runs", "diff", "a", "b", "--format", "csv").out)))
    assert {row["section"] for row in rows} == {"run", "configuration", "metrics"}
    assert cli("runs", "diff", "a").code == 2
    assert cli("runs", "diff", "a", "nobody").code == 4


@pytest.mark.usefixtures("three")
def test_labels_notes_and_names(cli):
    assert cli("runs", "tag", "aaa", "paper", "first").code == 0
    assert listed(cli("runs", "list", "--filter", 'tag == "paper"', "--format", "json")) == "a"
    said = cli("runs", "tag", "aaa", "paper", "--remove")
    assert "has the tags: first" in said.err
    cli("runs", "note", "last", "looks\x1b good")
    shown = cli("runs", "show", "last").out
    assert "looks\\x1b good" in shown
    cli("runs", "note", "last", "in the same second")
    notes = cli("runs", "show", "last", "--format", "json").json["notes"]
    assert [each["text"] for each in notes.values()] == ["looks\x1b good", "in the same second"]
    cli("runs", "rename", "aaa", "a better name")
    assert cli("runs", "show", "a better name", "--format", "json").json["run"]["tags"] == ["first"]
    for wrong in (("tag", "zzz", "t"), ("note", "a", " "), ("rename", "zzz", "n")):
        said = cli("runs", *wrong)
        assert (said.code, len(said.errors)) == (4, 1)


@pytest.mark.usefixtures("three")
def test_runs_go_to_the_trash_and_come_back(cli):
    said = cli("runs", "delete", "aaa", "bbb", "aaa")
    assert "2 runs are now in the trash" in said.err
    assert f"runs restore {'a' * 12} {'b' * 12} " in said.err
    assert listed(cli("runs", "list", "--format", "json")) == "c"
    assert listed(cli("runs", "list", "--deleted", "--format", "json")) == "ba"
    gone = cli("runs", "show", "a" * 12)
    assert (gone.code, "runs restore" in gone.err) == (4, True)
    assert cli("runs", "restore", "aaa").code == 0
    assert "2 runs are" in cli("runs", "delete", "--filter", "seed in [0, 2]").err
    assert "nothing was deleted" in cli("runs", "delete", "--filter", "seed == 99").err
    assert listed(cli("runs", "list", "--format", "json")) == ""
    assert "3 runs are back" in cli("runs", "restore", "--filter", "seed >= 0").err
    assert cli("runs", "delete").code == 2
    assert cli("runs", "delete", "a", "--filter", "seed == 1").code == 2
    assert cli("runs", "restore", "aaa").code == 4


def test_a_running_run_is_neither_deleted_nor_an_ended_one_stopped(cli, three):
    three.start(new_run("dddddddddddd"))
    said = cli("runs", "delete", "ddd", "aaa")
    assert said.code == 4
    assert "runs stop dddddddddddd" in said.errors[0]
    assert len(three.runs()) == 4
    ended = cli("runs", "stop", "aaa")
    assert (ended.code, "only a RUNNING one" in ended.err) == (4, True)


@pytest.mark.parametrize("command", ["tag", "note", "rename", "delete", "restore", "stop", "watch"])
def test_nothing_is_made_where_there_is_no_database(cli, command):
    said = cli("runs", command, "a", *(["x"] if command in ("tag", "note", "rename") else []))
    assert (said.code, len(said.errors)) == (4, 1)
    assert not list(Path().iterdir())


def test_a_run_is_watched_until_it_ends(cli, store):
    made = store.start(new_run("aaaaaaaaaaaa", env_details_json='{"total_steps": 60}'))
    made.log({"val_loss": 2.5, "sys/cpu": 9.0, "loss_layer0": 7.0}, step=20)
    made.flush()

    def go_on():
        made.log({"val_loss": 1.5}, step=40)
        made.finish(RunStatus.FAILED, error="boom")

    threading.Timer(0.4, go_on).start()
    said = cli("runs", "watch", "aaa", "--every", "0.1")
    lines = said.out.splitlines()
    assert lines[0] == "RUNNING  step 20/60  val_loss 2.5"
    assert lines[-1] == "FAILED  step 40/60  val_loss 1.5"
    assert len(lines) == len(set(lines))
    assert said.code == 5
    again = cli("runs", "watch", "aaa")
    assert again.out.splitlines() == lines[-1:]


def test_a_run_is_stopped_from_elsewhere_and_goes_on(cli, programs, config):
    endless = {"max_steps": 10**7, "eval_every": 10**7, "device": "cpu"}
    training = programs.start("run", config(training_params=endless))
    with Store.open("experiment_results.db", create=True) as store:
        programs.wait_for(lambda: any(run.metrics for run in store.runs()))
        assert store.run("last").status is RunStatus.RUNNING
        watching = programs.start("runs", "watch", "last", "--every", "0.2")
        assert "was asked to stop" in cli("runs", "stop", "last").err
        stopped = programs.finish(training)
        assert stopped.code == 143, stopped.err
        assert store.run("last").status is RunStatus.INTERRUPTED
        assert list((store.artifact_dir / store.run("last").experiment_id).glob("resume.*"))
    watched = programs.finish(watching)
    assert watched.code == 0
    assert watched.out.splitlines()[-1].startswith("INTERRUPTED  step ")
    assert "/10,000,000" in watched.out

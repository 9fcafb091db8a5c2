"""`evaluate`: what it prints, in three forms, and how it refuses."""

import csv
import io
import json
from pathlib import Path

import pytest

MOE = {
    "experiment_name": "routed",
    "model_type": "moe",
    "model_params": {"num_experts": 3},
    "training_params": {"keep_checkpoints": "best"},
}


@pytest.fixture
def run(cli, config):
    """The id of a run with experts that kept its weights."""
    done = cli("run", config(**MOE), "--format", "json")
    assert done.code == 0
    return done.json[0]["experiment_id"]


def test_scores_and_labels_are_tables_and_the_file_and_the_next_step_are_named(cli, run):
    said = cli("evaluate", "last", "--split", "test")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].split() == ["split", "routing", "weights", "rows", "f1", "acc", "loss"]
    assert lines[2].split()[:4] == ["test", "learned", "best", "40"]
    header = ["label", "rows", "f1", "precision", "recall", "loss"]
    labels = next(i for i, line in enumerate(lines) if line.split() == header)
    assert [line.split()[0] for line in lines[labels + 2 : labels + 4]] == ["even", "odd"]
    file = Path(lines[-1].removeprefix("predictions: "))
    assert file.is_file()
    assert said.err.splitlines()[-1] == f"next: research-eval runs show {file.parent.name}"
    shown = cli("runs", "show", file.parent.name, "--format", "json").json
    assert (shown["run"]["run_type"], shown["run"]["parent"]) == ("evaluation", run)
    assert str(file) in shown["artifacts"]


def test_a_control_is_shown_beside_what_was_learned_with_a_verdict(cli, run):
    said = cli("evaluate", run, "--routing", "random")
    assert [line.split()[1] for line in said.out.splitlines()[2:4]] == ["learned", "random"]
    assert "\nrandom routing " in said.out
    assert "95 % intervals over 40 rows: what the router learned " in said.out


def test_what_is_recorded_is_shown_and_again_makes_it_anew(cli, run):
    first = cli("evaluate", run)
    second = cli("evaluate", run)
    assert second.out == first.out
    assert "routed: validation: recorded already, " in second.err
    assert "--again evaluates anew" in second.err
    third = cli("evaluate", run, "--again")
    assert third.out.splitlines()[:-1] == first.out.splitlines()[:-1]
    assert third.out.splitlines()[-1] != first.out.splitlines()[-1]


def test_machines_get_everything(cli, run):
    found = cli("evaluate", run, "--routing", "uniform", "--latency", "--format", "json").json
    assert (found["parent"], found["action"]) == (run, "ran")
    assert found["learned"]["routing"] == "learned"
    assert [cost["score"] for cost in found["routing_costs"]] == ["f1", "loss"]
    assert found["verdict"].startswith("uniform routing")
    assert [row["label"] for row in found["by_label"]] == ["even", "odd"]
    assert [row["batch_size"] for row in found["latency"]] == [1, 8, 40]
    text = cli("evaluate", run, "--format", "csv").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["by"], row["group"]) for row in rows] == [
        ("all", ""),
        ("label", "even"),
        ("label", "odd"),
    ]
    assert rows[0]["f1"] == str(found["learned"]["f1"])


def test_latency_is_a_table_by_batch_size(cli, run):
    lines = cli("evaluate", run, "--latency").out.splitlines()
    header = ["batch", "size", "median", "ms", "p95", "ms"]
    place = next(i for i, line in enumerate(lines) if line.split() == header)
    assert [line.split()[0] for line in lines[place + 2 : place + 5]] == ["1", "8", "40"]


def test_lists_show_the_score_of_an_evaluation_and_last_stays_the_run(cli, run):
    cli("evaluate", run, "--split", "test")
    rows = cli("runs", "list", "--format", "json").json
    assert [row["score_name"] for row in rows] == ["eval_f1", "final_val_f1"]
    assert rows[0]["experiment_name"] == "routed: test"
    left = cli("runs", "list", "--filter", 'run_type != "evaluation"', "--format", "json").json
    assert [row["experiment_id"] for row in left] == [run]
    assert cli("runs", "show", "last", "--format", "json").json["run"]["experiment_id"] == run


def test_mistakes_end_in_one_line_and_their_exit_code(cli, run, config):
    Path("other.json").write_text(json.dumps({"dataset_name": "markov"}))
    cli("run", config("dense.json", training_params={"keep_checkpoints": "best"}))
    for code, words, *arguments in (
        (4, "no run is called 'nobody'", "nobody"),
        (2, "model dense, as it is configured, has no routing", "tiny", "--routing", "random"),
        (2, "--split", run, "--split", "dev"),
        (2, "--routing", run, "--routing", "best"),
        (4, "did not keep its last weights, only best", run, "--weights", "last"),
        (2, "there is no file gone.json", run, "--dataset", "gone.json"),
        (2, "training_params.device: must match", run, "--device", "tpu"),
        (4, "there is no database", run, "--db", "other.db"),
    ):
        said = cli("evaluate", *arguments)
        assert (said.code, said.out) == (code, ""), said.err
        assert len(said.errors) == 1
        assert words in said.errors[0]
    said = cli("evaluate", run, "--dataset", "other.json")
    assert said.code == 2
    assert "cannot read the data of other.json" in said.errors[0]
    assert any("task: " in line for line in said.errors)
    assert len(cli("runs", "list", "--format", "json").json) == 2

"""Real trainings, explained as their users would: findings that are true, commands that run."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from research_eval.cli import main

from .findings import require_parses

TINY = {
    "model_type": "dense",
    "dataset_name": "parity",
    "epochs": 2,
    "batch_size": 32,
    "dataset_params": {"num_samples": 200, "val_samples": 100, "test_samples": 40, "seq_len": 8},
    "model_params": {"embed_dim": 16, "num_heads": 2, "num_layers": 1},
    "training_params": {"device": "cpu", "log_every": 5},
}


def configuration(name, **changes):
    """Write a configuration and return its file."""
    tree = json.loads(json.dumps(TINY)) | {"experiment_name": name}
    for section, value in changes.items():
        tree[section] = {**tree[section], **value} if isinstance(value, dict) else value
    Path(f"{name}.json").write_text(json.dumps(tree))
    return f"{name}.json"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Return a folder with a store of small runs."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("RESEARCH_EVAL_ALLOCATOR", "default")
        short = configuration("short")
        data = {"num_samples": 100, "seq_len": 12}
        over = configuration(
            "overfit",
            dataset_params=data,
            epochs=40,
            model_params={"embed_dim": 32},
        )
        moe = configuration("moe", model_type="moe", model_params={"num_experts": 4})
        words = configuration(
            "words",
            dataset_name="markov",
            dataset_params={"num_samples": 300},
        )
        rates = "optimizer_params.lr=0.00001,0.0001,0.001"
        study = ["--study-name", "s", "--json", words, "--search", rates, "--n-trials", "3"]
        for command in (
            ["run", short, "--seeds", "2"],
            ["run", short, "experiment_name=long", "epochs=8", "--seeds", "2"],
            ["run", over],
            ["run", over, "experiment_name=calm", "epochs=4"],
            ["run", moe],
            ["evaluate", "moe", "--routing", "random"],
            ["hpo", *study],
            ["run", words, "experiment_name=wide", "model_params.embed_dim=32"],
        ):
            assert main(command) == 0, command
    return folder


@pytest.fixture
def explain(recorded, monkeypatch, capsys):
    """Return a function that explains in the folder of the runs, as JSON."""
    monkeypatch.chdir(recorded)
    monkeypatch.setenv("RESEARCH_EVAL_ALLOCATOR", "default")

    def call(*words):
        capsys.readouterr()
        assert main(["explain", *words, "--format", "json"]) == 0
        return json.loads(capsys.readouterr().out)

    return call


def names(told):
    return [each["finding"] for each in told["findings"]]


def one(told, name):
    return next(each for each in told["findings"] if each["finding"] == name)


def test_unequal_tokens(explain):
    tokens = one(explain("short", "--vs", "long"), "fewer_tokens")
    assert tokens["numbers"] == {"tokens": 2 * 200 * 8, "other": 8 * 200 * 8, "ratio": 0.25}
    assert "epochs=8" in tokens["commands"][-1]


def test_overfitting_on_a_hundred_samples(explain):
    told = explain("overfit", "--vs", "calm", "--metric", "final_val_loss")
    over = one(told, "overfitting")
    assert over["side"] == "overfit"
    assert over["numbers"]["gap"] > over["numbers"]["other"] + over["threshold"]
    assert "--sweep model_params.dropout=0.1,0.2" in over["commands"][-1]


def test_a_learning_rate_at_the_end_of_a_small_study(explain):
    told = explain("s:dense", "--vs", "wide")
    edge = one(told, "lr_at_edge")
    assert edge["numbers"]["low"] == 1e-5
    assert edge["numbers"]["high"] == 1e-3
    assert edge["numbers"]["from_end"] == 0


def test_routing_that_two_epochs_did_not_make_worth_anything(explain):
    long = explain("short", "--vs", "long")["b"]["runs"][0]
    told = explain("moe", "--vs", long)
    worth = one(told, "routing_worth")
    assert worth["numbers"]["low"] <= 0
    assert "model_params.router=random" in worth["commands"][-1]
    assert not any("routing of moe" in each["what"] for each in told["not_on_record"])


def test_two_seeds_of_one_configuration_have_no_finding(explain, recorded):
    from research_eval.store import Store

    with Store.open(recorded / "experiment_results.db", mode="ro") as store:
        runs = store.runs(filter='experiment_name == "short" and phase is null')
    told = explain(runs[0].experiment_id, "--vs", runs[1].experiment_id)
    assert told["findings"] == []
    assert "one configuration" in told["no_finding"]


@pytest.mark.parametrize("pair", [("short", "long"), ("moe", "long"), ("s:dense", "wide")])
def test_every_command_that_is_named_parses(explain, pair):
    told = explain(pair[0], "--vs", pair[1])
    commands = [c for each in told["findings"] + told["not_on_record"] for c in each["commands"]]
    assert commands
    for command in commands:
        require_parses(command)


def test_the_commands_of_a_finding_do_what_they_say(explain, capsys):
    told = explain("overfit", "--vs", "calm", "--metric", "final_val_loss")
    for command in one(told, "overfitting")["commands"]:
        assert main(shlex.split(command)[1:]) == 0
    condition = 'experiment_name == "overfit_dropout" and model_params.dropout > 0'
    listed = json.loads(_out(capsys, "runs", "list", "--filter", condition, "--format", "json"))
    assert len(listed) == 2
    assert {each["status"] for each in listed} == {"COMPLETED"}
    assert explain("overfit", "--vs", "calm")  # the name means what it meant


@pytest.mark.usefixtures("explain")
def test_a_configuration_that_is_written_again_is_recorded_already(capsys):
    before = len(json.loads(_out(capsys, "runs", "list", "--format", "json")))
    assert main(["runs", "config", "moe", "-o", "again.json"]) == 0
    assert main(["run", "again.json"]) == 0
    assert len(json.loads(_out(capsys, "runs", "list", "--format", "json"))) == before
    assert main(["runs", "config", "moe", "-o", "again.json"]) == 0  # it says the same
    assert main(["runs", "config", "overfit", "-o", "again.json"]) == 2
    assert "is there already and says something else" in capsys.readouterr().err


def _out(capsys, *words):
    capsys.readouterr()
    assert main([*words, "--limit", "200"]) == 0
    return capsys.readouterr().out


def test_an_explanation_is_read_without_torch(recorded):
    code = (
        "import sys; import research_eval; "
        "text = str(research_eval.explain('short', 'long')); assert 'fewer tokens' in text; "
        "assert not {'torch', 'optuna', 'transformers'} & set(sys.modules)"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, cwd=recorded, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.usefixtures("explain")
@pytest.mark.parametrize("form", ["table", "csv"])
def test_other_forms_hold_the_same(capsys, form):
    assert main(["explain", "short", "--vs", "long", "--format", form]) == 0
    said = capsys.readouterr().out
    assert "fewer tokens" in said


@pytest.mark.usefixtures("explain")
@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("short", "--vs", "short"), 2, "error: 'short' and 'short' are the same runs"),
        (("short", "--vs", "nobody"), 4, "error: no run is called 'nobody'"),
        (("short", "--vs", "long", "--metric", "x"), 2, "error: which way is x better?"),
        (("short",), 2, "error: Missing option '--vs'"),
        (("short", "--vs", "long", "--db", "nowhere.db"), 4, "error: "),
    ],
)
def test_what_is_wrong_is_one_line(capsys, words, code, told):
    capsys.readouterr()
    assert main(["explain", *words]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1].startswith(told)

"""What there is, as the command line tells it."""

import csv
import io
import json
from pathlib import Path

import pytest

from research_eval.config import load_file
from research_eval.metrics import METRICS
from research_eval.registry import DATASETS_MAP, MODELS_MAP, ROUTERS_MAP


@pytest.mark.parametrize(
    ("command", "registry"),
    [("models", MODELS_MAP), ("datasets", DATASETS_MAP), ("routers", ROUTERS_MAP)],
)
def test_every_registered_component_is_listed_with_a_sentence(cli, command, registry):
    rows = cli(command, "--format", "json").json
    assert [row["name"] for row in rows] == sorted(registry)
    assert all(row["meaning"].endswith((".", ":")) for row in rows)
    assert cli(command).out.count("\n") == len(registry) + 2


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_parameters_are_listed_from_their_declarations(cli, form):
    out = cli("models", "moe", "--format", form).out
    if form == "table":
        assert "num_experts" in out
        assert "0.0001 to 0.1, log" in out
        return
    rows = json.loads(out) if form == "json" else list(csv.DictReader(io.StringIO(out)))
    by_name = {row["name"]: row for row in rows}
    assert list(by_name) == list(MODELS_MAP["moe"].params.model_fields)
    assert by_name["top_k"]["searched"] == "1, 2, 4"
    assert by_name["dropout"]["legal"] == ">= 0, < 1"
    assert by_name["activation"]["type"] == '"gelu" or "swiglu"'


def test_a_data_set_is_shown_with_or_without_the_word(cli):
    assert cli("datasets", "parity").out == cli("datasets", "show", "parity").out
    assert "seq_len" in cli("datasets", "parity").out
    assert cli("datasets", "--format", "json", "parity").code == 2


def test_a_plug_in_file_is_shown_like_a_registered_model(cli):
    Path("mine.py").write_text(
        "import torch\n"
        "from research_eval.spec import TransformerParams\n"
        "class Mine(torch.nn.Module):\n"
        "    class Params(TransformerParams):\n"
        "        'Mine alone.'\n"
        "        depth: int = 3\n"
        "        'How deep.'\n"
    )
    assert "How deep." in cli("models", "./mine.py:Mine").out


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("models", "moo"), "did you mean 'moe'?"),
        (("datasets", "paritty"), "did you mean 'parity'?"),
        (("models", "./none.py:X"), "none.py"),
        (("schema", "--model", "moe"), "both or neither"),
        (("new", "config", "--model", "moo", "--dataset", "parity"), "did you mean 'moe'?"),
        (("runs", "lst"), "lst"),
        (("nothing",), "nothing"),
        (("runs",), "runs --help"),
        (("models", "--format", "xml"), "xml"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(cli, arguments, hint):
    said = cli(*arguments)
    assert said.code == 2
    assert said.out == ""
    [line] = said.err.splitlines()
    assert line.startswith("error: ")
    assert hint in line


def test_every_metric_is_listed(cli):
    rows = cli("metrics", "--format", "json").json
    assert [row["name"] for row in rows] == [metric.name for metric in METRICS]
    assert {row["direction"] for row in rows} == {"min", "max", None}


def test_the_schema_is_json_with_ranges(cli):
    everything = cli("schema").json
    assert everything["properties"]["epochs"]["minimum"] == 1
    one = cli("schema", "--model", "moe", "--dataset", "parity").json
    assert "num_experts" in json.dumps(one)
    assert "num_experts" not in json.dumps(
        cli("schema", "--model", "dense", "--dataset", "parity").json
    )


def test_a_new_configuration_is_legal_complete_and_never_overwritten(cli):
    said = cli("new", "config", "--model", "moe", "--dataset", "parity", "-o", "first.json")
    assert said.code == 0
    assert "next: research-eval run first.json" in said.err
    tree = json.loads(Path("first.json").read_text())
    assert next(iter(tree)) == "$schema"
    assert tree["model_params"]["num_experts"] == 8
    assert tree["training_params"]["eval_every"] == "epoch"
    schema = json.loads(Path(tree["$schema"]).read_text())
    assert schema["properties"]["epochs"]["minimum"] == 1
    assert load_file(Path("first.json")).config.experiment_name == "moe_parity"
    Path("first.json").write_text("mine")
    again = cli("new", "config", "--model", "moe", "--dataset", "parity", "-o", "first.json")
    assert again.code == 2
    assert Path("first.json").read_text() == "mine"
    assert cli("new", "config", "--model", "moe", "--dataset", "parity").json == {
        key: value for key, value in tree.items() if key != "$schema"
    }
    nowhere = cli("new", "config", "--model", "moe", "--dataset", "parity", "-o", "no/first.json")
    assert nowhere.code == 2


def test_help_is_there_for_every_command(cli):
    assert "run" in cli().out
    for command in ("run", "runs", "runs list", "runs show", "new config", "db info", "datasets"):
        said = cli(*command.split(), "--help")
        assert said.code == 0
        assert f"research-eval {command}" in said.out
    assert cli("--version").out.strip()


def test_a_data_set_is_checked_without_a_model(cli):
    said = cli("datasets", "check", "parity", "num_samples=300", "seq_len=6", "--format", "json")
    assert said.code == 0
    found = said.json
    assert found["train"]["rows"] == 300
    assert found["train"]["rows of even"] + found["train"]["rows of odd"] == 300
    assert found["rows in two splits"]["train/validation"] == 0
    assert found["scores on validation without a model"]["majority class"]["acc"] < 0.6
    assert "bag of words.f1" in cli("datasets", "check", "parity", "num_samples=300").out
    assert cli("datasets", "check", "parity", "num_sample=300").code == 2


def test_a_file_is_checked_like_a_data_set(cli):
    rows = [f"the {'good' if i % 2 else 'bad'} number {i},{i % 2}" for i in range(60)]
    Path("own.csv").write_text("\n".join(["body,stars", *rows]))
    said = cli("datasets", "check", "own.csv", "text_field=body", "label_field=stars")
    assert said.code == 0, said.err
    assert "rows of 0" in said.out
    missing = cli("datasets", "check", "own.csv")
    assert missing.code == 3
    assert "known: body, stars" in missing.errors[0]

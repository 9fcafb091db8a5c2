"""`match`: a configuration of equal cost that `run` accepts, and what cannot be had."""

import json
from pathlib import Path

import pytest

QUICK = ("--no-step-time",)
AXES = ["params", "active_params", "flops", "step_time"]


def folder():
    return sorted(path.name for path in Path().iterdir())


def test_it_writes_a_configuration_that_run_accepts_and_shows_every_axis(cli, config):
    said = cli("match", config(), "--to", "goe", "--on", "flops")
    assert said.code == 0, said.err
    assert "not equal" in said.out
    assert "seconds per step" in said.out
    assert "written: tiny_as_goe.json" in said.err
    assert said.err.splitlines()[-1] == (
        "next: research-eval run tiny.json tiny_as_goe.json --seeds 5"
    )
    plans = cli("run", "tiny.json", "tiny_as_goe.json", "--dry-run", "--format", "json").json
    costs = [plan["flops_per_token"] for plan in plans]
    assert costs[1] == pytest.approx(costs[0], rel=0.01)
    origin = json.loads(Path("tiny_as_goe.json").read_text())["origin"]
    assert origin["kind"] == "match"
    assert origin["parent"] == plans[0]["config_hash"]
    assert origin["match"] == {
        "axis": "flops",
        "target": costs[0],
        "reached": costs[1],
        "error": costs[1] / costs[0] - 1,
    }
    ran = cli("run", "tiny_as_goe.json", "--format", "json")
    assert ran.code == 0, ran.err
    assert json.loads(Path("tiny_as_goe.json").read_text())["experiment_name"] == "tiny_as_goe"


def test_every_axis_is_a_row_for_machines(cli, config):
    told = cli("match", config(), "--to", "moe", "--on", "params", "--format", "json").json
    rows = told["costs"]
    assert [row["axis"] for row in rows] == AXES
    assert [row["axis"] for row in rows if row["asked"]] == ["params"]
    assert all(row["ratio"] == row["made"] / row["given"] for row in rows)
    assert next(row["equal"] for row in rows) is True
    said = cli("match", config(), "--to", "moe", "--on", "params", *QUICK, "--format", "csv")
    assert len(said.out.splitlines()) == 4
    assert said.out.startswith("axis,cost,given,made,ratio,equal,asked")


def test_machines_learn_where_it_was_written_and_what_was_set(cli, config):
    command = ("match", config(), "--to", "moe", "--on", "params", "model_params.num_experts=3")
    told = cli(*command, *QUICK, "--format", "json").json
    origin = json.loads(Path(told["path"]).read_text())["origin"]
    assert told["set"] == origin["changed"]
    assert told["set"]["model_params.num_experts"] == 3
    assert told["repairs"] == origin["repairs"]
    assert "num_layers" in told["carried"]
    assert not {f"model_params.{name}" for name in told["carried"]} & set(told["set"])


def test_what_is_set_is_not_said_to_be_carried_over(cli, config):
    command = ("match", config(), "--to", "moe", "--on", "params", *QUICK)
    assert "carried over: data, optimizer, training; of the model" in cli(*command).err
    said = cli(*command, "-o", "x.json", "epochs=3", "model_params.num_layers=1")
    (line,) = [each for each in said.err.splitlines() if each.startswith("carried over")]
    assert line.startswith("carried over: data, optimizer, training, but not epochs; of the model")
    assert "num_layers" not in line


FEW_LAYERS = """
from typing import Annotated
from pydantic import Field
from torch import nn
from research_eval.knobs import Choice
from research_eval.spec import BodyOutput, ModelSpec, TransformerParams

class Few(TransformerParams):
    num_layers: Annotated[int, Field(ge=1, le=2), Choice(1, 2)] = 1

class Wide(nn.Module):
    def __init__(self, params, context):
        super().__init__()
        self.linear = nn.Linear(params.embed_dim, round(params.ff_factor * params.embed_dim))

    def forward(self, given):
        return BodyOutput(given.hidden_BLD)

SPEC = ModelSpec(name="wide", params=Few, build=Wide)
"""


def test_what_had_to_be_made_legal_is_not_said_to_be_carried_over(cli, config):
    Path("wide.py").write_text(FEW_LAYERS)
    given = config(model_params={"num_layers": 3})
    command = ("match", given, "--to", "./wide.py:SPEC", "--on", "params", *QUICK)
    told = cli(*command, "--format", "json").json
    assert told["repairs"] == ["model_params.num_layers=2"]
    assert "num_layers" not in told["carried"]
    made = json.loads(Path(told["path"]).read_text())["model_params"]
    asked = json.loads(Path(given).read_text())["model_params"]
    assert {"embed_dim", "num_heads"} & set(told["carried"])
    assert all(made[name] == asked[name] for name in told["carried"] if name in asked)
    said = cli(*command, "-o", "again.json")
    assert "not legal there, so changed: model_params.num_layers=2" in said.err
    (line,) = [each for each in said.err.splitlines() if each.startswith("carried over")]
    assert "num_layers" not in line


@pytest.mark.parametrize("output", [".", "tiny.json/x.json"])
def test_what_cannot_be_written_is_told_once_and_as_of_the_store(cli, config, output):
    said = cli("match", config(), "--to", "moe", "--on", "params", *QUICK, "-o", output)
    assert said.code == 4
    (line,) = said.errors
    assert line.startswith(f"error: {output} cannot be written: ")
    assert line.count("cannot") == 1
    assert folder() == ["tiny.json"]


def test_what_is_there_already_is_kept(cli, config):
    command = ("match", config(), "--to", "moe", *QUICK, "--on")
    assert cli(*command, "params").code == 0
    before = Path("tiny_as_moe.json").read_bytes()
    assert cli(*command, "params").code == 0
    assert Path("tiny_as_moe.json").read_bytes() == before
    said = cli(*command, "active_params")
    assert said.code == 2
    assert "is there already" in said.errors[0]
    assert Path("tiny_as_moe.json").read_bytes() == before
    assert cli(*command, "active_params", "-o", "folder/other.json").code == 0
    assert Path("folder/other.json").exists()


def test_a_name_with_slashes_is_no_path(cli, config):
    said = cli("match", config(experiment_name="../a b/c"), "--to", "moe", "--on", "flops", *QUICK)
    assert said.code == 0, said.err
    assert folder() == [".._a_b_c_as_moe.json", "tiny.json"]


BAD = {
    "unknown model": (["--to", "dence", "--on", "params"], "did you mean 'dense'?"),
    "unknown axis": (["--to", "moe", "--on", "param"], "did you mean 'params'?"),
    "no axis": (["--to", "moe"], "--on"),
    "no model": (["--on", "params"], "--to"),
    "another task": (
        ["--to", "moe", "--on", "params", "dataset_name=markov"],
        "the arms must learn the same task from the same data",
    ),
    "other data": (
        ["--to", "moe", "--on", "params", "dataset_params.seq_len=5"],
        "dataset_params: must be those of the given configuration",
    ),
    "all widths set": (
        ["--to", "moe", "--on", "params", "model_params.ff_factor=1", "model_params.embed_dim=8"],
        "leave one of them open",
    ),
    "a setting that is not legal": (
        ["--to", "moe", "--on", "params", "model_params.top_k=99"],
        "top_k must not be above num_experts",
    ),
    "no solution": (
        ["--to", "gnn_moe", "--on", "params", "model_params.num_experts=16"],
        "the nearest that ff_factor, embed_dim can reach",
    ),
    "a plug-in without scale": (["--to", "./mine.py:NONE", "--on", "params"], "SPEC.scale"),
    "a plug-in that is not there": (
        ["--to", "./nowhere.py:A", "--on", "params"],
        "no plug-in file",
    ),
}

NO_SCALE = """
from torch import nn
from research_eval.spec import BodyOutput, ModelSpec, TransformerParams

class Nothing(nn.Module):
    def __init__(self, params, context):
        super().__init__()
    def forward(self, given):
        return BodyOutput(given.hidden_BLD)

NONE = ModelSpec(name="none", params=TransformerParams, build=Nothing, scale=())
"""


@pytest.mark.parametrize(("words", "told"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_had_is_told_in_one_line_and_nothing_is_written(cli, config, words, told):
    Path("mine.py").write_text(NO_SCALE)
    config()
    before = folder()
    said = cli("match", "tiny.json", *words, *QUICK)
    assert said.code == 2
    assert len(said.errors) == 1
    assert told in said.errors[0]
    assert folder() == before
    assert said.out == ""


def test_an_illegal_or_missing_configuration_is_told_as_by_run(cli, config):
    words = ("--to", "moe", "--on", "params", *QUICK)
    assert "there is no file" in cli("match", "nothing.json", *words).errors[0]
    config(model_params={"embed_dim": -1}, epochs=0)
    said = cli("match", "tiny.json", *words)
    assert said.code == 2
    assert [line.split(":")[0].strip() for line in said.errors[1:]] == [
        "epochs",
        "model_params.embed_dim",
    ]


def test_a_configuration_that_names_files_beside_it_is_matched_beside_it(cli, config):
    Path("mine.py").write_text(NO_SCALE)
    config(model_type="./mine.py:NONE")
    words = ("match", "tiny.json", "--to", "moe", "--on", "params", "model_params.embed_dim=4")
    said = cli("match", config(), "--to", "./mine.py:NONE", "--on", "params", *QUICK)
    assert "SPEC.scale" in said.errors[0]
    Path("mine.py").write_text(NO_SCALE.replace("scale=()", 'scale=("embed_dim",)'))
    words = ("match", config(), "--to", "./mine.py:NONE", "--on", "params", *QUICK)
    words += ("model_params.num_heads=1",)
    said = cli(*words, "-o", "elsewhere/x.json")
    assert said.code == 2
    assert "./mine.py:NONE relative to its folder" in said.errors[0]
    assert not Path("elsewhere").exists()
    assert cli(*words).code == 0
    assert Path("tiny_as_NONE.json").exists()

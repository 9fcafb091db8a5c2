"""`run`: configurations in, recorded runs and one table out."""

import csv
import io
import json
from pathlib import Path

from research_eval.store import Store

NAN_MODEL = """
import torch
from research_eval.spec import BodyOutput

class Broken(torch.nn.Module):
    def __init__(self, params, context):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, given):
        return BodyOutput(given.hidden_BLD * self.scale * float("{value}"))
"""


def recorded():
    with Store.open("experiment_results.db", mode="ro") as store:
        return store.runs()


def test_a_run_is_recorded_and_its_scores_are_printed(cli, config):
    said = cli("run", config())
    assert said.code == 0
    [record] = recorded()
    assert record.experiment_id in said.out
    assert "completed" in said.out
    assert "final_val_f1" in said.out
    assert f"next: research-eval runs show {record.experiment_id}" in said.err
    assert f"database: {Path('experiment_results.db').resolve()} (new)" in said.err
    assert "step 4/4" in said.err


def test_files_come_as_arguments_and_as_options_and_settings_replace_what_they_say(cli, config):
    files = [config(f"{name}.json", experiment_name=name) for name in "abcd"]
    said = cli(
        *("run", files[0], "--json", f"{files[1]},{files[2]}", "--json", files[3]),
        *("batch_size=50", "--set", "seed=3,training_params.log_every=2"),
        *("--format", "json"),
    )
    assert said.code == 0
    rows = said.json
    # All four are one configuration under four names, so only the first is run.
    assert [row["action"] for row in rows] == ["ran", "skipped", "skipped", "skipped"]
    assert [line[:6] for line in said.err.splitlines() if "recorded as" in line] == [
        "b seed",
        "c seed",
        "d seed",
    ]
    [record] = recorded()
    assert {row["experiment_id"] for row in rows} == {record.experiment_id}
    assert (record.batch_size, record.seed) == (50, 3)
    assert json.loads(record.full_config_json)["training_params"]["log_every"] == 2


def test_seeds_are_said_run_and_skipped_the_next_time(cli, config):
    said = cli("run", config(), "--seeds", "2", "--format", "csv")
    assert said.code == 0
    assert "seeds 0-1" in said.err.splitlines()
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [(row["seed"], row["status"]) for row in rows] == [
        ("0", "COMPLETED"),
        ("1", "COMPLETED"),
    ]
    again = cli("run", config(), "--seeds", "0-2")
    ids = {record.seed: record.experiment_id for record in recorded()}
    assert len(ids) == len(recorded()) == 3
    assert f"tiny seed 1: already recorded as {ids[1]}, --again runs it anew" in again.err
    assert cli("run", config(), "--seeds", "1,", "--again", "seed=1").code == 0
    assert [record.seed for record in recorded()].count(1) == 2


def test_seeds_share_the_data_that_was_loaded_once(cli, tmp_path, config):
    plugin = tmp_path / "cwd" / "data.py"
    plugin.write_text(
        "from dataclasses import replace\n"
        "from pathlib import Path\n"
        "from research_eval.datasets.parity import SPEC as PARITY\n"
        "def load(params, context):\n"
        "    with Path('loaded').open('a') as log: log.write('x')\n"
        "    return PARITY.load(params, context)\n"
        "DATA = replace(PARITY, name='data', load=load)\n"
    )
    said = cli("run", config(dataset_name="./data.py:DATA"), "--seeds", "3")
    assert said.code == 0
    assert len(recorded()) == 3
    assert Path("loaded").read_text() == "x"


def test_a_dry_run_tells_the_cost_and_writes_nothing(cli, config):
    config_file = config(model_type="moe", model_params={"num_experts": 4})
    [plan] = cli("run", config_file, "--dry-run", "--seeds", "2", "--format", "json").json
    assert not list(Path().glob("*.db*"))
    assert (plan["steps"], plan["runs"], plan["recorded"]) == (4, 2, {})
    assert plan["active_param_count"] < plan["param_count"]
    assert plan["tokens"] == 200 * 6
    assert min(plan["flops"], plan["memory_bytes"], plan["disk_bytes"]) > 0
    cli("run", config_file)
    [plan] = cli("run", config_file, "--dry-run", "--seeds", "2", "--format", "json").json
    assert list(plan["recorded"].values()) == ["COMPLETED"]
    assert "nothing" in cli("run", config_file, "--dry-run", "seed=9").out


def test_a_batch_goes_on_after_a_run_that_diverged(cli, config):
    Path("broken.py").write_text(NAN_MODEL.format(value="nan"))
    broken = config("broken.json", experiment_name="broken", model_type="./broken.py:Broken")
    said = cli("run", broken, config(), "--format", "json")
    assert said.code == 5
    assert said.errors[-1] == "error: 1 of 2 runs failed or diverged"
    first, second = said.json
    assert (first["status"], second["status"]) == ("DIVERGED", "COMPLETED")
    assert "not finite at step" in first["error"]
    assert f"next: research-eval runs show {first['experiment_id']}" in said.err


def test_a_model_that_raises_is_a_failed_run_with_its_traceback_kept(cli, config):
    Path("broken.py").write_text(NAN_MODEL.format(value="what"))
    said = cli("run", config(model_type="./broken.py:Broken"))
    assert said.code == 5
    assert len(said.errors) == 1
    [record] = recorded()
    assert record.status == "FAILED"
    shown = cli("runs", "show", "last").out
    assert "could not convert string to float: 'what'" in shown
    assert "broken.py" in shown


def test_names_are_never_markup_or_escapes(cli, config):
    name = "[red]x[/] [link=file:///etc]y"
    said = cli("run", config(experiment_name=name))
    assert name in said.out
    assert name in said.err
    assert cli("run", config(experiment_name="a\x1b[31mb")).code == 2
    hostile = config(experiment_name="c1\x9b31m\u202e")
    text = cli("run", hostile, "seed=1")
    assert "\\x9b31m\\u202e" in text.out
    assert "\x9b" not in text.out + text.err


def test_resume_refuses_what_cannot_be_continued(cli, config):
    cli("run", config())
    [record] = recorded()
    completed = cli("run", "--resume", record.experiment_id)
    assert completed.code == 2
    assert completed.errors == [
        f"error: run {record.experiment_id} is COMPLETED; only an interrupted one continues"
    ]
    assert cli("run", "--resume", "nobody").code == 4
    beside = cli("run", config(), "--resume", record.experiment_id)
    assert beside.code == 2
    assert "--resume" in beside.errors[0]


def test_without_a_file_there_is_a_hint(cli):
    said = cli("run", "epochs=2")
    assert said.code == 2
    assert "CONFIG" in said.errors[0]
    assert "research-eval run --help" in said.errors[0]

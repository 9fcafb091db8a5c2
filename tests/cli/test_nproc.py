"""Several processes that share one run: one record, one voice, and an end whatever happens."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from research_eval.records import RunStatus
from research_eval.store import Store

LAUNCHED = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
CALM = {"embed_dim": 8, "num_heads": 2, "num_layers": 1, "num_experts": 4, "dropout": 0.0}


def recorded():
    with Store.open("experiment_results.db", mode="ro") as store:
        return store.runs()


def others_held(process):
    """Return the numbers of the held processes but that one."""
    held = {int(file.suffix[1:]) for file in Path().glob("held.*[0-9]")}
    return held - {process.pid}


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_two_processes_make_one_record_of_what_one_would_find(cli, config):
    path = config(model_type="moe", model_params=CALM)
    shared = cli("run", path, "--nproc", "2")
    assert shared.code == 0
    assert "2 processes share each batch: 32 of its 64 rows" in shared.err
    assert cli("run", path).err.count("already recorded") == 1
    assert cli("run", path, "--again").code == 0
    alone, several = recorded()
    assert several.config_hash == alone.config_hash
    assert json.loads(several.env_details_json)["processes"] == 2
    assert several.hardware == f"{alone.hardware} x 2"
    assert several.metrics.keys() == alone.metrics.keys()
    for name in ("final_val_loss", "final_test_f1", "tokens_seen", "val_load_entropy_layer0"):
        assert several.value(name) == pytest.approx(alone.value(name), rel=1e-5), name
    with Store.open("experiment_results.db", mode="ro") as store:
        folder = store.artifact_dir / several.experiment_id
    assert sorted(file.name for file in folder.iterdir()) == ["best.safetensors", "run.log"]


def test_a_killed_process_interrupts_the_run_which_one_process_may_continue(
    cli, programs, held_config
):
    process = programs.start("run", held_config, "--nproc", "2")
    programs.wait_until_held(2)
    [other] = others_held(process)
    os.kill(other, signal.SIGKILL)
    Path("go").touch()
    said = programs.finish(process)
    assert said.code == 5
    told = "process 1 of 2 was killed by signal 9"
    assert said.errors == [f"error: {told}; the same command continues from its last resume point"]
    [record] = recorded()
    assert record.status is RunStatus.INTERRUPTED
    assert told in record.error
    again = cli("run", held_config)
    assert again.code == 0
    assert f"continuing {record.experiment_id} from step 20" in again.err
    assert [record.status for record in recorded()] == [RunStatus.COMPLETED]


@pytest.mark.slow
def test_ctrl_c_stops_all_processes_after_one_step(cli, programs, held_config):
    process = programs.start("run", held_config, "--nproc", "2", start_new_session=True)
    programs.wait_until_held(2)
    [other] = others_held(process)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C at a terminal does
    Path("go").touch()
    said = programs.finish(process)
    assert said.code == 130
    assert said.errors == ["error: stopped at step 30; the same command continues from there"]
    assert is_gone(other)
    [record] = recorded()
    assert record.status is RunStatus.INTERRUPTED
    assert cli("run", "--resume", record.experiment_id).code == 0
    assert [record.status for record in recorded()] == [RunStatus.COMPLETED]


@pytest.mark.slow
def test_without_the_first_process_the_run_is_lost_and_the_others_end(programs, held_config):
    process = programs.start("run", held_config, "--nproc", "2")
    programs.wait_until_held(2)
    [other] = others_held(process)
    process.kill()
    programs.finish(process)
    programs.wait_for(lambda: is_gone(other))
    assert [record.status for record in recorded()] == [RunStatus.LOST]


@pytest.mark.slow
def test_a_process_that_fails_by_itself_fails_the_run(programs, config):
    Path("bad.py").write_text(
        "import os, torch\n"
        "from research_eval.spec import BodyOutput\n"
        "class Bad(torch.nn.Module):\n"
        "    def __init__(self, params, context):\n"
        "        super().__init__()\n"
        "        self.scale = torch.nn.Parameter(torch.ones(()))\n"
        "    def forward(self, given):\n"
        "        if self.training and os.environ.get('RANK') == '1':\n"
        "            raise ValueError('out of order')\n"
        "        return BodyOutput(given.hidden_BLD * self.scale)\n"
    )
    said = programs.finish(programs.start("run", config(model_type="./bad.py:Bad"), "--nproc", "2"))
    assert said.code == 5
    assert "error: process 1 of 2 failed: ValueError: out of order" in said.errors[0]
    [record] = recorded()
    assert record.status is RunStatus.FAILED
    log = Path(f"experiment_results.db.artifacts/{record.experiment_id}/process1.log")
    assert "Traceback" in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
        [
            *["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"],
            *["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"],
            "--main_process_port=0",
        ],
    ],
)
def test_a_launcher_starts_the_processes(config, launcher):
    path = config(model_type="moe", model_params=CALM)
    command = [sys.executable, "-m", *launcher, "-m", "research_eval", "run", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "2 processes share each batch" in done.stderr
    again = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert (again.returncode, again.stderr.count("already recorded")) == (0, 1)
    [record] = recorded()
    assert record.status is RunStatus.COMPLETED
    two = subprocess.run([*command, "--seeds", "2"], capture_output=True, text=True, timeout=240)
    assert two.returncode == 1
    assert "2 runs are asked for, but the processes of a launcher carry out one" in two.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--nproc", "3"], "batch_size: 3 processes cannot share 64 rows; take 63 or 66"),
        (["--nproc", "100"], "batch_size: 100 processes cannot share 64 rows; take 100, or"),
        (["--nproc", "0"], "--nproc"),
        (["--nproc", "2", "--workers", "2"], "leave out --workers"),
        (["--nproc", "2", "--gpus", "0"], "leave out --gpus"),
        (["--nproc", "2", "training_params.device=cuda:0"], "there are 2 processes"),
        (["--nproc", "2", "training_params.device=mps"], "there are 2 processes"),
        (["--nproc", "2", "training_params.device=cuda"], "2 processes need a GPU each"),
        (["--nproc", "2", "training_params.compile=true"], "a compiled model takes one process"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(cli, config, words, told, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    said = cli("run", config(), *words)
    assert said.code == 2
    assert told in "\n".join(said.errors)
    assert not Path("experiment_results.db").exists() or not recorded()


def test_a_dry_run_is_of_as_many_processes(cli, config):
    many_rows = config(batch_size=512)
    said = cli("run", many_rows, "--dry-run", "--nproc", "3")
    assert said.code == 2
    assert "3 processes cannot share 512 rows" in "\n".join(said.errors)

    dry_run = ("run", many_rows, "--dry-run", "--format", "json")
    [alone], [shared] = (cli(*dry_run, "--nproc", processes).json for processes in ("1", "4"))
    assert shared["memory_bytes"] < alone["memory_bytes"]
    assert shared["flops"] == alone["flops"]


@pytest.mark.parametrize(
    ("variables", "words", "told"),
    [
        ({}, ["hpo"], "hpo takes no launcher, which started 2 processes"),
        ({}, ["suggest"], "suggest takes no launcher"),
        ({"RANK": "2"}, ["run"], "RANK=2, WORLD_SIZE=2 cannot be"),
        ({"WORLD_SIZE": "two"}, ["run"], "WORLD_SIZE=two cannot be"),
        ({"MASTER_PORT": ""}, ["run"], "MASTER_PORT= cannot be"),
    ],
)
def test_a_launcher_that_cannot_help_is_refused(cli, monkeypatch, variables, words, told):
    for name, value in (LAUNCHED | variables).items():
        monkeypatch.setenv(name, value)
    said = cli(*words)
    assert said.code == 2
    assert told in said.errors[0]


@pytest.mark.parametrize(
    "variables",
    [
        {"WORLD_SIZE": "2", "RANK": "1"},
        {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"},
        LAUNCHED | {"WORLD_SIZE": "1"},
    ],
)
def test_variables_that_are_there_by_chance_change_nothing(cli, config, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cli("run", config()).code == 0
    assert [record.status for record in recorded()] == [RunStatus.COMPLETED]


def test_reading_is_the_same_in_every_process(cli, config, monkeypatch):
    assert cli("run", config()).code == 0
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    assert cli("runs", "list").code == 0


def test_printed_jobs_share_their_runs_too(cli, config):
    said = cli("run", config(), "--nproc", "2", "--print-jobs")
    assert said.out == "research-eval run tiny.json --seeds 0, --nproc 2\n"

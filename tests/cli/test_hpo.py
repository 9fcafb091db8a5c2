"""`hpo` and `studies`: a study from the command line, its continuation, and its mistakes."""

import csv
import fcntl
import json
import os
import pty
import re
import shlex
import signal
import struct
import termios
from pathlib import Path

import pytest

from research_eval.records import RunStatus
from research_eval.store import Store

BASE = {
    "dataset_name": "parity",
    "epochs": 2,
    "dataset_params": {"num_samples": 128, "val_samples": 40, "test_samples": 0, "seq_len": 6},
    "model_params": {"embed_dim": 8, "num_heads": 2, "num_layers": 1},
    "training_params": {"device": "cpu"},
}
"""Four optimizer steps."""

BROKEN = """
import torch
raise RuntimeError("this plug-in cannot be imported")
"""

BREAKS_IN_WORKERS = """
import multiprocessing
import torch
from research_eval.spec import BodyOutput

if multiprocessing.parent_process() is not None:
    raise RuntimeError("not in a worker")

class Mine(torch.nn.Module):
    def __init__(self, params, context):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, given):
        return BodyOutput(given.hidden_BLD * self.scale)
"""


@pytest.fixture
def base():
    """Return the file of a tiny base, with changes at its top level."""

    def write(**changes):
        path = Path("base.json")
        path.write_text(json.dumps({**BASE, **changes}))
        return path

    return write


def recorded(condition=None):
    with Store.open("experiment_results.db", mode="ro") as store:
        return store.runs(filter=condition)


def small(*arguments, arms="dense", trials=2, workers=0):
    given = ("--n-trials", trials, "--pruner", "none", "--workers", workers)
    return ("hpo", "--model-type", arms, *given, *arguments)


def test_a_study_deals_its_trials_to_the_arms_and_says_what_to_do_next(cli, base):
    command = small("--json", base(), "--study-name", "first", arms="dense,moe", trials=4)
    said = cli(*command, "--format", "json")
    assert said.code == 0, said.err
    assert [row["arm"] for row in said.json] == ["dense", "moe"]
    runs = recorded('study == "first"')
    assert sorted(run.model_type for run in runs) == ["dense", "dense", "moe", "moe"]
    assert {run.run_type for run in runs} == {"optuna_trial"}
    assert "4 of 4 trials: 4 completed" in said.err
    with Path("optuna_study_first_synthetic_parity_full_results.csv").open() as file:
        assert [int(row["trial_number"]) for row in csv.DictReader(file)] == [0, 1, 2, 3]

    hint = next(line for line in said.err.splitlines() if line.startswith("next, "))
    follow = shlex.split(hint.partition("research-eval ")[2])
    assert follow[:3] == ["run", "first_best_dense.json", "first_best_moe.json"]
    assert follow[-1] == "1-5"
    plans = cli(*follow, "--dry-run", "--format", "json")
    assert plans.code == 0, plans.err
    best = {row["arm"]: row["param_count"] for row in said.json}
    assert {row["model_type"]: row["param_count"] for row in plans.json} == best


def test_the_same_command_continues_to_the_total_and_a_finished_study_says_so(cli, base):
    file = base()
    assert cli(*small("--json", file, trials=1)).code == 0
    [first] = recorded()
    assert cli(*small("--json", file, trials=3)).code == 0
    assert first.experiment_id in {run.experiment_id for run in recorded()}
    assert sorted(run.trial for run in recorded()) == [0, 1, 2]
    said = cli(*small("--json", file, trials=3))
    assert said.code == 0
    assert "study research_eval_study is finished: it has all of its 3 trials" in said.err
    assert len(recorded()) == 3


def test_studies_are_listed_and_shown_without_what_searches_and_trains(cli, base, programs):
    command = ("--json", base(), "--study-name", "shown", "--confirm", "1", "--seeds", "2")
    assert cli(*small(*command, trials=1)).code == 0
    [row] = cli("studies", "list", "--format", "json").json
    assert (row["study"], row["trials"], row["arm"]) == ("shown", "1 of 1", "dense")
    shown = cli("studies", "show", "shown", "--format", "json").json
    [trial] = shown["trials"]
    assert (len(trial["runs"]), len(trial["confirmed"])) == (2, 1)
    assert trial["confirmed_final_val_f1"] is not None
    assert shown["asked"]["n_trials"] == 1
    assert "optimizer_params.lr" in shown["space"]["dense"]
    table = cli("studies", "show", "shown", "--trials")
    assert "all trials" in table.out
    assert "0.0001 to 0.01, log" in table.out
    script = (
        "import sys\n"
        "sys.modules['optuna'] = sys.modules['torch'] = None  # as if they were not installed\n"
        "from research_eval.cli import main\n"
        "sys.exit(main(['studies', 'show', 'shown']) or main(['studies', 'list']))"
    )
    reader = programs.start_python("-c", script)
    said = programs.finish(reader)
    assert said.code == 0, said.err
    assert "best of each arm" in said.out


def test_options_of_the_original_make_the_fixed_part(cli):
    said = cli(
        *small("--dataset-type", "synthetic", "--syn-num-samples", "150", "--syn-seq-len", "9"),
        *("--syn-vocab-size", "4", "--epochs", "1", "--batch-size", "50"),
        *("--search", "model_params.embed_dim=8,16", "--search", "model_params.num_layers=1"),
    )
    assert said.code == 0, said.err
    for run in recorded():
        assert (run.epochs, run.batch_size) == (1, 50)
        assert run.params["dataset_params.num_samples"] == 150
        assert run.params["dataset_params.seq_len"] == 9
        assert run.params["dataset_params.vocab_size"] == 4
        assert run.params["model_params.num_layers"] == 1
        assert run.params["model_params.embed_dim"] in (8, 16)


def test_several_objectives_make_a_front_and_a_constraint_is_kept(cli, base):
    said = cli(
        *small("--json", base(model_params={"num_layers": 1, "num_heads": 2}), trials=3),
        *("--objective", "final_val_f1:max", "--objective", "param_count:min"),
        *("--constraint", "param_count<=1e7", "--search", "model_params.embed_dim=4,8,16"),
    )
    assert said.code == 0, said.err
    assert "no other trial is better in everything" in said.out
    assert "param_count" in said.out


def test_finished_trials_are_copied_once_to_an_optuna_storage(cli, base):
    optuna = pytest.importorskip("optuna")
    url = "sqlite:///mirror.db"
    for trials in (2, 3):
        command = small("--json", base(), "--storage", url, arms="dense,moe", trials=trials)
        said = cli(*command)
        assert said.code == 0, said.err
    study = optuna.load_study(study_name="research_eval_study", storage=url)
    copied = {trial.user_attrs["research_eval_trial"]: trial for trial in study.trials}
    assert len(study.trials) == len(copied) == 3
    for run in recorded():
        trial = copied[run.trial]
        assert trial.value == pytest.approx(run.value("final_val_f1"))
        assert trial.params["model_type"] == run.model_type
        assert trial.params["optimizer_params.lr"] == run.params["optimizer_params.lr"]
    assert "model_params[moe].top_k" in copied[1].params


def test_a_storage_that_cannot_be_used_is_told_before_anything_runs(cli, base):
    said = cli(*small("--json", base(), "--storage", "nothing://user:secret@x"))
    assert said.code == 4
    assert "nothing://user:***@x" in said.errors[0]
    assert [path.name for path in Path().iterdir()] == ["base.json"]


def test_a_dry_run_shows_the_space_and_the_costs_and_records_nothing(cli, base):
    command = small("--json", base(), "--dry-run", arms="dense,moe", trials=5)
    found = cli(*command, "--format", "json").json
    assert [(arm["arm"], arm["trials"]) for arm in found["arms"]] == [("dense", 3), ("moe", 2)]
    for arm in found["arms"]:
        assert arm["seconds_each"][1] > 0
        assert arm["memory_bytes"][1] >= arm["memory_bytes"][0] > 0
        assert arm["disk_bytes"][0] == arm["runs"] * arm["param_count"][0] * 4
    ranges = {row["parameter"]: row for row in found["space"]}
    assert ranges["optimizer_params.lr"]["arms"] == "all"
    assert ranges["model_params.top_k"] == {
        "parameter": "model_params.top_k",
        "range": "1, 2, 4",
        "arms": "moe",
    }
    assert "model_params.embed_dim" not in ranges, "the base sets it"
    assert sorted(path.name for path in Path().iterdir()) == ["base.json"]


BAD = {
    "no trials": (("--n-trials", "0"), 2, ("n_trials: must be 1 or more",)),
    "contradictory range": (
        ("--search", "optimizer_params.lr=1e-2:1e-4"),
        2,
        ("optimizer_params.lr: ", "low"),
    ),
    "illegal range": (("--search", "model_params.dropout=0:3"), 2, ("model_params.dropout: 3",)),
    "unknown parameter": (
        ("--search", "model_params.num_layer=1,2"),
        2,
        ("did you mean 'model_params.num_layers'?",),
    ),
    "data": (("--search", "dataset_params.seq_len=8,16"), 2, ("data is never tuned",)),
    "unknown arm": (("--model-type", "densse"), 2, ("did you mean 'dense'?",)),
    "arm twice": (("--model-type", "dense,dense"), 2, ("arms: each may be named once",)),
    "unknown sampler": (("--sampler", "tpee"), 2, ("did you mean 'tpe'?",)),
    "test split": (("--objective", "final_test_f1:max"), 2, ("never looks at the test split",)),
    "no direction": (("--objective", "mine"), 2, ("as in final_val_f1:max, not 'mine'",)),
    "constraint": (("--constraint", "param_count"), 2, ("as in param_count<=5e6",)),
    "name": (("--study-name", "a/b"), 2, ("name: 'a/b'",)),
    "time": (("--timeout", "soon"), 2, ("--timeout", "90, 30m or 2h")),
    "field": (("--rw-max-length", "9"), 2, ("dataset_params.max_length: unknown field",)),
    "kind of data": (("--dataset-type", "real_world"), 2, ("dataset_type: ",)),
    "no file": (("--json", "none.json"), 2, ("there is no file none.json",)),
    "workers": (("--workers", "100000"), 2, ("100000 workers need about", "GiB")),
    "gpu": (("--gpus", "97"), 2, ("there is no GPU 97",)),
    "no folder": (("--db", "none/there/x.db"), 4, ("none/there",)),
}


@pytest.mark.parametrize(("options", "code", "hints"), BAD.values(), ids=BAD)
def test_what_cannot_be_carried_out_is_refused_before_anything_is_written(
    cli, options, code, hints
):
    said = cli(*small("--epochs", "1", "--syn-num-samples", "100"), *options)
    assert said.code == code, said.err
    for hint in hints:
        assert hint in "\n".join(said.errors), said.err
    assert list(Path().iterdir()) == []


def test_a_base_that_is_no_json_and_a_study_that_is_not_there(cli):
    Path("bad.json").write_text('{"epochs": 1, "epochs": 2}')
    said = cli(*small("--json", "bad.json"))
    assert said.code == 2
    assert "epochs: appears twice" in said.err
    assert cli("studies", "list").code == 4
    Store.open("experiment_results.db", create=True).close()
    assert "no study is recorded" in cli("studies", "list").err
    said = cli("studies", "show", "none")
    assert said.code == 4
    assert "there is no study 'none'" in said.errors[0]


def test_an_objective_that_no_trial_records_ends_the_study_with_what_there_is(cli, base):
    said = cli(*small("--json", base(), "--objective", "final_val_f2:max"))
    assert said.code == 2
    assert "records no 'final_val_f2'" in said.errors[0]
    assert "final_val_f1" in said.errors[0]
    [run] = recorded()
    assert run.status is RunStatus.COMPLETED
    assert cli(*small("--json", base())).code == 0, "what was recorded is of use"


def test_a_changed_space_is_said_and_earlier_trials_are_kept(cli, base):
    file = base()
    assert (
        cli(*small("--json", file, "--search", "optimizer_params.lr=1e-4:1e-3", trials=1)).code == 0
    )
    said = cli(*small("--json", file, "--search", "optimizer_params.lr=2e-3:1e-2", trials=2))
    assert said.code == 0, said.err
    assert "the space has changed: dense: optimizer_params.lr" in said.err
    rates = {run.trial: run.params["optimizer_params.lr"] for run in recorded()}
    assert rates[0] <= 1e-3 < 2e-3 <= rates[1]


def test_a_study_of_other_data_is_refused(cli, base):
    assert cli(*small("--json", base(), trials=1)).code == 0
    said = cli(*small("--json", base(), "--syn-seq-len", "7", trials=2))
    assert said.code == 2
    assert "choose another --study-name" in said.errors[0]
    assert len(recorded()) == 1


def test_a_plugin_that_breaks_on_import_is_told(cli, base):
    Path("mine.py").write_text(BROKEN)
    said = cli(*small("--json", base(model_params={}), arms="./mine.py:Mine"))
    assert said.code == 2
    assert "this plug-in cannot be imported" in said.errors[0]
    assert not Path("experiment_results.db").exists()


def test_a_plugin_that_breaks_only_in_workers_makes_failed_trials(programs, base):
    Path("mine.py").write_text(BREAKS_IN_WORKERS)
    file = base(model_params={"embed_dim": 8, "num_heads": 2})
    process = programs.start(*small("--json", file, arms="./mine.py:Mine", workers=2))
    said = programs.finish(process)
    assert said.code == 5, said.err
    assert "none of 2 trials came to a score" in said.err
    assert "not in a worker" in said.err
    assert [run.status for run in recorded()] == [RunStatus.FAILED] * 2
    assert "Traceback" not in said.err


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_stops_with_resume_points_and_the_same_command_goes_on(
    programs, held_config, workers
):
    command = small("--json", held_config, arms="./held.py:Held", trials=2, workers=workers)
    process = programs.start(*command)
    programs.wait_until_held(max(1, workers))
    process.send_signal(signal.SIGINT)
    if workers:  # until the signal was passed on
        assert any(line.startswith("stopping; waiting for 2") for line in process.stderr)
    Path("go").touch()
    said = programs.finish(process)
    assert said.code == 130, said.err
    [error] = said.errors
    assert error.startswith("error: stopped")
    assert error.endswith("; the same command continues from there")
    assert [run.status for run in recorded()] == [RunStatus.INTERRUPTED] * max(1, workers)
    listed = programs.finish(programs.start("studies", "list"))
    assert f"0 of 2   {max(1, workers)} begun" in listed.out
    again = programs.finish(programs.start(*command))
    assert again.code == 0, again.err
    assert [run.status for run in recorded()] == [RunStatus.COMPLETED] * 2
    assert sorted(run.trial for run in recorded()) == [0, 1]


def test_a_terminal_shows_the_plan_and_what_runs(programs, held_config):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    command = small("--json", held_config, arms="./held.py:Held", trials=1)
    process = programs.start(*command, stderr=theirs, env=environment)
    os.close(theirs)
    programs.wait_until_held()
    Path("go").touch()
    text = b""
    while True:
        try:
            text += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait(timeout=60) == 0
    shown = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", text).decode()
    assert "study research_eval_study: 1 trials, 1 of ./held.py:Held" in shown
    assert "optimizer_params.lr" in shown
    assert "20/60" in shown or "40/60" in shown or "60/60" in shown
    assert "best of ./held.py:Held so far" in shown

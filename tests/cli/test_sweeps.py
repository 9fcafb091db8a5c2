"""`run --sweep` and `--ablate`: which runs they become, how they are recorded, what is refused."""

import json
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from research_eval.store import Store

MOE = {"model_type": "moe", "model_params": {"num_experts": 4}}


def recorded(condition=None):
    with Store.open("experiment_results.db", mode="ro") as store:
        return store.runs(filter=condition)


def planned(cli, *arguments):
    """Return the commands that the runs of a command would be, without those words they share."""
    said = cli("run", *arguments, "--print-jobs")
    assert said.code == 0, said.err
    return [shlex.split(line)[2:] for line in said.out.splitlines()]


def varied(words):
    return [after for before, after in pairwise(words) if before == "--sweep"]


def test_a_sweep_is_the_product_and_an_ablation_one_change_at_a_time(cli, config):
    jobs = planned(
        *(cli, config(**MOE), "--sweep", "seed=0-1"),
        *("--ablate", "model_params.aux_loss_weight=0", "--ablate", "model_params.top_k=1,4"),
    )
    ablations = [
        [],
        ["model_params.aux_loss_weight=0"],
        ["model_params.top_k=1"],
        ["model_params.top_k=4"],
    ]
    assert [varied(job) for job in jobs] == [each for each in ablations for _ in range(2)]
    assert [job[job.index("--seeds") + 1] for job in jobs] == ["0,", "1,"] * 4
    assert len({job[job.index("--group") + 1] for job in jobs}) == 1
    assert not Path("experiment_results.db").exists()


def test_runs_of_a_sweep_are_a_group_that_knows_what_was_changed(cli, config):
    command = ("run", config(**MOE), "--sweep", "model_params.top_k=1,2", "--sweep", "seed=3,5")
    said = cli(*command, "--format", "json")
    assert said.code == 0, said.err
    rows = [(row["model_params.top_k"], row["seed"]) for row in said.json]
    assert rows == [(1, 3), (1, 5), (2, 3), (2, 5)]
    [group] = {record.group for record in recorded()}
    [found] = recorded(f'group == "{group}" and model_params.top_k == 2 and seed == 5')
    origin = json.loads(found.full_config_json)["origin"]
    assert (origin["kind"], origin["parent"]) == ("sweep", group)
    assert origin["changed"] == {"model_params.top_k": 2}
    hint = next(line for line in said.err.splitlines() if line.startswith("next: "))
    listed = cli(*shlex.split(hint.removeprefix("next: research-eval ")), "--format", "json")
    assert {row["experiment_id"] for row in listed.json} == {r.experiment_id for r in recorded()}

    again = cli(*command)
    assert again.code == 0
    assert len(recorded()) == 4


def test_the_commands_of_a_job_array_record_what_the_sweep_would(cli, config):
    sweep = ("run", config(**MOE), "epochs=2", "--sweep", "model_params.top_k=1,2")
    lines = cli(*sweep, "--print-jobs", "--db", "array.db").out.splitlines()
    for line in lines:
        assert cli(*shlex.split(line)[1:]).code == 0
    assert cli(*sweep).code == 0
    with Store.open("array.db", mode="ro") as store:
        array = {(r.config_hash, r.group, r.full_config_json) for r in store.runs()}
    assert array == {(r.config_hash, r.group, r.full_config_json) for r in recorded()}


def test_runs_that_were_recorded_before_are_said_to_stand_outside_of_the_group(cli, config):
    file = config(**MOE)
    assert cli("run", file, "model_params.top_k=1").code == 0
    said = cli("run", file, "--sweep", "model_params.top_k=1,2", "--group", "mine")
    assert "1 of 2 runs were recorded before, outside of group mine" in said.err
    assert [record.group for record in recorded()] == ["mine", None]


def test_a_dry_run_shows_what_differs(cli, config):
    said = cli("run", config(**MOE), "--sweep", "model_params.top_k=1,4", "--dry-run")
    assert said.code == 0, said.err
    assert "top_k" in said.out.splitlines()[0]
    assert not Path("experiment_results.db").exists()


def test_values_with_commas_in_brackets_or_quotes_are_one_value(cli, config):
    jobs = planned(cli, config(), "--sweep", 'tags=["a","b"],["c"]')
    assert [varied(job) for job in jobs] == [['tags=["a","b"]'], ['tags=["c"]']]


@pytest.mark.parametrize(
    ("options", "hints"),
    [
        (("--sweep", "epochs"), ("write path=value,value",)),
        (("--sweep", "epochs=1,,2"), ("write path=value,value",)),
        (("--sweep", "epochs=1,2,1"), ("names 1 more than once",)),
        (("--sweep", "epochs=4-1"), ("'4-1' in 'epochs=4-1' is no range",)),
        (("--sweep", "epochs=1", "--ablate", "epochs=2"), ("epochs can be varied in one way",)),
        (("--sweep", "seed=0-2", "--seeds", "2"), ("--seeds", "cannot be swept too")),
        (("--sweep", "model_params.num_layer=1,2"), ("did you mean 'num_layers'?",)),
        (("--gpus", "0,zero"), ("--gpus", "ids of GPUs")),
        (("--gpus", "0,0"), ("--gpus", "each once")),
        (("--gpus", "0,1", "--workers", "3"), ("--gpus", "says already how many")),
        (("--gpus", "97"), ("there is no GPU 97",)),
        (("--workers", "100000", "--seeds", "9999"), ("9999 workers need about 3417", "GiB")),
    ],
)
def test_what_cannot_be_varied_or_shared_is_refused_before_anything_is_written(
    cli, config, options, hints
):
    said = cli("run", config(), *options)
    assert said.code == 2, said.err
    for hint in hints:
        assert hint in said.err
    assert not Path("experiment_results.db").exists()


def test_every_illegal_variant_is_named(cli, config):
    said = cli("run", config(**MOE), "--sweep", "model_params.top_k=1,8,9")
    assert said.code == 2
    assert said.errors[0] == "error: 2 of 3 configurations are not legal"
    assert said.errors[1].startswith("  tiny.json model_params.top_k=8: ")

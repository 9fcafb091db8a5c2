"""`suggest` at the command line, from recorded runs to runs of what it suggests."""

import csv
import io
import json
import shlex
import shutil
from pathlib import Path

import pytest

from research_eval.cli import main

from .conftest import TINY


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    """Three recorded runs."""
    folder = tmp_path_factory.mktemp("laboratory")
    config, store = folder / "tiny.json", folder / "lab.db"
    config.write_text(json.dumps(TINY))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESEARCH_EVAL_ALLOCATOR", "default")
        rates = ["--sweep", "optimizer_params.lr=1e-3,3e-3,5e-3"]
        assert main(["run", str(config), *rates, "--db", str(store)]) == 0
    return folder


@pytest.fixture(autouse=True)
def _recorded(laboratory):
    for file in ("tiny.json", "lab.db"):
        shutil.copy(laboratory / file, file)


def test_from_runs_to_suggestions_to_runs(cli):
    said = cli("suggest", "--db", "lab.db", "--n", 2, "--max-params", "20k", "--format", "json")
    assert said.code == 0, said.err
    assert "learnt from 3 configurations of dense on parity, for final_val_f1:max" in said.err
    files = [each["path"] for each in said.json]
    assert sorted(files) == sorted(map(str, Path("suggested_configs").iterdir()))
    done = cli("run", *files, "--db", "lab.db", "--format", "json")
    assert [each["status"] for each in done.json] == ["COMPLETED"] * 2
    again = cli("suggest", "--db", "lab.db", "--n", 2, "--max-params", "20k", "--format", "json")
    assert "learnt from 5 configurations" in again.err
    assert not {each["path"] for each in again.json} & set(files)


def test_the_next_step_names_these_files_alone_and_as_a_shell_reads_them(cli):
    command = ("suggest", "--db", "lab.db", "--n", 2, "--strategy", "perturb", "--format", "json")
    cli(*command, "--output-dir", "my night")
    said = cli(*command, "--output-dir", "my night", "--seed", 1)
    assert len(list(Path("my night").iterdir())) > 2
    (step,) = [line for line in said.err.splitlines() if line.startswith("next: ")]
    paths = [each["path"] for each in said.json]
    assert shlex.split(step) == ["next:", "research-eval", "run", *paths]


def test_suggested_and_run_in_one_go(cli):
    said = cli(
        "suggest", "--db", "lab.db", "--n", 1, "--strategy", "perturb", "--max-params", "20k",
        "--run", "--format", "json",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert [each["status"] for each in said.json] == ["COMPLETED"]
    runs = cli("runs", "list", "--db", "lab.db", "--format", "json").json
    assert len(runs) == 4
    origin = cli("runs", "show", "last", "--db", "lab.db", "--format", "json").json
    assert "suggestion" in json.dumps(origin)


def test_what_fits_is_run_also_where_fewer_fit_than_were_asked_for(cli):
    command = ("suggest", "--db", "lab.db", "--strategy", "perturb", "--max-params", "20k")
    all_six = cli(*command, "--output-dir", "unlimited", "--format", "json").json
    budget = f"{1.001 * (all_six[0]['seconds'] + all_six[1]['seconds']):.6f}"
    said = cli(*command, "--budget", budget, "--run", "--format", "json")
    assert said.code == 6
    assert "2 of 6 suggestions: no more fit --max-params and --budget" in said.errors[0]
    assert len(list(Path("suggested_configs").iterdir())) == 2
    assert [each["status"] for each in said.json] == ["COMPLETED"] * 2


def test_forms(cli):
    table = cli("suggest", "--db", "lab.db", "--explain")
    assert "a variation of run" in table.out
    assert "fills the space evenly" in table.out
    rows = list(
        csv.DictReader(io.StringIO(cli("suggest", "--db", "lab.db", "--format", "csv").out))
    )
    assert len(rows) == 6
    assert json.loads(rows[0]["changed"])


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--max-params", "many"], 2, "write a number as in 5M"),
        (["--budget", "soon"], 2, "write a time as in 90, 30m or 2h"),
        (["--strategy", "magic"], 2, "strategy: unknown 'magic'; known: auto"),
        (["--filter", "epochs >"], 2, "of the filter"),
        (["--filter", "epochs > 99"], 3, "no run that meets the filter"),
        (["--strategy", "gp", "--filter", "optimizer_params.lr > 4e-3"], 3, "there are 1"),
        (["--max-params", "10"], 6, "0 of 6 suggestions: no more fit --max-params"),
        (["--output-dir", "tiny.json/out"], 4, "cannot be written"),
        (["--db", "none.db"], 4, "none.db"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(cli, arguments, code, told):
    given = arguments if "--db" in arguments else [*arguments, "--db", "lab.db"]
    said = cli("suggest", *given)
    assert said.code == code
    assert told in said.errors[0]
    assert not Path("suggested_configs").exists()
    assert said.out == ""


def test_a_store_that_nobody_made(cli):
    Path("lab.db").unlink()
    said = cli("suggest")
    assert said.code == 4
    assert not Path("experiment_results.db").exists()
    assert not Path("suggested_configs").exists()

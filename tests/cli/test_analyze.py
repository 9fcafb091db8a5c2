"""`analyze` as its users meet it, with everything that can be missing or wrong."""

import csv
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.testing.runs import new_run

SCORES = {"dense": (0.70, 0.72, 0.71), "moe": (0.80, 0.82, 0.81)}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store():
    with Store.open("experiment_results.db", create=True) as opened, opened.kept_open():
        yield opened


def record(store, arm="moe", value=0.5, seed=0, status=RunStatus.COMPLETED, **more):
    usual = {
        "model_type": arm,
        "dataset_name": "parity",
        "project": "p",
        "seed": seed,
        "config_hash": f"hash of {arm}",
        "code_hash": "code",
        "data_hash": "data",
    }
    metrics = more.pop("metrics", {"final_val_f1": value})
    run = f"run{len(store.runs(metrics=()))}"
    writer = store.start(new_run(run, **usual | more))
    if metrics:
        writer.log(metrics, step=1)
    writer.finish(status)
    return run


@pytest.fixture
def compared(store):
    for arm, values in SCORES.items():
        for seed, value in enumerate(values):
            record(store, arm, value, seed)
    return store


def written(folder="analysis_reports"):
    return {path.name for path in Path(folder).iterdir()}


@pytest.mark.usefixtures("compared")
class TestWhatIsShown:
    def test_the_verdict_the_best_runs_and_the_next_step(self, cli):
        said = cli("analyze", "--candidate", "moe", "--baseline", "dense")
        assert said.code == 0, said.err
        assert said.out.startswith("moe beats dense by 10.0 ± 2.3 points of final_val_f1, n = 3")
        assert "best runs on parity" in said.out
        assert "next: open analysis_reports/parity_report.html" in said.err
        assert {
            "parity_summary_table_best_finalvalf1.csv",
            "parity_contrasts.csv",
            "parity_contrasts.png",
            "parity_seeds.png",
            "parity_report.html",
        } <= written()

    def test_what_was_seen_already_is_not_offered_as_planned(self, cli):
        said = cli("analyze")
        assert "exploratory" in said.out
        assert "--candidate" not in said.out + said.err
        assert said.err.endswith("next: open analysis_reports/parity_report.html\n")

    def test_json_has_everything(self, cli):
        told = cli("analyze", "--candidate", "moe", "--format", "json").json["parity"]
        assert (told["metric"], told["direction"], told["runs"]) == ("final_val_f1", "max", 6)
        (contrast,) = told["outputs"]["contrasts"]["rows"]
        assert contrast["verdict"] == "better"
        assert contrast["test_delta"] is None  # not NaN
        assert "analysis_reports/parity_report.html" in told["files"]
        assert told["outputs"]["ablation"]["notes"]

    def test_csv_is_the_table_of_best_runs(self, cli):
        rows = [*csv.DictReader(io.StringIO(cli("analyze", "--format", "csv").out))]
        assert [row["arm"] for row in rows] == ["moe", "dense"]
        assert rows[0]["final_val_f1"] == "0.82"

    def test_the_original_flags_make_one_file_each(self, cli, store):
        for seed in range(2):
            costs = {"param_count": 10.0, "inference_latency_ms_batch_p50": 1.0}
            record(store, "goe", 0.5, seed, metrics={"final_val_f1": 0.5 + seed / 10, **costs})
        cli("analyze", "--run-summary-table", "--output-dir", "one")
        assert written("one") == {"parity_summary_table_best_finalvalf1.csv"}
        cli("analyze", "--run-f1-vs-params-plot", "--output-dir", "two")
        assert written("two") == {"parity_f1_vs_params.csv", "parity_f1_vs_params.png"}
        cli("analyze", "--run-f1-vs-latency-plot", "--output-dir", "three")
        assert written("three") == {"parity_f1_vs_latency.csv", "parity_f1_vs_latency.png"}

    def test_filter_models_and_metric(self, cli):
        said = cli("analyze", "--filter", "seed < 2", "--model-types", "moe", "--format", "json")
        assert said.json["parity"]["runs"] == 2

    def test_that_runs_of_several_projects_count_is_said(self, cli, store):
        assert "several projects" not in cli("analyze").err
        record(store, "goe", project="q")
        said = cli("analyze", "--format", "json").json["parity"]
        (told,) = said["outputs"]["best_runs"]["sentences"]
        assert told.startswith("Runs of several projects count together: p (6) and q (1);")
        assert "p (6) and q (1)" in cli("analyze").err
        assert "several projects" not in cli("analyze", "--project", "p").err

    def test_a_part_of_the_data_sets(self, cli, store):
        record(store, dataset_name="imdb")
        both = cli("analyze", "--format", "json").json
        assert set(both) == {"parity", "imdb"}
        assert set(cli("analyze", "--dataset-name", "imdb", "--format", "json").json) == {"imdb"}


# ------------------------------------------------------------------------------ for a paper


def test_a_paper_and_its_lock_and_how_to_have_the_same_later(cli, compared):
    said = cli("analyze", "--candidate", "moe", "--paper", "--width", "84mm", "--output-dir", "a")
    assert said.code == 0, said.err
    assert {"parity_results.tex", "parity_contrasts.pdf", "paper.lock.json"} <= written("a")
    assert f"{len(written('a'))} files written to a" in said.err
    assert said.err.splitlines()[-1] == (
        "the same bytes later: research-eval analyze --lock a/paper.lock.json"
    )
    record(compared, "moe", 0.99, 7)
    assert cli("analyze", "--lock", "a/paper.lock.json", "--output-dir", "b").code == 0
    assert written("a") == written("b")
    assert all(Path("a", n).read_bytes() == Path("b", n).read_bytes() for n in written("a"))
    assert cli("runs", "delete", "run0").code == 0
    said = cli("analyze", "--lock", "a/paper.lock.json", "--output-dir", "c")
    assert said.code == 4
    assert "in the trash (research-eval runs restore ID): run0" in said.errors[0]
    assert not Path("c").exists()


def test_without_paper_nothing_is_written_for_one(cli, compared):
    record(compared, host="zeus-lab-17", project="musterlab-private")
    cli("analyze")
    assert not [name for name in written() if name.endswith((".tex", ".pdf", ".lock.json"))]
    said = cli("analyze", "--anonymous")
    assert said.code == 0, said.err
    assert "musterlab-private" in said.err  # what was removed is told to the author
    assert not any(b"musterlab" in Path("analysis_reports", n).read_bytes() for n in written())
    Path("analysis_reports/older.html").write_text("musterlab")
    assert "1 other files lie there" not in said.err
    assert "not made anonymous: older.html" in cli("analyze", "--anonymous").err


@pytest.mark.usefixtures("compared")
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--width", "3.25in"], "for a paper: --paper"),
        (["--paper", "--width", "3.25"], "write a width as in 3.25in, 8.5cm, 84mm or 234pt"),
        (["--paper", "--width", "-3in"], "write a width as in"),
        (["--paper", "--width", ""], "write a width as in"),
        (["--paper", "--width", "1in"], "'1in' is 1 inches; figures are legible from 3 to 12"),
        (["--paper", "--width", "400mm"], "'400mm' is 15.7 inches"),
        (["--paper", "--run-summary-table"], "leave out the --run options"),
        (["--lock", "nothing.json"], "nothing.json cannot be read: No such file"),
        (["--lock", "x", "--candidate", "moe"], "says what was asked, --candidate included"),
        (["--lock", "x", "--anonymous"], "says what was asked, --anonymous included"),
        (["--lock", "experiment_results.db"], "is no lock of version 1"),
    ],
)
def test_mistakes_about_papers(cli, options, told):
    said = cli("analyze", *options)
    assert said.code == 2
    assert told in said.errors[0]
    assert not Path("analysis_reports").exists()


@pytest.mark.usefixtures("compared")
def test_no_torch_no_registry_no_optuna():
    code = (
        "import sys\nfrom research_eval.cli import main\n"
        "code = main(['analyze', '--run-all'])\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'torch', 'optuna', 'transformers', 'datasets'}, loaded\n"
        "assert 'research_eval.registry' not in sys.modules\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------ bad input


def test_no_database(cli):
    said = cli("analyze")
    assert said.code == 4
    assert "record a run first" in said.errors[0]


@pytest.mark.usefixtures("store")
def test_no_runs(cli):
    said = cli("analyze")
    assert said.code == 4
    assert said.errors == [
        "error: there are no runs to analyse yet; record some first: research-eval run cfg.json"
    ]
    assert not Path("analysis_reports").exists()


def test_one_run(cli, store):
    record(store)
    said = cli("analyze", "--format", "json")
    assert said.code == 0
    outputs = said.json["parity"]["outputs"]
    assert outputs["contrasts"]["notes"] == [
        "there is one architecture, and nothing to compare it with"
    ]
    assert outputs["seeds"]["sentences"] == [
        "moe reaches final_val_f1 0.5 on one seed, so with no interval."
    ]


def test_one_seed_of_each(cli, store):
    for arm in ("dense", "moe"):
        record(store, arm)
    said = cli("analyze", "--candidate", "moe")
    assert said.code == 0
    assert "No verdict on moe and dense: moe and dense have one seed" in said.out


def test_a_metric_that_nobody_recorded(cli, store):
    record(store)
    said = cli("analyze", "--metric-to-optimize", "final_val_acc")
    assert said.code == 2
    assert said.errors[0].startswith("error: no run recorded 'final_val_acc'")
    assert not Path("analysis_reports").exists()


def test_a_metric_without_direction(cli, store):
    record(store, metrics={"score": 1.0})
    said = cli("analyze", "--metric-to-optimize", "score")
    assert said.code == 2
    assert "which way is score better" in said.errors[0]
    assert cli("analyze", "--metric-to-optimize", "score:max").code == 0


@pytest.mark.parametrize("status", ["FAILED", "DIVERGED", "COLLAPSED"])
def test_only_failed_runs(cli, store, status):
    record(store, status=RunStatus(status), metrics={})
    said = cli("analyze")
    assert said.code == 0
    assert "Best runs: no run came to a finite final_val_f1" in said.err
    page = Path("analysis_reports/parity_report.html").read_text()
    assert "1 run of moe: 1 failed." in page
    assert "<img" not in page


@pytest.mark.parametrize("config", ["{}", '{"model_params": [1], "gone": {"a": null}}'])
def test_old_configurations_of_a_model_that_is_gone(cli, store, config):
    for seed in range(2):
        record(store, "gone_model", 0.5 + seed / 10, seed, full_config_json=config)
    record(store, "moe", full_config_json='{"model_params": {"top_k": 2}}')
    said = cli("analyze")
    assert said.code == 0
    assert "gone_model" in said.out


@pytest.mark.parametrize("name", ["file", "file/inside"])
def test_a_folder_that_cannot_be_written(cli, store, name):
    record(store)
    Path("file").touch()
    said = cli("analyze", "--output-dir", name)
    assert said.code == 4
    assert said.errors[0].startswith(f"error: the folder {name} cannot be written")


def test_ties(cli, store):
    for arm in ("dense", "moe"):
        for seed in range(3):
            record(store, arm, 1.0, seed)
    said = cli("analyze", "--candidate", "moe")
    assert said.code == 0
    assert "the seeds of neither spread" in said.out


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_no_numbers(cli, store, value):
    record(store, "dense", 0.5)
    record(store, "moe", value)
    said = cli("analyze", "--format", "json")
    assert said.code == 0
    outputs = said.json["parity"]["outputs"]
    assert [row["arm"] for row in outputs["best_runs"]["rows"]] == ["dense"]
    assert any("1 of 1 run of moe failed" in each for each in outputs["seeds"]["sentences"])


def test_mixed_code_and_data_are_never_a_silent_pool(cli, compared):
    record(compared, "moe", 0.1, 7, data_hash="other")
    record(compared, "moe", 0.9, 8, code_hash="newer")
    said = cli("analyze", "--format", "json")
    left_out = said.json["parity"]["left_out"]
    assert [each.partition(" left out: ")[0] for each in left_out] == ["1 run", "3 runs"]
    pooled = cli("analyze", "--any-code", "--format", "json").json["parity"]
    assert pooled["runs"] == 7


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--candidate", "mine"], "no run has the architecture 'mine'"),
        (["--candidate", ""], "no run has the architecture ''"),
        (["--candidate", "moe", "--baseline", "moe"], "'moe' is the candidate and a baseline"),
        (["--baseline", "moe"], "the baseline 'moe' has nothing to be compared with"),
        (["--ablation", "parts"], "no run has the group 'parts'"),
        (["--ablation", ""], "no run has the group ''"),
        (["--model-types", "moe,mine"], "no run has the architecture 'mine'"),
        (["--dataset-name", "imdb"], "no run has the data set 'imdb'"),
        (["--study", "s"], "no run has the study 's'"),
        (["--filter", "seed >"], "error: "),
        (["--filter", "seed > 9"], "no run on parity meets the conditions"),
        (["--failed-as", "best"], "Invalid value"),
        (["--margin", "-1"], "Invalid value"),
        (["--metric-to-optimize", "final_val_f1:min"], "of final_val_f1 better is max"),
    ],
)
def test_mistakes_in_options(cli, store, options, told):
    record(store)
    said = cli("analyze", *options)
    assert said.code == 2
    assert told in said.err
    assert not Path("analysis_reports").exists()


def test_names_are_text_on_the_terminal_too(cli, store):
    name = "moe\x1b[31m"
    for seed in range(2):
        record(store, name, 0.5 + seed / 10, seed)
    said = cli("analyze")
    assert said.code == 0
    assert "\x1b" not in said.out + said.err


def test_what_is_recorded_for_an_option_is_in_the_report(cli, store):
    record(store, env_details_json=json.dumps({"packages": {"torch": "2.13.0"}}))
    cli("analyze")
    assert "2.13.0" in Path("analysis_reports/parity_report.html").read_text()

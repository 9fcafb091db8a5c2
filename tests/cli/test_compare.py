"""`compare` as its users meet it."""

from pathlib import Path

import pytest

from research_eval.comparing import report
from research_eval.store import Store

ROUTERS = """
from dataclasses import replace

import torch
from torch import nn

from research_eval.routers.softmax import SPEC
from research_eval.spec import RouterOutput

Mine = replace(SPEC, name="mine")


class Broken(nn.Module):
    # Always the first expert, twice: experts that do not differ.
    def __init__(self, context):
        super().__init__()
        self.top_k = context.top_k

    def forward(self, tokens):
        probs_TE = tokens.logits_TE.softmax(dim=-1)
        chosen_TK = torch.zeros_like(probs_TE[:, : self.top_k], dtype=torch.long)
        return RouterOutput(chosen_TK, probs_TE.gather(1, chosen_TK), probs_TE)
"""

SMALL = ("--baselines", "moe", "--n-trials", "4", "--seeds", "2", "--workers", "0")


@pytest.fixture
def mine(config):
    """Return a configuration whose router is top-k under another name."""
    Path("routers.py").write_text(ROUTERS)

    def write(router="Mine", **changes):
        params = {"router": f"./routers.py:{router}", "num_experts": 4, "top_k": 1}
        return config("mine.json", model_type="moe", model_params=params, **changes)

    return write


@pytest.fixture
def only_verdicts(monkeypatch):
    monkeypatch.setattr(report, "find_outputs", list)


@pytest.fixture
def kept(monkeypatch):
    """Skip the checks, which take half a minute and have tests of their own."""
    monkeypatch.setattr("research_eval.cli.check.require_kept", lambda *_: None)


@pytest.mark.usefixtures("only_verdicts", "kept")
def test_a_comparison_ends_with_a_verdict_and_a_finished_one_only_repeats_it(cli, mine):
    first = cli("compare", mine(), *SMALL)
    assert first.code == 0
    verdict = first.out.splitlines()[0]
    assert verdict.startswith("No difference between mine and moe shown: mine ")
    assert "2 trials of each arm cannot show a difference" in first.err
    assert "everything went as planned" in first.err
    assert "plan: compare_mine_plan.json" in first.err
    assert "report: analysis_reports/compare_mine/parity_report.html" in first.err
    assert first.err.index("cannot show a difference") < first.err.index("trial 0")
    with Store.open("experiment_results.db", mode="ro") as store:
        runs = store.study_runs("compare_mine")
    again = cli("compare", "mine.json", *SMALL)
    assert "comparison compare_mine is finished; this is what it found" in again.err
    assert again.out == first.out
    as_json = cli("compare", "mine.json", *SMALL, "--format", "json").json
    assert as_json["verdicts"] == [verdict]
    assert [arm["arm"] for arm in as_json["arms"]] == ["mine", "moe"]
    assert as_json["plan"]["question"]["contrasts"] == [["mine", "moe"]]
    assert (as_json["departures"], as_json["contrasts"][0]["verdict"]) == ([], "open")
    assert all(Path(file).is_file() for file in as_json["files"])
    with Store.open("experiment_results.db", mode="ro") as store:
        assert store.study_runs("compare_mine") == runs
    other = cli("compare", "mine.json", *SMALL, "--margin", "0.1")
    assert other.code == 2
    assert "margin was null, now 0.1" in other.err


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(cli, mine):
    said = cli("compare", mine(), *SMALL, "--dry-run")
    assert said.code == 0
    assert "each trial scaled to " in said.out
    assert "time in all" in said.out
    assert "disk in all" in said.out
    assert "2 trials of each arm cannot show a difference" in said.err
    found = cli("compare", "mine.json", *SMALL, "--dry-run", "--format", "json").json
    assert [(arm["arm"], arm["runs"]) for arm in found["forecast"]["arms"]] == [
        ("mine", 4),
        ("moe", 4),
    ]
    assert found["plan"]["name"] == "compare_mine"
    assert sorted(path.name for path in Path().iterdir() if path.suffix in (".db", ".json")) == [
        "mine.json"
    ]


def test_a_plugin_that_breaks_its_contract_is_not_compared(cli, mine):
    said = cli("compare", mine("Broken"), *SMALL)
    assert said.code == 5
    (error,) = said.errors
    assert error.startswith("error: ./routers.py:Broken breaks ")
    assert "so its scores could not be compared" in error
    assert not Path("experiment_results.db").exists()
    again = cli("compare", "mine.json", *SMALL)
    assert (again.code, again.errors) == (5, said.errors)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "Missing option '--baselines'"),
        (("--baselines", "moe", "--n-trials", "5"), "5 cannot be dealt out equally to 2 arms"),
        (("--baselines", "mo"), "unknown model 'mo'"),
        (("--baselines", "moe", "--match", "time"), "nothing can be matched on 'time'"),
        (("--baselines", "moe", "--seeds", "1"), "spread of 2 seeds or more, not of 1"),
    ],
)
def test_bad_options_are_told_in_a_line(cli, mine, options, told):
    said = cli("compare", mine(), *options)
    assert said.code == 2
    assert told in " ".join(said.errors)
    assert not list(Path().glob("*.db"))


def test_a_candidate_that_is_not_there_is_told(cli):
    said = cli("compare", "nothing.json", "--baselines", "moe")
    assert said.code == 2
    assert "there is no file nothing.json" in said.errors[0]
    assert said.out == ""

"""`check`: it bites through the command line, with plug-in files as users write them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from research_eval.registry import MODELS_MAP
from research_eval.testing.examination import Outcome, Promise, cases
from research_eval.testing.variants import variants

IMPORTS = """
from dataclasses import replace
import torch
from torch import nn
from research_eval.models.dense import Dense
from research_eval.registry import DATASETS_MAP, MODELS_MAP
from research_eval.spec import BodyOutput, RouterOutput
"""

COUPLER = """
class LeakyCoupler(nn.Module):
    def __init__(self, params, context):
        super().__init__()
        self.body = Dense(params, context)
        self.experts = nn.ModuleList(nn.Linear(params.embed_dim, params.embed_dim) for _ in "ab")
        self.pair = nn.Linear(params.embed_dim, 1)

    def forward(self, batch):
        hidden = self.body(batch).hidden_BLD
        one, two = (expert(hidden) for expert in self.experts)
        # How much one expert takes from the other is decided from the whole row.
        gate = self.pair(hidden).mean(dim=1, keepdim=True).sigmoid()
        return BodyOutput(hidden + one + gate * two)
"""

DEAD = """
class DeadRouter(nn.Module):
    def __init__(self, context):
        super().__init__()
        self.top_k = context.top_k

    def forward(self, tokens):
        probs = tokens.logits_TE.softmax(dim=-1)
        weights, chosen = probs.topk(self.top_k, dim=-1)
        return RouterOutput(chosen, weights / weights.sum(dim=-1, keepdim=True), probs)
"""

PADDING = """
class ReadsPadding(Dense):
    Params = MODELS_MAP["dense"].params

    def forward(self, batch):
        return super().forward(replace(batch, mask_BL=None))
"""

CAUSAL = "Changing token t changes no output before t, in training and in evaluation."
NOISE = "On fresh uniform random tokens the loss stays at ln V; below it, the future leaks."
ALONE = "A sample's output does not depend on other samples, their order, or padding."
UNREAD = "The ids behind a row's end change no output."
LEARNS = "The task loss alone gives every weight a gradient; a router that gets none is dead."
SCORES = "A learned router gets a gradient through its weights, for k = 1 too; a control gets none."


@pytest.fixture(autouse=True)
def _own_verdicts(tmp_path, monkeypatch):
    monkeypatch.setenv("RESEARCH_EVAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def plugin():
    """Return a function that writes a plug-in file."""

    def write(code, name="mine.py"):
        Path(name).write_text(IMPORTS + code)

    return write


def outcomes(said):
    """Return what the report says of each promise, and the line below it."""
    lines = said.out.splitlines()
    found = {}
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        told = re.fullmatch(r"  (kept|BROKEN|waived|n/a) +(\S.*)", line)
        if told:
            found.setdefault(told[1], {})[told[2]] = below.strip()
    return found


def test_a_coupling_that_sees_later_tokens_fails_causality(cli, plugin):
    plugin(COUPLER)
    said = cli("check", "./mine.py:LeakyCoupler", "--task", "language_modeling")
    assert said.code == 5
    broken = outcomes(said)["BROKEN"]
    assert re.match(r"token 1 changed the outputs before .*differs by", broken.pop(CAUSAL))
    # A mean over the row depends on the padding in it as well.
    assert set(broken) <= {ALONE, UNREAD, NOISE}
    assert said.errors == [f"error: ./mine.py:LeakyCoupler breaks {len(broken) + 1} of 15 promises"]


def test_a_dead_router_fails_alone_and_inside_a_model(cli, plugin):
    plugin(DEAD)
    one = "model_params.top_k=1"
    said = cli("check", "./mine.py:DeadRouter", one, "--task", "classification")
    assert said.code == 5
    broken = outcomes(said)["BROKEN"]
    assert set(broken) == {SCORES, LEARNS}
    assert broken[SCORES] == "E=4, K=1: the gradient of the scores is zero, so it never learns"
    assert "no gradient to body.blocks.0.experts.scores.weight" in broken[LEARNS]


def test_a_model_that_reads_padding_fails_just_that(cli, plugin):
    plugin(PADDING)
    said = cli("check", "./mine.py:ReadsPadding", "--task", "classification")
    assert said.code == 5
    broken = outcomes(said)["BROKEN"]
    assert set(broken) == {UNREAD, ALONE}
    assert broken[UNREAD].startswith("other ids in the padding: differs by")
    assert set(outcomes(said)["n/a"]) >= {CAUSAL, NOISE}


def test_a_model_that_fails_says_what_and_where(cli, plugin):
    plugin("class Odd(Dense):\n    def forward(self, batch):\n        return 1 / 0\n")
    said = cli("check", "./mine.py:Odd", "--task", "classification")
    assert said.code == 5
    assert (
        outcomes(said)["BROKEN"][UNREAD] == "ZeroDivisionError: division by zero (mine.py, line 10)"
    )


def test_a_data_set_is_checked_and_a_leaking_one_fails(cli, plugin):
    plugin(
        "def load(params, context):\n"
        "    made = DATASETS_MAP['parity'].load(params, context)\n"
        "    return replace(made, test=made.train)\n"
        "DATA = replace(DATASETS_MAP['parity'], load=load)\n"
    )
    assert cli("check", "parity").code == 0
    said = cli("check", "./mine.py:DATA", "dataset_params.num_samples=200", "--format", "json")
    assert said.code == 5
    broken = {row["promise"]: row["reason"] for row in said.json if row["outcome"] == "BROKEN"}
    shared = "No row of train is a row of validation or test."
    assert broken[shared] == "rows in two splits: {'train/test': 200}"


BUILDS = {
    "NotATorchClass": "class NotATorchClass: pass",
    "Three": "class Three(nn.Module):\n    def __init__(self, a, b, c): pass",
    "Fails": "class Fails(Dense):\n    def __init__(self, params, context): raise ValueError('no')",
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mo"], "unknown 'mo'; did you mean 'moe'?"),
        (["moe", "epochs=3"], "settings begin with model_params."),
        (["parity", "model_params.top_k=1"], "settings begin with dataset_params."),
        (["moe", "model_params.top_k=9"], "top_k"),
        (["parity", "--task", "language_modeling"], "parity is for classification"),
        (["./mine.py:NotATorchClass"], "is neither a model"),
        (["./mine.py:Three"], "is neither a model"),
        (["./mine.py:Fails"], "does not work: ValueError: no (mine.py"),
        (["./none.py:Model"], "there is no plug-in file"),
    ],
)
def test_what_cannot_be_checked_is_an_error_of_usage(cli, plugin, arguments, message):
    plugin("\n".join(BUILDS.values()))
    said = cli("check", *arguments)
    assert said.code == 2
    assert message in said.errors[0]
    assert said.out == ""


def test_a_waived_promise_is_tested_and_named_with_its_reason():
    def fail():
        raise AssertionError("in evaluation too")

    waived = Promise("s", lambda: None, waiver="expert choice").examine()
    assert (waived.outcome, waived.reason) == (Outcome.WAIVED, "in training: expert choice")
    assert Promise("s", fail, waiver="expert choice").examine().outcome is Outcome.BROKEN


def test_a_waiver_of_the_spec_reaches_its_promise(plugin):
    plugin("SPEC = replace(MODELS_MAP['dense'], waives={'batch_independent': 'a statistic'})")
    (case,) = cases("./mine.py:SPEC", task="classification")
    assert {p.sentence: p.waiver for p in case.promises if p.waiver} == {ALONE: "a statistic"}


def test_a_waiver_of_a_router_reaches_the_model_that_uses_it():
    (alone, inside) = cases("expert_choice", task="classification")
    assert [p.waiver for p in alone.promises if p.waiver] == []
    waived = {p.sentence: p.waiver for p in inside.promises if p.waiver}
    assert list(waived) == [ALONE]
    assert "expert" in waived[ALONE]


def test_all_varies_modes_and_numbers_of_experts():
    made = [params for _, params in variants(MODELS_MAP["moe"].params())]
    assert {params.num_experts for params in made} == {1, 2, 3, 4, 8}
    assert {"softmax", "random", "hash"} <= {params.router for params in made}
    assert all(params.top_k <= params.num_experts for params in made)
    assert len({params.model_dump_json() for params in made}) == len(made)
    fixed = [params for _, params in variants(MODELS_MAP["moe"].params(), {"router"})]
    assert {params.router for params in fixed} == {"softmax"}


def test_a_variant_that_cannot_be_built_is_refused_with_the_reason():
    found = list(cases("hgnn_moe", task="classification", every=True))
    refused = {case.title: case.refusal for case in found if case.refusal}
    triplets = next(reason for title, reason in refused.items() if "all_triplets" in title)
    assert "experts" in triplets
    assert all(case.promises for case in found if not case.refusal)
    assert len(refused) < len(found) / 4


def test_a_check_needs_no_pytest():
    code = "import sys; sys.modules['pytest'] = None; import research_eval.testing.examination"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ------------------------------------------------------------------------ verdicts beside scores


def flags_of_a_run(cli, config, *settings):
    (row,) = cli("run", config(), *settings, "--again", "--format", "json").json
    return row["flags"]


def test_a_run_says_whether_its_plug_ins_were_checked(cli, config, plugin):
    router = "model_params.router=./mine.py:DeadRouter"
    settings = ("model_type=moe", router, "model_params.num_experts=2")
    plugin(DEAD)
    flags = flags_of_a_run(cli, config, *settings)
    assert flags == {"unchecked": "run research-eval check ./mine.py:DeadRouter"}

    single = "model_params.top_k=1"
    assert cli("check", "./mine.py:DeadRouter", single, "--task", "classification").code == 5
    (reason,) = [flags_of_a_run(cli, config, *settings)["check_broken"]]
    assert reason.startswith("./mine.py:DeadRouter with model_params.top_k=1 breaks: A learned")

    plugin(DEAD + "# changed\n")
    assert set(flags_of_a_run(cli, config, *settings)) == {"unchecked"}


def test_a_checked_plug_in_and_a_built_in_model_are_not_flagged(cli, config):
    assert flags_of_a_run(cli, config) == {}
    assert cli("new", "dataset", "data.py").code == 0
    data = ("dataset_name=./data.py:MY_DATA", "dataset_params={}")
    wanted = "run research-eval check ./data.py:MY_DATA"
    assert flags_of_a_run(cli, config, *data) == {"unchecked": wanted}
    assert cli("check", "./data.py:MY_DATA").code == 0
    assert flags_of_a_run(cli, config, *data) == {}

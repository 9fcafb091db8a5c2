"""From the question to the report, with real runs, and what happens when it is interrupted."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import research_eval
from research_eval.comparing import Comparison, Question, report
from research_eval.comparing.plan import Plan
from research_eval.errors import ConfigError, NoMatchError, StoppedError
from research_eval.hpo import NobodyListens
from research_eval.records import RunStatus
from research_eval.store import Store

PLAN = Path("compare_mine_plan.json")
SLOW = pytest.mark.slow


@pytest.fixture
def only_verdicts(monkeypatch):
    """Leave the pictures out, which other tests look at."""
    monkeypatch.setattr(report, "find_outputs", list)


def runs_of(name="compare_mine"):
    with Store.open("experiment_results.db", mode="ro") as store:
        return store.study_runs(name)


def told(runs, metric="final_val_f1"):
    """Return what was run, and what came out, whatever the order."""
    return sorted(
        (run.arm, run.trial, run.seed, run.phase, run.config_hash, run.value(metric))
        for run in runs
    )


@pytest.mark.usefixtures("only_verdicts")
def test_a_plugin_that_is_topk_under_another_name_is_an_arm_beside_it(comparison):
    prepared = comparison("dense", "moe", n_trials=6)
    assert not Path("experiment_results.db").exists()
    outcome = prepared.run()
    runs = runs_of()
    assert {(run.arm, run.model_type) for run in runs} == {
        ("mine", "moe"),
        ("dense", "dense"),
        ("moe", "moe"),
    }
    search = [run for run in runs if run.phase == "search"]
    fresh = [run for run in runs if run.phase == "confirm"]
    assert sorted(run.arm for run in search) == ["dense"] * 2 + ["mine"] * 2 + ["moe"] * 2
    assert sorted((run.arm, run.seed) for run in fresh) == [
        (arm, seed) for arm in ("dense", "mine", "moe") for seed in (1, 2)
    ]
    assert all(run.value("final_test_f1") is None for run in search)
    assert all(run.value("final_test_f1") is not None for run in fresh)
    target = outcome.plan.question["match"]["target"]
    assert [run.value("active_param_count") for run in runs] == pytest.approx(
        [target] * len(runs), rel=0.01
    )
    assert {run.params["model_params.router"] for run in runs if run.arm == "mine"} == {
        "./mine.py:Mine"
    }
    assert {run.params["model_params.router"] for run in runs if run.arm == "moe"} == {"softmax"}
    assert outcome.departures == ()
    assert [each.partition(":")[0] for each in outcome.verdicts] == [
        "No difference between mine and dense shown",
        "No difference between mine and moe shown",
    ]


def test_the_plan_is_there_before_the_first_run_and_says_it_all(comparison):
    class Looks(NobodyListens):
        found = None

        def started(self, *_):
            self.found = self.found or Plan.read(PLAN)

    audience = Looks()
    outcome = comparison(margin=0.01, search=("optimizer_params.lr=1e-3:1e-2",)).run(
        audience=audience
    )
    assert audience.found == outcome.plan == Plan.read(PLAN)
    asked = outcome.plan.question
    assert asked["contrasts"] == [["mine", "moe"]]
    assert (asked["trials_of_each_arm"], asked["n_trials"]) == (2, 4)
    assert (asked["search_seeds"], asked["confirmation_seeds"]) == ([0], [1, 2])
    assert (asked["objective"], asked["margin"], asked["correction"]) == (
        "final_val_f1:max",
        0.01,
        "Holm",
    )
    assert set(asked["arms"]) == {"mine", "moe"}
    for arm in asked["arms"].values():
        assert arm["cost"]["active_params"] == pytest.approx(asked["match"]["target"], rel=0.01)
        assert arm["searched"]["optimizer_params.lr"]["low"] == 1e-3
        assert "model_params.ff_factor" not in arm["searched"]
    page = Path("analysis_reports/compare_mine/parity_report.html").read_text()
    notes = Path("analysis_reports/compare_mine/verdict.md").read_text()
    for text in (page, notes):
        assert outcome.verdicts[0] in text
        assert "Everything went as planned." in text


@pytest.mark.usefixtures("only_verdicts")
def test_the_same_question_again_runs_nothing_and_finds_the_same(comparison):
    first = comparison().run()
    before = told(runs_of())
    again = comparison().run()
    assert told(runs_of()) == before
    assert again.verdicts == first.verdicts
    assert again.plan == first.plan


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"n_trials": 6}, "n_trials was 4, now 6"),
        ({"seeds": 3}, "confirmation_seeds was [1, 2], now [1, 2, 3]"),
        ({"match": "flops"}, 'match.axis was "active_params", now "flops"'),
        ({"search": ("optimizer_params.lr=1e-3",)}, "arms.mine.searched.optimizer_params.lr"),
    ],
)
def test_another_question_under_the_same_name_says_what_differs(comparison, changes, difference):
    plan = comparison().plan
    Store.open("experiment_results.db", create=True).close()
    plan.write(PLAN)
    with pytest.raises(ConfigError, match="was planned otherwise") as error:
        comparison(**changes).run()
    assert difference in str(error.value)
    assert "starts another one" in str(error.value)
    assert runs_of() == []


def test_a_plan_that_was_edited_or_is_none_is_refused(comparison):
    comparison().plan.write(PLAN)
    tree = json.loads(PLAN.read_text())
    for changed, why in (
        (tree | {"question": tree["question"] | {"alpha": 0.1}}, "changed after it was written"),
        (tree | {"version": 99}, "no plan that this version can read"),
        ({"hello": 1}, "is no plan of a comparison"),
    ):
        PLAN.write_text(json.dumps(changed))
        with pytest.raises(ConfigError, match=why):
            comparison().run()
    PLAN.unlink()


@pytest.mark.usefixtures("only_verdicts")
def test_runs_of_a_study_without_a_plan_are_not_taken_for_planned(comparison):
    comparison().run()
    PLAN.unlink()
    with pytest.raises(ConfigError, match="has 8 runs, but there is no plan"):
        comparison().run()


# ------------------------------------------------------------------------------- interruptions


class Interrupts(NobodyListens):
    """Ends the process, or raises, when the n-th run is about to begin."""

    def __init__(self, number, signal_number):
        self.left, self.signal = number, signal_number

    def started(self, *_):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), self.signal)


CHILD = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
from research_eval.comparing import Comparison, Question
from test_comparison import Interrupts

question = Question(candidate=Path("mine.json"), baselines=("moe",), n_trials=4, seeds=2)
Comparison(question).run(audience=Interrupts({number}, {signal}))
"""


@pytest.mark.usefixtures("only_verdicts")
@pytest.mark.parametrize("number", [6, *(pytest.param(n, marks=SLOW) for n in (1, 2, 3, 5, 8))])
def test_a_comparison_that_was_killed_continues_with_the_same_plan_and_runs(
    comparison, number, whole
):
    child = CHILD.format(here=str(Path(__file__).parent), number=number, signal=int(signal.SIGKILL))
    done = subprocess.run([sys.executable, "-c", child], check=False)
    assert done.returncode == -signal.SIGKILL
    written = PLAN.read_bytes()
    outcome = comparison().run()
    assert PLAN.read_bytes() == written
    assert_same(outcome, whole)


@pytest.mark.usefixtures("only_verdicts")
@pytest.mark.parametrize("number", [3, *(pytest.param(n, marks=SLOW) for n in (1, 5, 8))])
def test_so_does_one_that_was_interrupted(comparison, number, whole):
    with pytest.raises((KeyboardInterrupt, StoppedError)):
        comparison().run(audience=Interrupts(number, signal.SIGINT))
    assert_same(comparison().run(), whole)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, write):
    """Return verdicts and runs of a comparison that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        write()
        question = Question(candidate=Path("mine.json"), baselines=("moe",), n_trials=4, seeds=2)
        return Comparison(question).run().verdicts, told(runs_of())


def without_times(verdicts):
    """Return verdicts without what they say of measured times, which no two runs share."""
    return [re.sub(r", [^,]*time of a step( ± 5 %)?", "", each) for each in verdicts]


def assert_same(outcome, whole):
    """Check that the same was run, nothing twice, and that the same was found."""
    runs = runs_of()
    verdicts, expected = whole
    assert told(runs) == expected
    assert {run.status for run in runs} == {RunStatus.COMPLETED}
    keys = [(run.trial, run.seed, run.phase) for run in runs]
    assert len(set(keys)) == len(keys) == 8
    assert without_times(outcome.verdicts) == without_times(verdicts)
    assert outcome.departures == ()


# ----------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("baselines", "asked", "why"),
    [
        ((), {}, "name at least one baseline"),
        (("moe", "moe"), {}, "two arms are called moe"),
        (("mow",), {}, "unknown model 'mow'"),
        (("moe",), {"n_trials": 5}, "5 cannot be dealt out equally to 2 arms; 6 can"),
        (("moe",), {"n_trials": 0}, "0 cannot be dealt out equally to 2 arms; 2 can"),
        (("moe",), {"seeds": 1}, "needs the spread of 2 seeds or more, not of 1"),
        (("moe",), {"margin": 0.0}, "must be more than 0"),
        (("moe",), {"match": "memory"}, "known: active_params, flops, params, step_time"),
        (("moe",), {"match": "step_time"}, "step_time is measured"),
        (("moe",), {"objective": "final_test_f1:max"}, "never looks at the test split"),
        (("moe",), {"name": "a/b"}, "'a/b' must be up to 200 letters"),
        (("moe",), {"search": ("model_params.ff_factor=1:8",)}, "is what --match solves"),
        (("moe",), {"search": ("model_params[goe].top_k=1",)}, "'goe' is no arm of this study"),
        (("other.json",), {}, "are about different tasks"),
        (("longer.json",), {}, "are trained differently"),
        (("same.json",), {}, "mine and same are the same configuration"),
        (("missing.json",), {}, "there is no file missing.json"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(
    write, baselines, asked, why
):
    write()
    write("other.json", dataset_params={"seq_len": 6})
    write("longer.json", epochs=2)
    write("same.json")
    small = {"candidate": Path("mine.json"), "n_trials": 4, "seeds": 2}
    question = Question(baselines=baselines, **(small | asked))
    with pytest.raises(ConfigError) as error:
        Comparison(question)
    assert why in str(error.value)
    assert not list(Path().glob("*.db"))
    assert not list(Path().glob("*_plan.json"))


def test_an_arm_that_cannot_cost_as_much_is_refused_in_the_words_of_match(write, comparison):
    write(model_params={"ff_factor": 0.25, "embed_dim": 4, "num_experts": 2})
    with pytest.raises(NoMatchError, match=r"'goe' cannot cost .* the nearest that ff_factor"):
        comparison("goe")


def test_a_baseline_may_be_a_file_with_another_setting(write, comparison):
    write("two.json", model_params={"top_k": 2, "router": "softmax"})
    prepared = comparison("two.json")
    arms = prepared.plan.question["arms"]
    assert arms["two"]["model_params"]["top_k"] == 2
    assert arms["two"]["source"] == "two.json"


# --------------------------------------------------------------------------------- a real study


@pytest.mark.usefixtures("only_verdicts")
def test_a_router_that_deals_tokens_out_at_random_is_found_worse_with_five_seeds(write):
    """Each token of a Markov chain has its own continuation, and a small expert holds few."""
    write(
        "chance.json",
        dataset_name="markov",
        dataset_params={},
        epochs=6,
    )
    tree = json.loads(Path("chance.json").read_text())
    tree["dataset_params"] = {
        "num_samples": 400, "val_samples": 100, "test_samples": 100, "seq_len": 32,
        "vocab_size": 32,
    }  # fmt: skip
    tree["model_params"] |= {
        "router": "random", "embed_dim": 16, "num_experts": 8, "ff_factor": 0.5, "dropout": 0.0,
        "num_shared_experts": 0, "moe_layers": "all", "capacity_factor": None,
        "z_loss_weight": 0.0, "k1_weight": "straight_through",
    }  # fmt: skip
    Path("chance.json").write_text(json.dumps(tree))
    outcome = research_eval.compare(
        "chance.json", ["moe"], n_trials=12, seeds=5, search=["optimizer_params.lr=3e-3:1e-2"]
    )
    (verdict,) = outcome.verdicts
    assert verdict.startswith("chance is worse than moe: ")
    assert "equal active parameters ± 1 %" in verdict
    assert outcome.departures == ()

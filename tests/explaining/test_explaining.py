"""Who is compared, what is noise, what comes first, and what is refused."""

import numpy as np
import pytest

from research_eval.errors import ConfigError, StoreError
from research_eval.explaining.telling import lines

from .findings import found, line, require_parses


def text_of(explanation):
    """Return what is told as one line: where lines are divided is no matter."""
    return " ".join(" ".join(lines(explanation)).split())


# ------------------------------------------------------------------------------------ seed noise


def test_two_seeds_of_one_configuration_have_nothing_to_explain(lab):
    first, second = lab.seeds("weak", [0.5, 0.9], {"val_dead_experts_layer0": [0.0, 3.0]})
    explanation = lab.explain(first, second)
    assert explanation.findings == ()
    assert "one configuration, of the same code and data, with other seeds" in text_of(explanation)


def test_two_configurations_without_a_difference_in_the_records_have_no_finding(lab):
    lab.run("weak", {"final_val_f1": 0.5})
    lab.run("strong", {"final_val_f1": 0.9}, params={"model_params.top_k": 1})
    explanation = lab.explain()
    assert explanation.findings == ()
    assert "no finding: no number on record differs" in text_of(explanation)


def test_a_difference_within_seed_noise_is_no_finding(lab):
    lab.seeds("weak", [0.5, 0.51, 0.49], {"train_loss": [0.9, 0.3, 0.6]})
    lab.seeds("strong", [0.9, 0.91, 0.89], {"train_loss": [0.4, 0.5, 0.3]})
    assert not found(lab.explain(), "learned_less")  # 0.2 nats apart, by seeds 0.3


def test_a_difference_beyond_seed_noise_is_told_with_its_interval(lab):
    lab.seeds("weak", [0.5, 0.51, 0.49], {"train_loss": [0.9, 0.91, 0.92]})
    lab.seeds("strong", [0.9, 0.91, 0.89], {"train_loss": [0.4, 0.41, 0.42]})
    sentence = found(lab.explain(), "learned_less").finding.sentence
    assert "ends at 0.910 ± 0.025 nats, that of strong at 0.410 ± 0.025" in sentence


def test_one_seed_beside_several_borrows_their_spread(lab):
    lab.run("weak", {"final_val_f1": 0.8})
    lab.seeds("strong", [0.8, 0.9, 1.0])
    explanation = lab.explain()
    assert explanation.pair.half == pytest.approx(4.302653 * 0.1 * (1 + 1 / 3) ** 0.5, rel=1e-5)
    assert explanation.pair.is_shown is False
    assert any("seeds of weak lie apart" in lack.what for lack in explanation.lacks)


def test_a_score_within_noise_is_said_first_with_the_seeds_that_it_takes(lab):
    lab.seeds("weak", [0.5, 0.9, 0.7])
    lab.seeds("strong", [0.6, 1.0, 0.8], params={"batch_size": 64})
    explanation = lab.explain()
    first = min(explanation.findings, key=lambda each: each.order)
    assert {each.rule.name for each in explanation.findings} == {"seed_noise", "other_settings"}
    needed = found(explanation, "seed_noise").finding.numbers["seeds_needed"]
    assert needed > 50
    assert f"--seeds {needed:.0f}" in found(explanation, "seed_noise").finding.commands[1].text()
    assert first.rule.is_premise


# ----------------------------------------------------------------------------------------- order


def test_premises_come_first_then_what_is_measured_by_its_worth(lab):
    tokens = {"tokens_seen": line(0, 1000), "val_f1": line(0.0, 0.9)}
    lab.run(
        "weak",
        {"final_val_f1": 0.5, "tokens_seen": 900.0, "val_dead_experts_layer0": 2.0},
        curves={"val_f1": line(0.2, 0.5)},
        params={"batch_size": 64},
    )
    lab.run("strong", {"final_val_f1": 0.9, "tokens_seen": 1000.0}, curves=tokens)
    told = [each.rule.name for each in lab.explain().findings]
    # The curve of strong rises to its end, which holds strong back: that comes last.
    assert told == ["other_settings", "fewer_tokens", "dead_experts", "still_improving"]


def test_what_is_not_on_record_is_named_with_commands_and_never_guessed(lab):
    routed = {"val_router_entropy_layer0": 0.5}
    weak = lab.run("weak", {"final_val_f1": 0.5, **routed})
    lab.run("strong", {"final_val_f1": 0.9}, params={"model_type": "dense"})
    lacks = {lack.what: lack.commands for lack in lab.explain().lacks}
    assert lacks["what the routing of weak is worth"][0].text("my.db") == (
        f"research-eval evaluate {weak} --routing random --db my.db"
    )
    assert not any("routing of strong" in what for what in lacks)


# ------------------------------------------------------------------------------- who is compared


def test_a_name_that_several_seeds_share_means_all_of_them(lab):
    lab.seeds("weak", [0.5, 0.6])
    lab.seeds("strong", [0.9, 0.8, 0.7])
    pair = lab.explain().pair
    assert (len(pair.a.runs), len(pair.b.runs)) == (2, 3)
    assert pair.behind is pair.a


def test_an_id_means_one_run_and_says_how_to_take_its_seeds(lab):
    first, *_ = lab.seeds("weak", [0.5, 0.6])
    lab.run("strong", {"final_val_f1": 0.9})
    pair = lab.explain(first).pair
    assert len(pair.a.runs) == 1
    assert pair.a.notes == (f"{first}: --all-seeds takes the 2 seeds on record",)
    assert len(lab.explain(first, all_seeds=True).pair.a.runs) == 2


def test_of_repeated_seeds_and_older_code_the_newest_count(lab):
    lab.seeds("weak", [0.1, 0.2], code_hash="older")
    lab.seeds("weak", [0.5, 0.6])
    lab.run("weak", {"final_val_f1": 0.7}, seed=1)
    lab.run("strong", {"final_val_f1": 0.9})
    side = lab.explain().pair.a
    assert sorted(side.values("final_val_f1")) == [0.5, 0.7]
    assert side.notes == ("2 runs of weak left out: made by older code or data",)


def test_the_arm_of_a_study_is_its_confirmed_winner(lab):
    study = {"study": "s", "phase": "search"}
    for trial, (lr, score) in enumerate(((0.001, 0.5), (0.01, 0.8))):
        params = {"optimizer_params.lr": lr}
        lab.run("t", {"final_val_f1": score}, params=params, trial=trial, **study)
    winner = {"optimizer_params.lr": 0.01}
    confirm = {"study": "s", "phase": "confirm", "trial": 1}
    for seed, score in ((1, 0.6), (2, 0.7)):
        lab.run("t", {"final_val_f1": score}, seed=seed, params=winner, **confirm)
    lab.run("strong", {"final_val_f1": 0.9}, params={"model_type": "dense"})
    side = lab.explain("s:moe").pair.a
    assert sorted(side.values("final_val_f1")) == [0.6, 0.7]
    assert side.notes == ("s:moe: the winner of 2 configurations, confirmed",)


def test_arms_of_one_architecture_are_told_apart_by_their_names(lab):
    for arm, score in (("mine", 0.5), ("moe", 0.8)):
        origin = {"origin": {"kind": "study", "arm": arm}}
        lab.run("t", {"final_val_f1": score}, params=origin, study="s", phase="search")
    pair = lab.explain("s:mine", "s:moe").pair
    assert [list(side.values("final_val_f1")) for side in (pair.a, pair.b)] == [[0.5], [0.8]]


@pytest.mark.parametrize(
    ("first", "error", "told"),
    [
        ("nobody", StoreError, "no run is called 'nobody'"),
        ("strong", ConfigError, "'strong' and 'strong' are the same runs"),
        ("swept", ConfigError, "names 2 runs of 2 configurations, which are no seeds of one"),
        ("s:dense", ConfigError, "study s has no arm 'dense'; known: moe"),
        ("words", ConfigError, "different tasks, classification and language modelling"),
        ("looked", ConfigError, "is an evaluation and learned nothing; name the run that"),
    ],
)
def test_what_cannot_be_compared_is_refused(lab, first, error, told):
    strong = lab.run("strong", {"final_val_f1": 0.9, "val_f1": 0.9}, study="s", trial=0)
    lab.run("swept", {"final_val_f1": 0.5})
    lab.run("swept", {"final_val_f1": 0.6}, params={"batch_size": 64})
    lab.run("words", {"final_val_loss": 2.0, "val_perplexity": 7.4})
    lab.evaluation(strong, {"eval_f1": 0.9})
    evaluation = lab.store.runs(filter='run_type == "evaluation"')[0].experiment_id
    with pytest.raises(error, match=told):
        lab.explain(evaluation if first == "looked" else first)


def test_a_metric_of_ones_own_needs_its_direction(lab):
    lab.run("weak", {"final_val_f1": 0.5, "mine": 1.0})
    lab.run("strong", {"final_val_f1": 0.9, "mine": 2.0})
    assert lab.explain(metric="mine:min").pair.behind.label == "strong"
    with pytest.raises(ConfigError, match="which way is mine better"):
        lab.explain(metric="mine")


# ------------------------------------------------------------------ runs that have not ended well


def test_a_running_run_is_compared_at_the_last_step_of_both(lab):
    lab.run("weak", curves={"val_f1": line(0.0, 0.4, 50)}, status="RUNNING")
    lab.run("strong", {"final_val_f1": 0.9}, curves={"val_f1": line(0.0, 1.0, 100)})
    explanation = lab.explain()
    text = text_of(explanation)
    assert text.startswith("val_f1 at step 50: strong 0.5 (1 run), weak 0.4 (1 run)")
    assert "weak: 1 RUNNING" in text
    assert "needs a finished run on both sides: " in text
    assert not found(explanation, "fewer_tokens")


def test_a_run_that_failed_at_once_says_so_and_what_differs(lab):
    error = "Traceback\nRuntimeError: out of memory"
    lab.run("weak", status="FAILED", error=error, params={"batch_size": 64})
    lab.run("strong", {"final_val_f1": 0.9})
    explanation = lab.explain()
    assert [each.rule.name for each in explanation.findings] == ["other_settings", "failures"]
    text = text_of(explanation)
    assert text.startswith("weak has no final_val_f1 to compare")
    assert "RuntimeError: out of memory" in text


def test_a_tracked_run_is_compared_without_commands_that_run_it(lab):
    for name, score in (("weak", 0.5), ("strong", 0.9)):
        metrics = {"final_val_f1": score, "train_loss": 1 - score}
        lab.run(name, metrics, run_type="track", config_hash=None, model_type=None)
    explanation = lab.explain()
    commands = [c.text() for each in explanation.findings for c in each.finding.commands]
    assert commands
    for command in commands:
        require_parses(command)
        assert command.startswith("research-eval runs show ")


def test_a_difference_within_seed_noise_is_not_explained(lab):
    lab.seeds("weak", [0.5, 0.9, 0.7], {"val_dead_experts_layer0": [3.0, 3.0, 3.1]})
    lab.seeds("strong", [0.6, 1.0, 0.8], {"val_dead_experts_layer0": [0.0, 0.0, 0.1]})
    assert [each.rule.name for each in lab.explain().findings] == ["seed_noise"]


def test_equal_groups_of_seeds_seldom_have_a_finding(lab):
    rng = np.random.default_rng(0)
    told = 0
    for pair in range(20):
        for side in "ab":
            metrics = {
                "train_loss": (0.4 + 0.15 * rng.normal(size=3)).tolist(),
                "val_dead_experts_layer0": rng.poisson(0.7, 3).astype(float).tolist(),
                "val_router_entropy_layer0": (0.93 + 0.04 * rng.normal(size=3)).tolist(),
            }
            scores = (0.8 + 0.05 * rng.normal(size=3)).tolist()
            lab.seeds(f"{side}{pair}", scores, metrics)
        found_here = lab.explain(f"a{pair}", f"b{pair}").findings
        told += any(not each.rule.is_premise for each in found_here)
    assert told <= 2


def test_single_seeds_are_said_to_be_single(lab):
    lab.run("weak", {"final_val_f1": 0.5, "train_loss": 0.9})
    lab.run("strong", {"final_val_f1": 0.9, "train_loss": 0.1})
    assert "what is against weak, unless seeds differ as much" in text_of(lab.explain())


def test_the_closing_block_is_short_and_the_rest_is_for_machines(lab):
    """One line names what takes several commands; what takes one has it beside it."""
    routed = {"val_router_entropy_layer0": 0.5}
    weak = lab.run("weak", {"final_val_f1": 0.5, **routed}, curves={"val_f1": {50: 0.4, 100: 0.5}})
    lab.run("strong", {"final_val_f1": 0.9}, params={"model_type": "dense"})
    told = [*lines(lab.explain())]
    closing = told[told.index("not on record, so nothing is said about it") :]
    assert f"     research-eval evaluate {weak} --routing random" in closing
    assert not any("runs config" in each for each in closing)
    assert " ".join(closing).endswith("(commands: --format json)")


def test_near_scores_are_told_apart_and_a_share_beyond_all_is_no_percentage(lab):
    curves = {"val_f1": line(0.0, 0.9), "tokens_seen": line(0, 1000)}
    lab.run("weak", {"final_val_f1": 0.89991, "tokens_seen": 500.0})
    lab.run("strong", {"final_val_f1": 0.89999, "tokens_seen": 1000.0}, curves=curves)
    text = text_of(lab.explain())
    assert text.startswith("final_val_f1: strong 0.89999 (1 run), weak 0.89991 (1 run)")
    assert "fewer tokens: up to 0.45, more than the whole difference" in text

"""Best score against budget: the right statistic, and nobody compared beyond the common budget."""

import numpy as np
import pytest

from research_eval.analysis.output import NothingToShowError
from research_eval.analysis.outputs.budget_curve import OUTPUTS
from research_eval.analysis.tuning_curves import expected_best, expected_best_with_replacement

(OUTPUT,) = OUTPUTS
SCORES = [0.5, 0.8, 0.6, 0.7]


def told(evidence):
    return " ".join(OUTPUT.sentences(OUTPUT.frame(evidence), evidence))


def test_random_search_gets_the_expected_best_and_its_band(lab, study):
    study("s", "random", {"moe": SCORES * 3})
    frame = OUTPUT.frame(lab.evidence())
    assert set(frame["statistic"]) == {"expected best"}
    np.testing.assert_allclose(frame["best"], expected_best(np.array(SCORES * 3)))
    biased = expected_best_with_replacement(np.array(SCORES * 3))
    np.testing.assert_allclose(frame["v_statistic"], biased)
    assert frame["seconds"].tolist() == list(range(1, 13))
    known = frame.dropna(subset=["low", "high"])
    assert len(known) >= 2
    assert (known["low"] <= known["best"]).all()
    assert (known["best"] <= known["high"]).all()


@pytest.mark.parametrize("sampler", ["tpe", "gp", "grid", "auto"])
def test_a_search_that_learns_gets_the_best_so_far_without_a_band(lab, study, sampler):
    study("s", sampler, {"moe": SCORES})
    frame = OUTPUT.frame(lab.evidence())
    assert frame["best"].tolist() == [0.5, 0.8, 0.8, 0.8]
    assert frame[["v_statistic", "low", "high"]].isna().all(axis=None)
    assert f"4 {sampler}" in told(lab.evidence())


def test_one_configuration_by_hand_makes_a_random_search_no_sample(lab, study):
    study("s", "random", {"moe": SCORES})
    lab.run("moe", 0.9, config={"model_params": {"top_k": 4}})
    frame = OUTPUT.frame(lab.evidence())
    assert set(frame["statistic"]) == {"best so far"}
    assert "4 random, 1 by hand" in told(lab.evidence())
    assert set(OUTPUT.frame(lab.evidence(study="s"))["statistic"]) == {"expected best"}


def test_random_searches_of_different_ranges_are_no_sample(lab, study):
    study("s", "random", {"moe": SCORES})
    study("t", "random", {"moe": SCORES}, spaces={})
    assert set(OUTPUT.frame(lab.evidence())["statistic"]) == {"best so far"}


def test_architectures_are_compared_where_all_had_the_budget(lab, study):
    study("s", "tpe", {"dense": [0.8, 0.8], "moe": [0.7, 0.75, 0.99]})
    evidence = lab.evidence()
    frame = OUTPUT.frame(evidence)
    assert frame.loc[~frame["in_common_trials"], ["arm", "trials"]].to_numpy().tolist() == [
        ["moe", 3]
    ]
    text = told(evidence)
    assert "dense 2, moe 3" in text
    assert "At 2 trials each, dense leads with final_val_f1 0.8, against 0.75 of moe." in text
    assert "At 2 s of training each, dense leads" in text
    assert "0.99" not in text


def test_where_curves_cross_is_told(lab, study):
    study("s", "tpe", {"dense": [0.8, 0.8, 0.8], "moe": [0.7, 0.9, 0.9]})
    assert "where curves cross: dense and moe at 2 trials." in told(lab.evidence())


def test_a_shared_budget_gives_no_verdict(lab, study):
    study("s", "tpe", {"dense": SCORES, "moe": SCORES}, share_budget=True)
    text = told(lab.evidence())
    assert "shared one budget" in text
    assert "leads" not in text


def test_a_trial_without_a_score_costs_budget_and_counts_as_the_worst(lab, study):
    study("s", "random", {"moe": [0.5, "FAILED", 0.7, "DIVERGED"]})
    frame = OUTPUT.frame(lab.evidence())
    np.testing.assert_allclose(frame["best"], expected_best(np.array([0.5, 0.5, 0.7, 0.5])))
    assert "count as the worst of their architecture: moe 2 of 4." in told(lab.evidence())


def test_a_pruned_trial_has_the_last_score_of_its_curve(lab, study):
    study("s", "tpe", {"moe": [0.5, 0.6]})
    lr = {"optimizer_params": {"lr": 1e-3}}
    where = {"study": "s", "trial": 7, "phase": "search", "config": lr}
    lab.run("moe", None, status="PRUNED", curves={"val_f1": {1: 0.3, 2: 0.65}}, **where)
    assert OUTPUT.frame(lab.evidence())["best"].tolist() == [0.5, 0.6, 0.65]


def test_confirmation_is_no_part_of_the_search(lab, study):
    study("s", "random", {"moe": SCORES})
    lab.seeds("moe", [0.99, 0.98], study="s", trial=1, phase="confirm")
    best = OUTPUT.frame(lab.evidence())["best"]
    np.testing.assert_allclose(best, expected_best(np.array(SCORES)))


def test_a_trial_of_which_one_seed_failed_has_no_score(lab, study):
    study("s", "tpe", {"moe": [0.5, 0.6]})
    where = {"study": "s", "trial": 9, "phase": "search", "config": {"a": 1}}
    lab.run("moe", 0.9, 0, **where)
    lab.run("moe", None, 1, status="FAILED", **where)
    assert OUTPUT.frame(lab.evidence())["best"].tolist() == [0.5, 0.6, 0.6]


def test_several_seeds_of_a_configuration_are_one_trial(lab):
    lab.seeds("moe", [0.4, 0.6], config={"model_params": {"top_k": 1}})
    lab.seeds("moe", [0.7, 0.9], config={"model_params": {"top_k": 2}})
    assert OUTPUT.frame(lab.evidence())["best"].tolist() == [0.5, pytest.approx(0.8)]


def test_less_is_better_for_a_loss(lab, study):
    study("s", "random", {"moe": []})
    for number, loss in enumerate([2.0, 1.0, 3.0, 1.5] * 3):
        lr = {"optimizer_params": {"lr": 1e-4 + number * 1e-5}}
        where = {"study": "s", "trial": number, "config": lr, "phase": "search"}
        lab.run("moe", None, metrics={"final_val_loss": loss}, **where)
    frame = OUTPUT.frame(lab.evidence(goal="final_val_loss"))
    assert frame["best"].is_monotonic_decreasing
    assert frame["best"].iloc[-1] == 1.0
    known = frame.dropna(subset=["low", "high"])
    assert (known["low"] <= known["high"]).all()


@pytest.mark.parametrize(
    ("more", "reason"),
    [({"hardware": "another machine"}, "2 kinds of machine"), ({"contended": True}, "shared the")],
)
def test_seconds_are_compared_only_where_they_can_be(lab, study, drawn, more, reason):
    study("s", "tpe", {"dense": SCORES, "moe": SCORES})
    lab.run("moe", 0.7, config={"model_params": {"top_k": 1}}, **more)
    evidence = lab.evidence()
    assert reason in told(evidence)
    assert "s of training each" not in told(evidence)
    assert len(drawn(OUTPUT, OUTPUT.frame(evidence), evidence).axes) == 1


def test_the_picture_names_each_architecture_and_the_common_budget(lab, study, drawn):
    study("s", "random", {"dense": SCORES, "moe": SCORES * 2})
    evidence = lab.evidence()
    axes = drawn(OUTPUT, OUTPUT.frame(evidence), evidence).axes
    texts = [text.get_text() for text in axes[0].texts]
    assert {"dense", "moe", "common budget: 4"} <= set(texts)
    assert [panel.get_xscale() for panel in axes] == ["log", "log"]


def test_a_single_trial_is_no_search(lab):
    lab.seeds("moe", [0.5, 0.6])
    with pytest.raises(NothingToShowError, match="two trials"):
        OUTPUT.frame(lab.evidence())

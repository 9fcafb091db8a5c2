"""Learning curves: a band over seeds, and what became of the other runs."""

import numpy as np
import pytest

from research_eval.analysis.output import NothingToShowError
from research_eval.analysis.outputs import learning_curves
from research_eval.analysis.statistics import t_interval

(OUTPUT,) = learning_curves.OUTPUTS


def test_the_curve_is_mean_and_t_interval_over_seeds(lab, drawn):
    values = [0.3, 0.5, 0.4]
    for seed, value in enumerate(values):
        lab.run("moe", 0.9, seed, curves={"val_f1": {10: value, 20: value + 0.1}})
    evidence = lab.evidence()
    frame = OUTPUT.frame(evidence)
    assert frame["step"].tolist() == [10, 20]
    assert frame["value"].tolist() == pytest.approx([0.4, 0.5])
    low, high = t_interval(values)
    assert frame[["low", "high"]].iloc[0].tolist() == pytest.approx([low, high])
    assert frame["seeds"].tolist() == [3, 3]
    (axes,) = drawn(OUTPUT, frame, evidence).axes
    assert [text.get_text() for text in axes.texts] == ["moe"]
    assert axes.get_ylabel() == "val_f1"


def test_seeds_with_other_steps_are_brought_to_common_ones(lab):
    lab.run("moe", 0.9, 0, curves={"val_f1": {10: 0.2, 30: 0.4}})
    lab.run("moe", 0.9, 1, curves={"val_f1": {20: 0.5, 30: 0.6, 40: 0.7}})
    frame = OUTPUT.frame(lab.evidence())
    assert frame["step"].tolist() == [10, 20, 30, 40]
    assert frame["value"].tolist() == pytest.approx([0.2, 0.4, 0.5, 0.7])
    assert frame["seeds"].tolist() == [1, 2, 2, 1]
    assert frame["low"].isna().tolist() == [True, False, False, True]


def test_one_seed_has_no_band_and_says_so(lab):
    lab.run("moe", 0.9, curves={"val_f1": {10: 0.2}})
    evidence = lab.evidence()
    frame = OUTPUT.frame(evidence)
    assert frame["low"].isna().all()
    assert "moe: one seed only" in OUTPUT.sentences(frame, evidence)[0]


def test_a_single_evaluation_is_no_history(lab):
    lab.run("moe", 0.9, curves={"val_f1": {10: 0.2}})
    evidence = lab.evidence()
    with pytest.raises(NothingToShowError, match="all points are of one step, 10"):
        OUTPUT.draw(OUTPUT.frame(evidence), evidence)


def test_pruned_runs_are_dashed_and_diverged_ones_end_in_a_cross(lab, drawn):
    lab.run("moe", 0.9, curves={"val_f1": {10: 0.2, 20: 0.8}})
    lab.run("moe", None, status="PRUNED", curves={"val_f1": {10: 0.1}})
    broken = {10: 0.1, 20: np.nan}
    lab.run("moe", None, status="DIVERGED", curves={"val_f1": broken})
    evidence = lab.evidence()
    frame = OUTPUT.frame(evidence)
    assert frame.loc[frame["kind"] == "diverged", "value"].tolist() == [0.1]
    (axes,) = drawn(OUTPUT, frame, evidence).axes
    assert [line.get_linestyle() for line in axes.lines].count("--") == 2
    assert [line.get_marker() for line in axes.lines].count("x") == 1
    assert OUTPUT.sentences(frame, evidence)[-2:] == ["Pruned: 1 run.", "Diverged: 1 run."]


def test_of_many_pruned_runs_some_are_drawn_and_it_is_said(lab):
    lab.run("moe", 0.9, curves={"val_f1": {10: 0.2}})
    for _ in range(learning_curves.MAX_ENDED + 3):
        lab.run("moe", None, status="PRUNED", curves={"val_f1": {10: 0.1}})
    evidence = lab.evidence()
    told = OUTPUT.sentences(OUTPUT.frame(evidence), evidence)
    assert told[-1] == "Pruned: 11 runs, 8 of them drawn."


def test_a_diverged_run_does_not_flatten_the_others(lab, drawn):
    curves = {"val_loss": {10: 2.0, 20: 1.0}}
    lab.run("moe", None, metrics={"final_val_loss": 1.0}, curves=curves)
    lab.run("moe", None, status="DIVERGED", curves={"val_loss": {10: 2.0, 20: 1e9}})
    evidence = lab.evidence(goal="final_val_loss")
    (axes,) = drawn(OUTPUT, OUTPUT.frame(evidence), evidence).axes
    assert axes.get_ylim()[1] < 3


def test_the_band_of_a_share_stays_on_the_page(lab, drawn):
    for seed, value in enumerate((0.2, 0.99)):
        lab.run("moe", 0.9, seed, curves={"val_f1": {10: value, 20: value}})
    evidence = lab.evidence()
    (axes,) = drawn(OUTPUT, OUTPUT.frame(evidence), evidence).axes
    assert -0.1 < axes.get_ylim()[0] < axes.get_ylim()[1] < 1.1


def test_a_long_curve_is_read_in_buckets(lab):
    curve = {step: step / 2000 for step in range(2000)}
    lab.run("moe", 0.9, curves={"val_f1": curve})
    frame = OUTPUT.frame(lab.evidence())
    assert len(frame) <= learning_curves.MAX_POINTS
    assert frame["value"].is_monotonic_increasing


def test_only_the_chosen_configuration_is_in_the_mean(lab):
    lab.run("moe", 0.9, config={"a": 1}, curves={"val_f1": {10: 0.9}})
    lab.run("moe", 0.2, config={"a": 2}, curves={"val_f1": {10: 0.2}})
    assert OUTPUT.frame(lab.evidence())["value"].tolist() == [0.9]


def test_no_points_are_a_reason(lab):
    lab.run("moe", 0.9)
    with pytest.raises(NothingToShowError, match="val_f1"):
        OUTPUT.frame(lab.evidence())
    lab.run("moe", 0.9, metrics={"final_test_f1": 0.8})
    with pytest.raises(NothingToShowError, match="no points during training"):
        OUTPUT.frame(lab.evidence(goal="final_test_f1"))

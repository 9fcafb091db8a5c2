"""Which parameters matter, and when there is too little to say."""

import numpy as np
import pytest

from research_eval.analysis.output import NothingToShowError
from research_eval.analysis.outputs.importance import OUTPUTS

(OUTPUT,) = OUTPUTS


def search(lab, arm="moe", number=40, seed=0, **model):
    """Record configurations whose score follows from the learning rate alone."""
    generator = np.random.default_rng(seed)
    for _ in range(number):
        lr, top_k = 10 ** generator.uniform(-4, -2), int(generator.choice([1, 2, 4]))
        config = {"optimizer_params": {"lr": lr}, "model_params": {"top_k": top_k, **model}}
        lab.run(arm, 0.9 - abs(np.log10(lr) + 3) / 4, config=config)


def test_what_decides_is_first_with_an_interval(lab, drawn):
    search(lab)
    evidence = lab.evidence()
    frame = OUTPUT.frame(evidence)
    assert frame["parameter"].tolist() == ["optimizer_params.lr", "model_params.top_k"]
    assert frame["scale"].tolist() == ["log", "ordered"]
    assert frame["importance"].sum() == pytest.approx(1)
    assert frame["n_trials"].tolist() == [40, 40]
    top = frame.iloc[0]
    assert top["importance"] > 0.8
    assert 0.5 < top["low"] <= top["importance"] <= top["high"] <= 1
    assert top["first"] > 0.95
    (told,) = OUTPUT.sentences(frame, evidence)
    assert told.startswith("moe: optimizer_params.lr decides most")
    drawn(OUTPUT, frame, evidence)


def test_the_same_evidence_gives_the_same_numbers(lab):
    search(lab, number=25)
    first, second = OUTPUT.frame(lab.evidence()), OUTPUT.frame(lab.evidence())
    assert first.equals(second)


def test_fewer_than_twenty_trials_are_insufficient(lab, drawn):
    search(lab, number=19)
    evidence = lab.evidence()
    frame = OUTPUT.frame(evidence)
    assert frame["importance"].isna().all()
    assert frame["note"].tolist() == ["insufficient: 19 of 20 trials"] * 2
    assert "19 of the 20 trials" in OUTPUT.sentences(frame, evidence)[0]
    with pytest.raises(NothingToShowError, match="20 trials"):
        drawn(OUTPUT, frame, evidence)


def test_a_parameter_counts_only_where_it_has_a_value(lab):
    search(lab, number=25)
    for lr in (1e-4, 1e-3, 5e-3):
        lab.run("moe", 0.5, config={"optimizer_params": {"lr": lr}})
    search(lab, "dense", number=3)
    frame = OUTPUT.frame(lab.evidence()).set_index(["arm", "parameter"])
    assert frame.loc[("moe", "optimizer_params.lr"), "n_trials"] == 28
    assert frame.loc[("moe", "model_params.top_k"), "n_trials"] == 25
    assert frame.loc[("dense", "optimizer_params.lr"), "note"] == "insufficient: 3 of 20 trials"


def test_null_is_a_value_of_its_own(lab, study):
    options = [None, 1.0, 2.0]
    spaces = {"model_params.capacity_factor": {"kind": "Choice", "options": options}}
    study("s", "random", {"moe": []}, spaces=spaces)
    generator = np.random.default_rng(1)
    for number in range(30):
        factor = options[number % 3]
        config = {"model_params": {"capacity_factor": factor, "lr": number}}
        score = 0.5 + 0.3 * (factor is None) + 1e-3 * generator.random()
        lab.run("moe", score, config=config, study="s", trial=number, phase="search")
    (row,) = OUTPUT.frame(lab.evidence()).to_dict("records")
    assert (row["n_trials"], row["scale"], row["note"]) == (30, "options", "")


def test_null_is_no_value_of_a_parameter_that_has_no_such_option(lab):
    search(lab, number=25)
    for top_k in (None, 2, None):
        lab.run("moe", 0.5, config={"model_params": {"top_k": top_k, "n": id(object())}})
    frame = OUTPUT.frame(lab.evidence()).set_index("parameter")
    assert frame.loc["model_params.top_k", "n_trials"] == 26


def test_a_range_that_only_a_study_gave_counts(lab, study):
    spaces = {
        "model_params.norm": {"kind": "Choice", "options": ["pre", "post"]},
        "optimizer_params.lr": {"kind": "LogUniform", "low": 1e-4, "high": 1e-2},
    }
    study("s", "random", {"moe": []}, spaces=spaces)
    generator = np.random.default_rng(1)
    for number in range(30):
        norm, lr = str(generator.choice(["pre", "post"])), float(10 ** generator.uniform(-4, -2))
        config = {"model_params": {"norm": norm}, "optimizer_params": {"lr": lr}}
        score = 0.5 + 0.3 * (norm == "pre") + 1e-3 * generator.random()
        lab.run("moe", score, config=config, study="s", trial=number, phase="search")
    frame = OUTPUT.frame(lab.evidence())
    assert frame.iloc[0][["parameter", "scale"]].tolist() == ["model_params.norm", "options"]


def test_what_never_changed_is_not_listed(lab):
    search(lab, number=22, width=64)
    assert "model_params.width" not in OUTPUT.frame(lab.evidence())["parameter"].tolist()


def test_nothing_varied_is_a_reason(lab):
    lab.seeds("moe", [0.5, 0.6])
    with pytest.raises(NothingToShowError, match="no parameter"):
        OUTPUT.frame(lab.evidence())


def test_equal_scores_are_no_error(lab):
    for top_k in (1, 2, 4) * 8:
        lab.run("moe", 0.5, config={"model_params": {"top_k": top_k, "n": id(object())}})
    assert OUTPUT.frame(lab.evidence())["note"].tolist()

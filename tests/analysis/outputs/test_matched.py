"""Runs that were made to cost the same are compared with each other and with nothing else."""

import pytest

from research_eval.analysis import equal_costs
from research_eval.analysis.output import NothingToShowError
from research_eval.analysis.outputs import contrasts, matched
from research_eval.matching.target import AXES, tolerance

DENSE, MOE = (0.790, 0.800, 0.795, 0.805, 0.798), (0.802, 0.812, 0.806, 0.816, 0.809)


def to(axis="active_params", target=1000.0, parent="", kind="match"):
    """Return a configuration that was made to cost as much."""
    match = {"axis": axis, "target": target, "reached": target, "error": 0.0}
    return {"origin": {"kind": kind, "parent": parent, "match": match}}


def told(lab, **request):
    evidence = lab.evidence(**request)
    table = matched.frame(evidence)
    return table, matched.sentences(table, evidence)


def test_the_axes_are_those_of_match():
    assert tuple(axis.name for axis in equal_costs.AXES) == AXES
    assert all(axis.tolerance == tolerance(axis.name) for axis in equal_costs.AXES)


def test_what_was_matched_to_a_configuration_is_compared_with_its_runs_only(lab):
    lab.seeds("dense", DENSE, config_hash="given", metrics={"active_param_count": 1000.0})
    lab.seeds("moe", MOE, config=to(parent="given"), metrics={"active_param_count": 1005.0})
    lab.seeds("moe", [0.95, 0.96], config={"large": True}, metrics={"active_param_count": 9e6})
    table, (sentence,) = told(lab, candidate="moe")
    (row,) = table.to_dict("records")
    assert (row["first"], row["second"], row["verdict"]) == ("moe", "dense", "better")
    assert (row["n_first"], row["mean_first"]) == (5, pytest.approx(0.809))  # not the large ones
    assert (row["axis"], row["target"], row["equal"]) == ("active_params", 1000.0, "active_params")
    assert sentence.startswith("At 1 k active parameters: moe beats dense by 1.14 ± 0.80 points")
    assert sentence.count("active parameters") == 2  # what is matched, and that it is equal
    assert "Cost of moe over dense: equal in active parameters (1.005); not known:" in sentence
    (among_all,) = contrasts.frame(lab.evidence(candidate="moe")).to_dict("records")
    assert among_all["mean_first"] == pytest.approx(0.955)


def test_every_axis_is_equal_or_told_with_its_ratio(lab):
    cheap = {"param_count": 100.0, "active_param_count": 100.0, "flops_per_token": 1000.0}
    dear = {"param_count": 335.0, "active_param_count": 100.9, "flops_per_token": 1011.0}
    for arm, scores, costs, rate in (("dense", DENSE, cheap, 104.0), ("moe", MOE, dear, 100.0)):
        metrics = {**costs, "train_tokens_per_second": rate}
        lab.seeds(arm, scores, config=to(kind="study"), metrics=metrics, batch_size=64)
    table, (sentence,) = told(lab, candidate="moe")
    assert table["equal"].tolist() == ["active_params, step_time"]
    assert table["unequal"].tolist() == ["params, flops"]
    assert table["step_time_ratio"].tolist() == [pytest.approx(1.04)]
    assert (
        "equal in active parameters (1.009) and time of a step (1.040); not equal in parameters "
        "(3.35 times) and FLOPs per token (1.011 times)." in sentence
    )


@pytest.mark.parametrize("other", [{"contended": True}, {"hardware": "b"}, {"batch_size": 32}])
def test_times_that_cannot_be_compared_are_unknown(lab, other):
    usual = {"metrics": {"train_tokens_per_second": 100.0}, "batch_size": 64, "hardware": "a"}
    lab.seeds("dense", DENSE, config=to(), **usual)
    lab.seeds("moe", MOE, config=to(), **usual | other)
    table, _ = told(lab)
    assert table["step_time_ratio"].isna().all()
    assert "step_time" in table["unknown"].iloc[0]


def test_targets_and_axes_are_comparisons_of_their_own_and_one_family(lab):
    for axis, target in (("flops", 100.0), ("flops", 200.0), ("params", 100.0)):
        for arm, scores in (("dense", DENSE), ("moe", MOE)):
            lab.seeds(arm, scores, config=to(axis, target, kind="study"))
    table, _ = told(lab, candidate="moe")
    assert table["group"].tolist() == [
        "100 FLOPs per token",
        "200 FLOPs per token",
        "100 parameters",
    ]
    assert table["p_holm"].tolist() == pytest.approx([3 * p for p in table["p"]])


def test_times_are_matched_to_a_configuration_and_not_to_a_number(lab):
    lab.seeds("goe", DENSE, config_hash="given")
    for arm, scores, seconds in (("dense", DENSE, 0.0101), ("moe", MOE, 0.0099)):
        lab.seeds(arm, scores, config=to("step_time", seconds, parent="given"))
    table, _ = told(lab)
    assert set(table["group"]) == {"time of a step of 10.1 ms"}
    assert len(table) == 3  # pairs of three arms


def test_a_group_without_the_candidate_or_its_baselines_is_not_what_was_asked(lab):
    lab.seeds("dense", DENSE, config=to())
    lab.seeds("goe", MOE, config=to())
    lab.seeds("moe", MOE)
    for request in ({"candidate": "moe"}, {"candidate": "dense", "baselines": ("moe",)}):
        with pytest.raises(NothingToShowError):
            matched.frame(lab.evidence(**request))
    assert len(matched.frame(lab.evidence())) == 1


def test_one_arm_alone_or_an_origin_that_is_not_understood_is_no_comparison(lab):
    lab.seeds("moe", MOE, config=to())
    lab.seeds("dense", DENSE, config={"origin": {"match": {"axis": 3, "target": "x"}}})
    with pytest.raises(NothingToShowError, match="research-eval match"):
        matched.frame(lab.evidence())

"""Quality against cost: the front, what noise ties, and times kept apart by machine."""

import numpy as np
import pytest

from research_eval.analysis.fronts import hypervolume
from research_eval.analysis.output import NothingToShowError
from research_eval.analysis.outputs.pareto import OUTPUTS

BY_NAME = {output.name: output for output in OUTPUTS}
PARAMS, LATENCY = BY_NAME["pareto_params"], BY_NAME["pareto_latency"]
MS = "inference_latency_ms_batch_p50"


def statuses(output, evidence):
    frame = output.frame(evidence)
    return dict(zip(frame["run"], frame["status"], strict=True))


def told(output, evidence):
    return " ".join(output.sentences(output.frame(evidence), evidence))


def point(lab, arm, value, params, top_k=2, **more):
    """Record a configuration with some parameters, and return its first run."""
    config = {"model_params": {"top_k": top_k, "width": params}}
    values = value if isinstance(value, list) else [value]
    return lab.seeds(arm, values, config=config, metrics={"param_count": params}, **more)[0]


def test_the_front_is_what_nothing_beats_in_both(lab):
    small, good = point(lab, "dense", 0.7, 100), point(lab, "moe", 0.9, 1000)
    beaten, costly = point(lab, "goe", 0.6, 500), point(lab, "moe", 0.9, 2000)
    found = statuses(PARAMS, lab.evidence())
    assert [found[run] for run in (small, good)] == ["front", "front"]
    assert not {found[beaten], found[costly]} & {"front", "tied"}
    assert f"Nothing beats dense {small} (0.7 at 100) and moe {good}" in told(
        PARAMS, lab.evidence()
    )


def test_without_a_second_seed_anywhere_nothing_is_clearly_dominated(lab, drawn):
    point(lab, "dense", 0.80, 100)
    behind = point(lab, "moe", 0.79, 200)
    evidence = lab.evidence()
    assert statuses(PARAMS, evidence)[behind] == "behind"
    words = told(PARAMS, evidence)
    assert "whether the other one is behind by more than noise is unknown" in words
    assert "nothing is known about noise" in words
    drawn(PARAMS, PARAMS.frame(evidence), evidence)


def test_what_is_behind_only_within_noise_is_tied(lab):
    point(lab, "dense", [0.80, 0.84, 0.82], 100)
    near = point(lab, "moe", [0.81, 0.83, 0.79], 200)
    far = point(lab, "goe", [0.60, 0.61, 0.62], 200)
    found = statuses(PARAMS, lab.evidence())
    assert (found[near], found[far]) == ("tied", "dominated")
    assert "1 is behind them only within noise" in told(PARAMS, lab.evidence())


def test_one_seed_is_as_noisy_as_the_others(lab):
    point(lab, "dense", [0.80, 0.84, 0.82], 1000)
    point(lab, "dense", 0.81, 100)
    near, far = point(lab, "moe", 0.80, 200), point(lab, "goe", 0.5, 200)
    found = statuses(PARAMS, lab.evidence())
    assert (found[near], found[far]) == ("tied", "dominated")
    point(lab, "goe", 0.95, 300)
    assert "2 of the front have one seed only" in told(PARAMS, lab.evidence())


def test_points_are_means_over_seeds_with_intervals(lab):
    point(lab, "moe", [0.7, 0.8, 0.9], 100)
    (row,) = PARAMS.frame(lab.evidence()).to_dict("records")
    assert (row["n"], row["quality"], row["cost"]) == (3, pytest.approx(0.8), 100)
    assert row["quality_low"] == pytest.approx(0.8 - 4.3027 * 0.1 / 3**0.5, abs=1e-4)
    assert row["cost_low"] == row["cost_high"] == 100


def test_confirmed_seeds_replace_those_of_the_search(lab):
    more = {"study": "s", "trial": 0}
    point(lab, "moe", 0.99, 10, phase="search", **more)
    point(lab, "moe", [0.80, 0.82], 10, phase="confirm", **more)
    assert PARAMS.frame(lab.evidence())["quality"].tolist() == [pytest.approx(0.81)]


def test_the_hypervolume_is_that_of_the_arm_up_to_the_printed_reference(lab):
    for arm, value, params in [("dense", 0.7, 100), ("moe", 0.9, 1000), ("moe", 0.8, 10_000)]:
        point(lab, arm, value, params)
    frame = PARAMS.frame(lab.evidence())
    reference = np.array([4.2, -0.68])  # a tenth of the range beyond 10^4 and 0.7
    assert np.log10(frame["reference_cost"]).tolist() == [pytest.approx(4.2)] * 3
    assert frame["reference_quality"].tolist() == [pytest.approx(0.68)] * 3
    own = frame[frame["arm"] == "moe"]
    area = hypervolume(np.column_stack([np.log10(own["cost"]), -own["quality"]]), reference)
    assert own["hypervolume"].tolist() == [pytest.approx(area / (2.2 * 0.22))] * 2
    assert "(15,849, 0.68)" in told(PARAMS, lab.evidence())


def test_less_is_better_for_a_loss(lab):
    low = lab.run("moe", None, metrics={"final_val_loss": 1.0, "param_count": 10})
    high = lab.run("goe", None, metrics={"final_val_loss": 2.0, "param_count": 20})
    evidence = lab.evidence(goal="final_val_loss")
    assert statuses(PARAMS, evidence) == {low: "front", high: "behind"}
    assert PARAMS.stem(evidence) == "parity_loss_vs_params"


def test_the_original_names_of_files_are_kept(lab):
    point(lab, "moe", 0.9, 10)
    assert PARAMS.stem(lab.evidence()) == "parity_f1_vs_params"
    assert LATENCY.stem(lab.evidence()) == "parity_f1_vs_latency"


def test_times_of_different_machines_and_batches_are_not_compared(lab, drawn):
    fast = lab.run("moe", 0.5, metrics={MS: 1.0}, batch_size=64)
    lab.run("goe", 0.9, metrics={MS: 5.0}, batch_size=64)
    slow = lab.run("dense", 0.6, metrics={MS: 9.0}, hardware="gpu", batch_size=64)
    large = lab.run("gnn_moe", 0.6, metrics={MS: 9.0}, batch_size=128)
    evidence = lab.evidence()
    found = statuses(LATENCY, evidence)
    assert set(found.values()) == {"front"}
    assert {fast, slow, large} <= set(found)
    assert len(drawn(LATENCY, LATENCY.frame(evidence), evidence).axes) == 3


def test_contended_timings_are_left_out_and_counted(lab):
    lab.run("moe", 0.5, metrics={MS: 1.0}, contended=True)
    kept = lab.run("goe", 0.6, metrics={MS: 2.0})
    assert set(statuses(LATENCY, lab.evidence())) == {kept}
    assert "1 timing left out" in told(LATENCY, lab.evidence())


def test_only_contended_timings_are_a_reason(lab):
    lab.run("moe", 0.5, metrics={MS: 1.0}, contended=True)
    with pytest.raises(NothingToShowError, match="evaluate ID --latency"):
        LATENCY.frame(lab.evidence())


def test_latency_that_was_measured_alone_counts(lab):
    run = lab.run("moe", 0.5, metrics={MS: 1.0}, contended=True, batch_size=64)
    alone = {"eval_latency_ms_p50_batch1": 2.0, "eval_latency_ms_p50_batch64": 4.0}
    lab.run("moe", None, metrics=alone, run_type="evaluation", parent=run, batch_size=64)
    frame = LATENCY.frame(lab.evidence())
    assert dict(zip(frame["condition"], frame["cost"], strict=True)) == {
        "cpu:a processor:1 threads, batch of 1": 2.0,
        "cpu:a processor:1 threads, batch of 64": 4.0,
    }


def test_a_run_that_was_timed_again_is_one_seed_with_its_newest_good_timing(lab):
    run = lab.run("moe", 0.5, metrics={MS: 1.0}, batch_size=64)
    for milliseconds, contended in ((4.0, False), (3.0, False), (9.0, True)):
        timing = {"eval_latency_ms_p50_batch64": milliseconds}
        more = {"run_type": "evaluation", "parent": run, "batch_size": 64}
        lab.run("moe", None, metrics=timing, contended=contended, **more)
    (row,) = LATENCY.frame(lab.evidence()).to_dict("records")
    assert (row["n"], row["cost"]) == (1, 3.0)
    assert np.isnan(row["quality_low"])


def test_a_cost_that_nobody_recorded_is_a_reason(lab):
    lab.run("moe", 0.5)
    with pytest.raises(NothingToShowError, match="no run recorded param_count beside"):
        PARAMS.frame(lab.evidence())


def test_the_cost_is_on_a_logarithmic_axis_and_arms_are_named(lab, drawn):
    for params in (100, 1000, 100_000):
        point(lab, "moe", [0.5, 0.6], params)
        point(lab, "dense", 0.4, params)
    evidence = lab.evidence()
    (axes,) = drawn(PARAMS, PARAMS.frame(evidence), evidence).axes
    assert axes.get_xscale() == "log"
    assert {text.get_text() for text in axes.texts} == {"dense", "moe"}

"""Best runs, seeds, contrasts, flags and provenance: numbers, words and pictures."""

import numpy as np
import pytest
from scipy import stats

from research_eval.analysis import style
from research_eval.analysis.output import NothingToShowError, find_outputs
from research_eval.analysis.outputs import (
    ablation,
    best_runs,
    contrasts,
    flags,
    provenance,
    seeds,
)
from research_eval.analysis.section import work_out

DENSE, MOE = (0.790, 0.800, 0.795, 0.805, 0.798), (0.802, 0.812, 0.806, 0.816, 0.809)
LR = [{"optimizer_params": {"lr": lr}} for lr in (0.1, 0.2, 0.3, 0.4, 0.5)]


def said(output, evidence):
    table = output.frame(evidence)
    return output.sentences(table, evidence)


def two_arms(lab, dense=DENSE, moe=MOE, ratio=1.008):
    lab.seeds("dense", dense, metrics={"active_param_count": 1000.0})
    lab.seeds("moe", moe, metrics={"active_param_count": 1000.0 * ratio})


# ---------------------------------------------------------------------------- the folder


def test_outputs_have_names_and_files_of_their_own_in_a_fixed_order(lab):
    lab.run()
    found, evidence = find_outputs(), lab.evidence()
    assert {"best_runs", "seeds", "contrasts", "flags", "provenance"} <= {o.name for o in found}
    assert len({output.name for output in found}) == len(found)
    assert len({output.stem(evidence) for output in found}) == len(found)
    assert [output.order for output in found] == sorted(output.order for output in found)


def test_every_picture_has_a_table(lab):
    two_arms(lab)
    evidence = lab.evidence()
    for output in find_outputs():
        section = work_out(output, evidence)
        assert section.picture is None or not section.table.empty
        assert section.table is not None or section.notes


def test_a_name_that_is_no_file_name_becomes_one_and_stays_unique(lab):
    for name in ("../a b", "a b"):
        lab.run(dataset_name=name)
    stems = {
        best_runs.OUTPUTS[0].stem(lab.evidence(datasets=(name,))) for name in ("../a b", "a b")
    }
    assert len(stems) == 2
    assert not any("/" in stem or stem.startswith(".") for stem in stems)


# ----------------------------------------------------------------------------- best runs


def test_the_best_run_is_shown_with_the_test_score_that_chose_nothing(lab):
    lab.run(value=0.8, seed=0, metrics={"final_test_f1": 0.9})
    best = lab.run(value=0.85, seed=1, metrics={"final_test_f1": 0.7, "param_count": 10.0})
    table = best_runs.frame(lab.evidence())
    row = table.iloc[0]
    assert (row["run"], row["final_val_f1"], row["final_test_f1"]) == (best, 0.85, 0.7)
    assert row["param_count"] == 10
    assert (row["tried"], row["tuning_runs"]) == (1, 2)


def test_latencies_of_a_shared_machine_are_left_out_aloud(lab):
    timing = {"inference_latency_ms_batch_p50": 3.0, "param_count": 10.0}
    lab.run("dense", metrics=timing)
    shared = lab.run("moe", metrics=timing, contended=True)
    evidence = lab.evidence()
    rows = best_runs.frame(evidence).set_index("arm")
    assert rows["inference_latency_ms_batch_p50"].fillna(0).to_dict() == {"dense": 3.0, "moe": 0.0}
    assert rows["param_count"].to_dict() == {"dense": 10.0, "moe": 10.0}
    (sentence,) = said(best_runs.OUTPUTS[0], evidence)
    assert f"research-eval evaluate {shared} --latency" in sentence


def test_lower_losses_come_first(lab):
    for arm, loss in (("dense", 2.0), ("moe", 1.0)):
        lab.run(arm, None, metrics={"final_val_loss": loss})
    assert list(best_runs.frame(lab.evidence())["arm"]) == ["moe", "dense"]


def test_only_failed_runs_give_no_table_but_the_reason(lab):
    lab.run(status="FAILED")
    evidence = lab.evidence()
    for output in (best_runs, ablation):
        with pytest.raises(NothingToShowError):
            output.frame(evidence)
    assert seeds.frame(evidence)["n_failed"].tolist() == [1]
    with pytest.raises(NothingToShowError):
        seeds.draw(seeds.frame(evidence), evidence)


# --------------------------------------------------------------------------------- seeds


def test_seeds_have_student_intervals_and_one_seed_has_none(lab):
    lab.seeds("moe", MOE)
    lab.run("dense", 0.5)
    table = seeds.frame(lab.evidence()).set_index("arm")
    interval = stats.t.interval(0.95, 4, np.mean(MOE), stats.sem(MOE))
    assert table.loc["moe", ["low", "high"]].tolist() == pytest.approx(interval)
    assert table.loc["dense", ["sd", "low", "high"]].isna().all()
    assert said(seeds.OUTPUTS[0], lab.evidence()) == [
        "dense reaches final_val_f1 0.5 on one seed, so with no interval.",
        "moe reaches final_val_f1 0.8090 ± 0.0067 over 5 seeds.",
    ]


def test_a_mean_over_survivors_is_never_silent(lab):
    lab.seeds("moe", [0.5, 0.6])
    lab.run("moe", seed=3, status="DIVERGED")
    row = seeds.frame(lab.evidence()).iloc[0]
    assert (row["n_ok"], row["n_started"], row["n_failed"]) == (2, 3, 1)
    assert (
        "1 of 3 runs of moe failed and is in no mean" in said(seeds.OUTPUTS[0], lab.evidence())[1]
    )
    worst = lab.evidence(failed_as="worst")
    assert seeds.frame(worst).iloc[0]["mean"] == pytest.approx((0.5 + 0.6 + 0.5) / 3)
    assert "failed and counts as the worst score" in said(seeds.OUTPUTS[0], worst)[1]


# ----------------------------------------------------------------------------- contrasts


def test_a_planned_contrast_is_welch_with_everything_beside_it(lab):
    two_arms(lab)
    table = contrasts.frame(lab.evidence(candidate="moe"))
    (row,) = table.to_dict("records")
    test = stats.ttest_ind(MOE, DENSE, equal_var=False)
    assert (row["first"], row["second"], row["kind"]) == ("moe", "dense", "planned")
    assert row["p"] == row["p_holm"] == pytest.approx(test.pvalue)
    assert row["paired_p"] == pytest.approx(stats.ttest_rel(MOE, DENSE).pvalue)
    assert row["verdict"] == "better"
    assert row["improvement"] == 0.96
    assert (row["n_first"], row["started_second"]) == (5, 5)
    assert row["detectable"] > 0
    assert row["active_params_ratio"] == pytest.approx(1.008)


def test_the_verdict_reads_as_in_a_paper(lab):
    two_arms(lab)
    p = stats.ttest_ind(MOE, DENSE, equal_var=False).pvalue
    assert said(contrasts.OUTPUTS[0], lab.evidence(candidate="moe")) == [
        "moe beats dense by 1.14 ± 0.80 points of final_val_f1 at equal active parameters, "
        f"n = 5 and 5, p_Holm = {p:.2g}."
    ]


@pytest.mark.parametrize(
    ("active", "flops", "told"),
    [
        (1.005, 1.0, " at equal active parameters and FLOPs per token, n ="),
        (1.005, 3.0, " at equal active parameters but with 3 times the FLOPs per token, n ="),
        (1.049, 1.5, " with 1.049 times the active parameters and 1.5 times the FLOPs per token,"),
    ],
)
def test_a_verdict_says_which_costs_are_equal(lab, active, flops, told):
    for arm, scores, factors in (("dense", DENSE, (1, 1)), ("moe", MOE, (active, flops))):
        costs = dict(zip(("active_param_count", "flops_per_token"), factors, strict=True))
        lab.seeds(arm, scores, metrics=costs)
    assert told in said(contrasts.OUTPUTS[0], lab.evidence(candidate="moe"))[0]


def test_a_verdict_says_what_was_matched(lab):
    lab.seeds("dense", DENSE)
    lab.seeds("moe", MOE, config={"origin": {"kind": "match", "match": {"axis": "step_time"}}})
    (sentence,) = said(contrasts.OUTPUTS[0], lab.evidence(candidate="moe"))
    assert "of final_val_f1 (moe was matched on step_time), n =" in sentence


def test_a_lower_loss_is_better_and_told_in_nats(lab):
    for arm, losses in (("dense", (2.0, 2.1, 2.05)), ("moe", (1.5, 1.6, 1.55))):
        for seed, loss in enumerate(losses):
            lab.run(arm, None, seed, metrics={"final_val_loss": loss})
    evidence = lab.evidence(candidate="moe")
    (row,) = contrasts.frame(evidence).to_dict("records")
    assert row["verdict"] == "better"
    assert row["delta"] == pytest.approx(-0.5)
    assert row["improvement"] == 1
    (sentence,) = said(contrasts.OUTPUTS[0], evidence)
    assert sentence.startswith("moe beats dense by 0.50 ± 0.11 nats of final_val_loss, n = 3 and 3")


def test_a_candidate_that_is_worse_is_said_to_be(lab):
    two_arms(lab, dense=MOE, moe=DENSE, ratio=2)
    evidence = lab.evidence(candidate="moe")
    assert contrasts.frame(evidence)["verdict"].tolist() == ["worse"]
    (sentence,) = said(contrasts.OUTPUTS[0], evidence)
    assert sentence.startswith("dense beats moe by 1.14 ± 0.80 points")
    assert "with 0.5 times the active parameters" in sentence


def test_no_difference_says_what_could_have_been_seen(lab):
    two_arms(lab, dense=(0.80, 0.82, 0.78), moe=(0.81, 0.79, 0.83))
    (sentence,) = said(contrasts.OUTPUTS[0], lab.evidence(candidate="moe"))
    assert sentence.startswith(
        "No difference between moe and dense shown: 3 seeds can detect 6.1 points of "
        "final_val_f1 at best, and the observed 1 points of final_val_f1 would take 64 seeds each"
    )


def test_without_a_candidate_all_pairs_are_exploratory(lab):
    two_arms(lab)
    lab.seeds("goe", DENSE[::-1])
    evidence = lab.evidence()
    table = contrasts.frame(evidence)
    assert len(table) == 3
    assert set(table["kind"]) == {"exploratory"}
    assert (table["p_holm"] >= table["p"]).all()
    assert "this is exploratory" in said(contrasts.OUTPUTS[0], evidence)[0]


def test_differences_within_the_margin_are_called_the_same(lab):
    two_arms(lab)
    assert contrasts.frame(lab.evidence(candidate="moe", margin=0.05))["verdict"].item() == "same"
    (sentence,) = said(contrasts.OUTPUTS[0], lab.evidence(candidate="moe", margin=0.05))
    assert "differ by less than the margin of 5 points of final_val_f1" in sentence
    assert (
        contrasts.frame(lab.evidence(candidate="moe", margin=0.005))["verdict"].item() == "better"
    )


def test_one_seed_has_no_verdict(lab):
    lab.seeds("dense", DENSE)
    lab.run("moe", 0.9)
    evidence = lab.evidence(candidate="moe")
    assert contrasts.frame(evidence)["verdict"].tolist() == ["none"]
    assert said(contrasts.OUTPUTS[0], evidence) == [
        "No verdict on moe and dense: moe has one seed, which shows no spread."
    ]
    with pytest.raises(NothingToShowError):
        contrasts.draw(contrasts.frame(evidence), evidence)


def test_ties_of_all_seeds_have_no_verdict(lab):
    two_arms(lab, dense=(1.0,) * 3, moe=(1.0,) * 3)
    (sentence,) = said(contrasts.OUTPUTS[0], lab.evidence(candidate="moe"))
    assert "the seeds of neither spread" in sentence


def test_one_architecture_has_nothing_to_be_compared_with(lab):
    lab.seeds("moe", MOE)
    with pytest.raises(NothingToShowError, match="one architecture"):
        contrasts.frame(lab.evidence())


def test_unequal_tuning_is_cut_to_the_common_budget(lab):
    for config in LR[:2]:
        lab.seeds("dense", DENSE, config=config)
    for place, config in enumerate(LR):  # each better than the one before
        lab.seeds("moe", np.array(MOE) + 0.1 * place, config=config)
    evidence = lab.evidence(candidate="moe")
    (row,) = contrasts.frame(evidence).to_dict("records")
    assert row["chosen_from"] == row["tried_first"] == 2
    assert row["mean_first"] == pytest.approx(np.mean(MOE) + 0.1)
    told = said(contrasts.OUTPUTS[0], evidence)
    assert told[0].startswith("Tuning budgets differ, so each architecture stands by its best of")


def test_confirmed_arms_that_were_tuned_unequally_have_no_verdict(lab):
    for arm, tried in (("dense", 2), ("moe", 5)):
        for trial, config in enumerate(LR[:tried]):
            lab.run(arm, 0.5, config=config, study="s", phase="search", trial=trial)
        for seed, value in enumerate(MOE, start=1):
            lab.run(arm, value, seed, config=LR[0], study="s", phase="confirm")
    (sentence,) = said(contrasts.OUTPUTS[0], lab.evidence(candidate="moe"))
    assert sentence == (
        "No verdict on moe and dense: they were tuned unequally, moe with 5 configurations and "
        "dense with 2 configurations."
    )


def test_a_confirmed_arm_is_not_compared_with_one_that_is_not(lab):
    for arm in ("dense", "moe"):
        for trial, config in enumerate(LR[:2]):
            lab.seeds(arm, MOE, config=config, study="s", phase="search", trial=trial)
    lab.seeds("moe", MOE, config=LR[0], study="s", phase="confirm")
    sentence = said(contrasts.OUTPUTS[0], lab.evidence(candidate="moe"))[0]
    assert "only moe was confirmed on seeds that its search had not seen" in sentence


def test_seeds_of_the_search_are_said_to_flatter(lab):
    for arm, scores in (("dense", DENSE), ("moe", MOE)):
        for trial, config in enumerate(LR[:2]):
            lab.seeds(arm, scores, config=config, study="s", phase="search", trial=trial)
    told = said(contrasts.OUTPUTS[0], lab.evidence())
    assert told[-2].endswith("which flatter what it chose.")
    assert told[-1].endswith("research-eval hpo --confirm 5.")


# ------------------------------------------------------------------- flags and provenance


def test_flags_stand_beside_the_scores_of_their_runs(lab):
    lab.run(seed=0, flags={"dead_experts_layer0": "experts 1 and 2"})
    lab.run(seed=1)
    evidence = lab.evidence()
    (row,) = flags.frame(evidence).to_dict("records")
    assert best_runs.frame(evidence)["flags"].item() == "dead experts layer0 in 1 of 2"
    assert (row["flag"], row["is_chosen"], row["final_val_f1"]) == (
        "dead_experts_layer0",
        True,
        0.5,
    )
    assert said(flags.OUTPUTS[0], evidence) == [
        "1 of 2 runs that stand for moe: dead experts layer0, experts 1 and 2."
    ]


def test_no_flags_are_said_to_be_none(lab):
    lab.run()
    with pytest.raises(NothingToShowError, match="no run carries a flag"):
        flags.frame(lab.evidence())


def test_code_of_several_versions_is_told_but_another_router_is_none(lab):
    for router in ("softmax", "sigmoid"):
        config = {"model_params": {"router": router}}
        lab.run("moe", config=config, code_hash=f"code of {router}")
    evidence = lab.evidence()
    assert provenance.frame(evidence)["code_versions"].item() == 1
    lab.run("moe", config={"model_params": {"router": "softmax", "top_k": 1}}, code_hash="new")
    evidence = lab.evidence()
    assert len(evidence.runs) == 3
    told = " ".join(said(provenance.OUTPUTS[0], evidence))
    assert "Configurations of moe were made by 2 versions of its code" in told


def test_provenance_tells_where_arms_were_not_treated_alike(lab):
    lab.seeds("dense", DENSE, git_commit="a" * 40)
    for config in LR:
        lab.run("moe", 0.5, config=config, git_commit="b" * 40, git_diff="+", contended=True)
    evidence = lab.evidence()
    table = provenance.frame(evidence).set_index("arm")
    assert table["configurations_tried"].to_dict() == {"dense": 1, "moe": 5}
    assert table["uncommitted_runs"].to_dict() == {"dense": 0, "moe": 5}
    assert table["contended_runs"].to_dict() == {"dense": 0, "moe": 5}
    assert table.loc["dense", "seeds"] == "0 1 2 3 4"
    told = " ".join(said(provenance.OUTPUTS[0], evidence))
    assert "Tuning was not equal: dense with 1 configuration (0 s) and moe with 5" in told
    assert f"at several commits: {'a' * 12} and {'b' * 12}" in told


# -------------------------------------------------------------------------------- pictures


def test_an_architecture_has_one_colour_whatever_else_is_drawn():
    plugin = "./mine.py:Mine"
    alone, together = style.colours([plugin, "moe"]), style.colours(["dense", "goe", "moe", plugin])
    assert alone["moe"] == together["moe"]
    assert alone[plugin] == together[plugin]
    many = style.colours([f"plugin{i}" for i in range(6)])
    assert len(set(many.values())) == 6


@pytest.mark.parametrize("output", [seeds, contrasts], ids=lambda m: m.__name__)
def test_a_picture_is_a_png_and_the_same_twice(lab, output):
    two_arms(lab)
    evidence = lab.evidence(margin=0.01)
    table = output.frame(evidence)
    with style.house():
        pictures = [style.to_png(output.draw(table, evidence)) for _ in range(2)]
    assert pictures[0] == pictures[1]
    assert pictures[0].startswith(b"\x89PNG")

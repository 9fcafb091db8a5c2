"""Ablations: each variant against the configuration that it was made from."""

import numpy as np
import pytest
from scipy import stats

from research_eval.analysis.output import NothingToShowError
from research_eval.analysis.outputs import ablation
from research_eval.errors import ConfigError

DENSE, MOE = (0.790, 0.800, 0.795, 0.805, 0.798), (0.802, 0.812, 0.806, 0.816, 0.809)
(OUTPUT,) = ablation.OUTPUTS


def told(evidence):
    return OUTPUT.sentences(OUTPUT.frame(evidence), evidence)


def ablated(lab, changes, values, group="abl", arm="moe", **base):
    """Record seeds of a base with changes; both by path in `model_params`."""
    settings = {path.removeprefix("model_params."): value for path, value in changes.items()}
    config = {"model_params": base | settings, "origin": {"kind": "sweep", "changed": changes}}
    name = f"width {base['width']}" if base else "moe"
    return lab.seeds(arm, values, config=config, group=group, experiment_name=name)


def test_each_change_is_compared_with_the_configuration_without_it(lab):
    ablated(lab, {}, MOE)
    ablated(lab, {"model_params.aux_loss_weight": 0}, DENSE)
    ablated(lab, {"model_params.num_shared_experts": 1}, [0.81, 0.82, 0.80])
    evidence = lab.evidence(ablation="abl")
    table = OUTPUT.frame(evidence).set_index("change")
    row = table.loc["model_params.aux_loss_weight=0"]
    test = stats.ttest_ind(DENSE, MOE, equal_var=False)
    assert row["p"] == pytest.approx(test.pvalue)
    assert row["p_holm"] == pytest.approx(2 * test.pvalue)
    assert row["base"] == "as it is"
    first, second = told(evidence)
    assert first.startswith("moe with model_params.aux_loss_weight=0 is worse than as it is by")
    assert "shows no difference" in second


def test_in_a_sweep_each_combination_has_its_own_base(lab):
    for router in ("a", "b"):
        ablated(lab, {"model_params.router": router}, MOE)
        ablated(lab, {"model_params.router": router, "model_params.top_k": 1}, DENSE)
    table = OUTPUT.frame(lab.evidence(ablation="abl"))
    assert table["base"].tolist() == ['model_params.router="a"', 'model_params.router="b"']
    assert table["change"].tolist() == ["model_params.top_k=1"] * 2


def test_each_of_two_configurations_of_a_group_is_the_base_of_its_own_variants(lab):
    shared = {"model_params.top_k": 1}
    for width, scores in ((32, MOE), (64, DENSE)):
        ablated(lab, {}, scores, width=width)
        ablated(lab, shared, np.array(scores) - width / 1000, width=width)
    evidence = lab.evidence(ablation="abl")
    table = OUTPUT.frame(evidence)
    assert table["base"].tolist() == ["as it is in width 32", "as it is in width 64"]
    assert table["n"].tolist() == table["n_base"].tolist() == [5, 5]
    assert table["delta"].tolist() == pytest.approx([-0.032, -0.064])
    assert "worse than as it is in width 64 by" in told(evidence)[1]


def test_a_variant_that_two_configurations_lead_to_is_compared_with_both(lab):
    for width in (32, 64):
        ablated(lab, {}, MOE, width=width)
    ablated(lab, {"model_params.width": 16}, DENSE)
    assert len(OUTPUT.frame(lab.evidence(ablation="abl"))) == 2


def test_without_a_group_there_is_no_ablation(lab):
    ablated(lab, {}, MOE)
    with pytest.raises(NothingToShowError, match="--ablation GROUP"):
        OUTPUT.frame(lab.evidence())
    with pytest.raises(ConfigError, match="no run has the group 'other'; known: abl"):
        lab.evidence(ablation="other")


def test_a_variant_whose_runs_failed_is_shown_without_a_number(lab):
    ablated(lab, {}, MOE)
    lab.run(
        config={"origin": {"kind": "sweep", "changed": {"a": 1}}}, group="abl", status="DIVERGED"
    )
    evidence = lab.evidence(ablation="abl")
    assert OUTPUT.frame(evidence)["delta"].isna().all()
    assert told(evidence) == ["moe with a=1: no run came to a score."]


def test_a_picture_names_each_change_and_its_base(lab, drawn):
    for width in (32, 64):
        ablated(lab, {}, MOE, width=width)
        ablated(lab, {"model_params.a": "$x_1$"}, DENSE, width=width)  # not a formula
    evidence = lab.evidence(ablation="abl")
    (axes,) = drawn(OUTPUT, OUTPUT.frame(evidence), evidence).axes
    names = " ".join(label.get_text() for label in axes.get_yticklabels())
    assert "\nvs as it is in width 32" in names
    assert "\nvs as it is in width 64" in names

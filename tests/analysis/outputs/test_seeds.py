"""What the sentences about seeds say of runs that failed."""

import pytest

from research_eval.analysis.outputs import seeds

(SEEDS,) = seeds.OUTPUTS


def said(evidence):
    return SEEDS.sentences(SEEDS.frame(evidence), evidence)[-1]


@pytest.mark.parametrize(
    ("failed", "dropped", "imputed"),
    [
        (
            1,
            "1 of 3 runs of moe failed and is in no mean; --failed-as worst counts it",
            "1 of 3 runs of moe failed and counts as the worst score of all, imputed",
        ),
        (
            2,
            "2 of 4 runs of moe failed and are in no mean; --failed-as worst counts them",
            "2 of 4 runs of moe failed and count as the worst score of all, imputed",
        ),
    ],
)
def test_failed_runs_are_counted_and_what_stands_for_them_is_said(lab, failed, dropped, imputed):
    lab.seeds("moe", [0.5, 0.6])
    for seed in range(failed):
        lab.run(seed=2 + seed, status="FAILED")
    assert said(lab.evidence()).startswith(dropped)
    assert said(lab.evidence(failed_as="worst")).startswith(imputed)


def test_without_any_score_nothing_can_be_imputed(lab):
    lab.run(status="FAILED")
    assert "failed and is in no mean" in said(lab.evidence(failed_as="worst"))

"""What a difference means is judged by the spread of the recorded seeds."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from research_eval.records import RunStatus
from research_eval.reproduction import Original, compare, seed_spreads
from research_eval.testing.runs import ended_run


def original(seed, **scores):
    record = ended_run(f"run-{seed}", RunStatus.COMPLETED, scores, seed=seed, config_hash="c")
    return Original(record, "{}", Path(), ())


def obtained(**scores):
    return ended_run("again", RunStatus.COMPLETED, scores)


def verdict(recorded, value, spreads):
    (found,) = compare(recorded, obtained(final_val_loss=value), spreads)
    return found.verdict


def test_verdicts():
    runs = [original(seed, final_val_loss=1 + seed / 100) for seed in range(5)]
    spreads = seed_spreads(runs)
    assert verdict(runs[0], 1.0, spreads) == "bit-equal"
    assert verdict(runs[0], np.nextafter(1.0, 2), spreads) == "within seed spread"
    assert verdict(runs[0], 1.05, spreads) == "within seed spread"
    assert verdict(runs[0], 1.2, spreads) == "outside"
    assert verdict(runs[0], float("nan"), spreads) == "outside"
    assert verdict(runs[0], 1.2, seed_spreads(runs[:2])) == "not equal"
    assert verdict(original(0, final_val_loss=float("nan")), float("nan"), {}) == "bit-equal"


def test_a_score_that_does_not_come_out_is_missing():
    run = original(0, final_val_loss=float("nan"), final_val_f1=0.5)
    found = compare(run, obtained(final_val_f1=0.5), {})
    assert {each.metric: each.verdict for each in found} == {
        "final_val_loss": "missing",
        "final_val_f1": "bit-equal",
    }


def test_times_are_no_scores():
    run = original(0, final_val_loss=1.0, total_training_time_seconds=2.0)
    found = compare(run, obtained(final_val_loss=1.0, total_training_time_seconds=9.0), {})
    assert [each.metric for each in found] == ["final_val_loss"]


@pytest.mark.parametrize("seeds", [3, 5])
def test_two_seeds_differ_by_less_than_the_spread_in_99_of_100_cases(seeds):
    draws = np.random.default_rng(0).normal(size=(300, seeds))
    inside = []
    for row in draws:
        runs = [original(i, final_val_loss=value) for i, value in enumerate(row)]
        limit = seed_spreads(runs)[runs[0].group, "final_val_loss"]
        inside.append(stats.norm.cdf(limit, scale=math.sqrt(2)) * 2 - 1)
    assert np.mean(inside) == pytest.approx(0.99, abs=0.006)

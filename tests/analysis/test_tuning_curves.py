"""Each statistic equals what its definition says, counted out."""

import itertools

import numpy as np
import pytest

from research_eval.analysis.tuning_curves import (
    best_so_far,
    crossings,
    expected_best,
    expected_best_with_replacement,
    median_best_interval,
)

EIGHT = np.array([0.61, 0.70, 0.70, 0.12, 0.93, 0.55, 0.41, 0.88])


@pytest.mark.parametrize("n", range(1, 9))
def test_the_unbiased_curve_is_the_mean_over_all_subsets(n):
    subsets = [max(subset) for subset in itertools.combinations(EIGHT, n)]
    assert expected_best(EIGHT)[n - 1] == pytest.approx(np.mean(subsets), rel=1e-12)


@pytest.mark.parametrize("n", range(1, 6))
def test_the_biased_curve_is_the_mean_over_all_draws_with_replacement(n):
    draws = [max(draw) for draw in itertools.product(EIGHT, repeat=n)]
    found = expected_best_with_replacement(EIGHT)[n - 1]
    assert found == pytest.approx(np.mean(draws), rel=1e-12)


def test_both_curves_hold_for_a_thousand_trials():
    scores = np.random.default_rng(0).normal(size=1000)
    unbiased, biased = expected_best(scores), expected_best_with_replacement(scores)
    assert unbiased[0] == pytest.approx(scores.mean())
    assert unbiased[-1] == pytest.approx(scores.max())
    assert (np.diff(unbiased) > 0).all()
    assert (biased <= unbiased + 1e-12).all()


def test_the_unbiased_curve_hits_the_expected_best_of_fresh_trials():
    scores = np.random.default_rng(1).random((2000, 20))
    n = np.arange(1, 21)
    means = np.mean([expected_best(each) for each in scores], axis=0)
    np.testing.assert_allclose(means, n / (n + 1), atol=0.005)  # of uniform draws


def test_the_interval_covers_the_median_best_of_fresh_trials():
    scores = np.random.default_rng(2).lognormal(sigma=0.6, size=(2000, 40))
    truth = np.exp(0.6 * _normal_quantile(0.5 ** (1 / np.arange(1, 41))))
    covered = np.zeros(40)
    for each in scores:
        low, high = median_best_interval(each)
        covered += (low <= truth) & (truth <= high)
    assert (covered / len(scores) >= 0.94).all()


def test_few_trials_bound_no_long_search_from_above():
    low, high = median_best_interval(np.linspace(0, 1, 20))
    assert np.isfinite(high[:3]).all()
    assert np.isinf(high[-1])
    assert np.isfinite(low[-1])
    assert np.isinf(median_best_interval(np.array([0.5]))).all()


def test_best_so_far_never_falls():
    assert best_so_far(np.array([0.2, 0.1, 0.4, 0.3])).tolist() == [0.2, 0.2, 0.4, 0.4]


def test_crossings_are_where_the_lead_changes_hands():
    one = np.array([0.1, 0.3, 0.3, 0.3, 0.5])
    other = np.array([0.2, 0.2, 0.3, 0.4, 0.4])
    assert crossings(one, other) == [2, 4, 5]
    assert crossings(one, one) == []
    assert crossings(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.5])) == []


def _normal_quantile(p):
    from scipy.special import ndtri

    return ndtri(p)

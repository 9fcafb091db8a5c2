"""Statistics against brute force, against scipy, and against what they promise."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from research_eval.analysis.statistics import (
    detectable,
    holm,
    improvement,
    paired,
    permutation_p,
    seeds_needed,
    t_interval,
    welch,
    within_margin,
)

NUMBERS = ("delta", "low", "high", "p")


@pytest.fixture
def random():
    return np.random.default_rng(7)


def coverage(values, true_mean):
    low, high = t_interval(values)
    return ((low <= true_mean) & (true_mean <= high)).mean()


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_of_normal_scores_cover_what_they_say(n, random):
    assert 0.93 <= coverage(random.normal(size=(20_000, n)), 0.0) <= 0.97


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_of_skewed_scores_cover_nearly_that(n, random):
    values = random.lognormal(sigma=0.6, size=(20_000, n))
    assert coverage(values, math.exp(0.6**2 / 2)) >= 0.89


def test_one_seed_has_no_interval():
    assert np.isnan(t_interval([0.5])).all()


def test_welch_and_paired_are_those_of_scipy(random):
    first, second, third = (random.normal(size=(50, n)) for n in (5, 3, 5))
    for ours, theirs in (
        (welch(first, second), stats.ttest_ind(first, second, axis=1, equal_var=False)),
        (paired(first, third), stats.ttest_rel(first, third, axis=1)),
    ):
        np.testing.assert_allclose(ours.p, theirs.pvalue)
        interval = theirs.confidence_interval()
        np.testing.assert_allclose([ours.low, ours.high], [interval.low, interval.high])


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-7, 1.0])
@pytest.mark.parametrize("test", [welch, paired])
def test_scores_without_spread_cannot_be_tested(test, value):
    """Sums of equal numbers differ in their last bit, which must not become a tiny p-value."""
    for other in (value, 2 * value):
        found = test([value] * 3, [other] * 3)
        assert np.isnan([found.p, found.low, found.high]).all()
        assert found.delta == pytest.approx(value - other)


@pytest.mark.parametrize("test", [welch, paired])
@pytest.mark.parametrize("n", [0, 1])
def test_too_few_seeds_cannot_be_tested(test, n):
    if n or test is paired:
        assert np.isnan(test([1.0] * n, [2.0] * n).p)


def slow_holm(p):
    """Return, by the definition of a closed test, the largest p of any set that holds each one."""
    found = []
    for index in range(len(p)):
        others = [p[i] for i in range(len(p)) if i != index]
        sets = (
            [p[index], *chosen]
            for size in range(len(p))
            for chosen in itertools.combinations(others, size)
        )
        found.append(max(min(1.0, len(each) * min(each)) for each in sets))
    return found


def test_holm_is_the_closed_test_of_bonferroni(random):
    for _ in range(50):
        p = list(random.uniform(size=random.integers(1, 7)) ** 2)
        p += p[:1]  # ties
        np.testing.assert_allclose(holm(p), slow_holm(p))


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_a_contrast_that_cannot_be_tested_still_counts():
    adjusted = holm([0.02, math.nan])
    assert adjusted[0] == pytest.approx(0.04)
    assert math.isnan(adjusted[1])


def test_probability_of_improvement_is_that_of_all_pairs(random):
    for _ in range(50):
        first, second = (random.integers(0, 4, size=random.integers(1, 8)) for _ in range(2))
        pairs = list(itertools.product(first, second))
        share = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
        found, low, high = improvement(first, second)
        assert found == pytest.approx(share)
        assert 0 <= low <= found <= high <= 1


def test_its_interval_covers_and_has_a_width_at_the_end(random):
    true = stats.norm.cdf(0.5 / math.sqrt(2))
    trials = [improvement(random.normal(0.5, 1, 5), random.normal(0, 1, 5)) for _ in range(800)]
    covered = np.mean([low <= true <= high for _, low, high in trials])
    assert covered >= 0.92
    share, low, high = improvement([3, 4, 5], [0, 1, 2])
    assert (share, high) == (1, pytest.approx(1))
    assert low < 0.65


def test_the_chance_of_a_small_difference_is_the_area_of_its_posterior():
    found = welch([0.1, 0.3, 0.2, 0.25], [0.2, 0.15, 0.1, 0.3])
    wanted = stats.t(found.freedom, found.delta, found.error)
    assert within_margin(found, 0.05) == pytest.approx(wanted.cdf(0.05) - wanted.cdf(-0.05))


def test_permutation_is_that_of_scipy_where_it_is_exact(random):
    for sizes in ((3, 3), (5, 4)):
        first, second = (random.normal(size=n) for n in sizes)
        theirs = stats.permutation_test(
            (first, second),
            lambda a, b: abs(a.mean() - b.mean()),
            n_resamples=np.inf,
            alternative="greater",
        )
        assert permutation_p(first, second) == pytest.approx(theirs.pvalue)


def test_permutation_of_many_seeds_is_close_and_never_zero(random):
    first, second = random.normal(size=20), random.normal(1, 1, size=20)
    assert 0 < permutation_p(first, second) < 0.05
    assert permutation_p(first, first) == 1


def test_a_detectable_difference_is_found_in_four_of_five_experiments(random):
    deviations, seeds = (1.0, 2.0), (4, 6)
    shift = detectable(deviations, seeds, alpha=0.05)
    first = random.normal(shift, deviations[0], size=(20_000, seeds[0]))
    second = random.normal(0, deviations[1], size=(20_000, seeds[1]))
    assert (welch(first, second).p < 0.05).mean() == pytest.approx(0.8, abs=0.03)


def test_seeds_needed_are_those_of_the_textbook():
    assert seeds_needed(1.0, (1.0, 1.0)) == 17  # d = 1, power 0.8, two-sided 0.05
    assert seeds_needed(0.5, (1.0, 1.0)) == 64
    assert seeds_needed(1e-3, (1.0, 1.0)) is None
    assert seeds_needed(1.0, (0.0, 0.0)) is None

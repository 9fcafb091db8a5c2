"""Fronts and what they enclose equal brute force; noise decides what is tied."""

import numpy as np
import pytest

from research_eval.analysis.fronts import clearly_dominated, hypervolume, non_dominated


def clouds():
    """Clouds of points, some of them on a coarse grid so that there are ties and copies."""
    generator = np.random.default_rng(0)
    for size in (1, 2, 5, 40):
        yield generator.random((size, 2))
        yield generator.integers(0, 4, (size, 2)).astype(float)


@pytest.mark.parametrize("costs", list(clouds()))
def test_the_front_is_what_comparing_all_pairs_finds(costs):
    def beaten(point):
        return any((o <= point).all() and (o < point).any() for o in costs)

    assert non_dominated(costs).tolist() == [not beaten(point) for point in costs]


@pytest.mark.parametrize("costs", list(clouds()))
def test_the_hypervolume_is_the_area_of_the_cells_below_the_front(costs):
    reference = np.array([0.9, 2.5])
    inside = costs[(costs < reference).all(axis=1)]
    edges = [np.unique(np.append(inside[:, k], reference[k])) for k in (0, 1)]
    area = sum(
        (right - left) * (top - low)
        for left, right in zip(edges[0], edges[0][1:], strict=False)
        for low, top in zip(edges[1], edges[1][1:], strict=False)
        if ((inside <= [left, low]).all(axis=1)).any()
    )
    assert hypervolume(costs, reference) == pytest.approx(area, abs=1e-12)


def test_the_hypervolume_agrees_with_throwing_darts():
    generator = np.random.default_rng(3)
    costs, darts = generator.random((30, 2)), generator.random((100_000, 2))
    hit = (costs[:, None] <= darts[None]).all(axis=2).any(axis=0).mean()
    assert hypervolume(costs, np.ones(2)) == pytest.approx(hit, abs=0.005)


def dominated(costs, variances, freedom=4.0):
    costs, variances = np.array(costs), np.array(variances)
    return clearly_dominated(costs, variances, np.full(costs.shape, freedom)).tolist()


def test_without_noise_clearly_dominated_is_dominated():
    for costs in clouds():
        clear = dominated(costs, np.zeros_like(costs))
        assert clear == (~non_dominated(costs)).tolist()


def test_a_difference_within_noise_does_not_dominate():
    # Equal parameters, loss 1.0 against 1.1: clear with a standard error of 0.01, not of 0.1.
    costs = [[5.0, 1.0], [5.0, 1.1]]
    assert dominated(costs, [[0, 0.01**2]] * 2) == [False, True]
    assert dominated(costs, [[0, 0.1**2]] * 2) == [False, False]


def test_noise_in_either_quantity_can_tie():
    costs = [[5.0, 1.0], [5.1, 2.0]]
    assert dominated(costs, [[0.2**2, 0], [0.2**2, 0]]) == [False, False]
    assert dominated(costs, [[0.01**2, 0], [0.01**2, 0]]) == [False, True]


def test_the_interval_of_a_difference_is_welchs():
    from scipy.stats import ttest_ind

    generator = np.random.default_rng(4)
    for _ in range(50):
        one, other = generator.normal(0, 1, 4), generator.normal(1.5, 2, 7)
        costs = np.array([[1.0, one.mean()], [1.0, other.mean()]])
        variances = np.array([[0, one.var(ddof=1) / 4], [0, other.var(ddof=1) / 7]])
        freedom = np.array([[1, 3], [1, 6]], dtype=float)
        low = ttest_ind(other, one, equal_var=False).confidence_interval().low
        assert clearly_dominated(costs, variances, freedom)[1] == (low >= 0)

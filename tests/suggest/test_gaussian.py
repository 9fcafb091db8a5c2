"""The Gaussian process and the improvement that it expects."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from research_eval.suggest.gaussian import GaussianProcess, log_expected_improvement


def process(n=30, noise=None, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 4))
    y = np.sin(4 * x[:, 0]) + x[:, 1] ** 2
    y = (y - y.mean()) / y.std()
    return (
        GaussianProcess(x, y, np.ones(n) if noise is None else noise, np.array([0, 1, 2, 2])),
        x,
        y,
    )


def test_the_slope_of_the_posterior_is_that_of_its_value():
    gp, _, _ = process()
    at = np.random.default_rng(1).normal(0, 0.3, len(gp.parameters))
    step = 1e-5
    numeric = [
        (gp._loss(at + step * each)[0] - gp._loss(at - step * each)[0]) / (2 * step)
        for each in np.eye(len(at))
    ]
    assert gp._loss(at)[1] == pytest.approx(np.array(numeric), rel=1e-5, abs=1e-6)


def test_it_predicts_what_it_has_not_seen_and_knows_how_well():
    gp, x, y = process(60)
    new = np.random.default_rng(2).random((200, 4))
    truth = np.sin(4 * new[:, 0]) + new[:, 1] ** 2
    mean, sd = gp.predict(new)
    assert np.corrcoef(mean, truth)[0, 1] > 0.99
    assert gp.predict(x)[0] == pytest.approx(y, abs=0.1)
    far = gp.predict(np.full((1, 4), 5.0))[1]
    assert far > 3 * np.median(sd)


def test_what_does_not_matter_gets_a_long_scale():
    gp, _, _ = process(60)
    assert gp.parameters[2] > gp.parameters[0] + 1


def test_more_runs_of_a_point_count_for_more():
    x = np.array([[0.5], [0.5]])
    y = np.array([1.0, -1.0])
    mean = GaussianProcess(x, y, np.array([0.01, 1.0]), np.array([0])).predict(x[:1])[0]
    assert mean > 0


def test_a_belief_moves_no_mean_and_removes_doubt():
    gp, _, _ = process()
    there = np.full((1, 4), 0.9)
    before, doubt = gp.predict(there)
    gp.believe(there[0])
    after, less = gp.predict(there)
    assert after == pytest.approx(before, abs=1e-3)
    assert less < doubt


@pytest.mark.parametrize("z", [-6.0, -1.5, -1.0, -0.99, 0.0, 2.0])
def test_expected_improvement_is_the_integral_that_it_stands_for(z):
    expected, _ = integrate.quad(lambda t: (z - t) * stats.norm.pdf(t), -40, z, epsabs=0)
    found = log_expected_improvement(np.array([0.0]), np.array([1.0]), z)[0]
    assert found == pytest.approx(math.log(expected), rel=1e-6)


def test_it_still_tells_the_hopeless_apart():
    found = log_expected_improvement(np.array([30.0, 40.0, 1e8]), np.ones(3), 0.0)
    assert np.isfinite(found).all()
    assert (np.diff(found) < 0).all()
    assert found[0] == pytest.approx(
        -450 - math.log(math.sqrt(2 * math.pi)) - 2 * math.log(30), rel=1e-4
    )

"""Two identical architectures under different names: neither is favoured."""

import random

import pytest
from scipy.stats import binomtest

from research_eval.hpo import StudySpec
from research_eval.hpo.book import Book
from research_eval.hpo.deal import Deal
from research_eval.hpo.functions import Functions
from research_eval.knobs import Uniform
from research_eval.records import RunStatus
from research_eval.testing.runs import ended_run

SPACE = {name: Uniform(0.0, 1.0) for name in "xyz"}


def winner(seed, share, advantage=0.0):
    """Carry out a study of noisy scores on paper, and return the arm with the best one.

    The arms are identical but for the advantage of `a`.
    """
    noise = random.Random(seed)
    spec = StudySpec(
        n_trials=16, arms=("a", "b"), objectives=("value:min",), seed=seed, share_budget=share
    )
    problem = Functions(spec, lambda _: 0.0, SPACE)
    book = Book(spec)
    deal = Deal(spec, problem, book)
    for number in range(16):
        candidate = deal.next(number)
        entry = book.add(number, candidate)
        score = sum((value - 0.4) ** 2 for value in candidate.params.values())
        score -= advantage * (candidate.arm == "a")
        metrics = {"value": score + noise.gauss(0, 0.1)}
        entry.runs[0] = ended_run(f"run-{number}", RunStatus.COMPLETED, metrics, seed=0)
        deal.learn(book.settle(number))
    best = book.best()
    return min(best, key=lambda arm: best[arm].values[0])


def is_fair(studies, share):
    """Return whether the wins of one arm may be those of a fair coin, at a level of 0.001."""
    wins = sum(winner(seed, share) == "a" for seed in range(studies))
    return binomtest(wins, studies, 0.5).pvalue > 0.001


@pytest.mark.parametrize("share", [False, True], ids=["arms", "one budget"])
def test_each_of_two_identical_arms_wins_about_half(share):
    assert is_fair(40, share)


@pytest.mark.slow
@pytest.mark.parametrize("share", [False, True], ids=["arms", "one budget"])
def test_each_of_two_identical_arms_wins_about_half_of_200_studies(share):
    assert is_fair(200, share)


@pytest.mark.parametrize("share", [False, True], ids=["arms", "one budget"])
def test_an_arm_that_is_better_is_found(share):
    """The same count of wins is far from half where one arm has an advantage."""
    wins = sum(winner(seed, share, advantage=0.5) == "a" for seed in range(12))
    assert wins == 12

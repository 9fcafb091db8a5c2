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


def winner(seed, share):
    """Carry out a study of noisy scores on paper, and return the arm with the best one."""
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
        metrics = {"value": score + noise.gauss(0, 0.1)}
        entry.runs[0] = ended_run(f"run-{number}", RunStatus.COMPLETED, metrics, seed=0)
        deal.learn(book.settle(number))
    best = book.best()
    return min(best, key=lambda arm: best[arm].values[0])


def is_fair(studies, share):
    wins = sum(winner(seed, share) == "a" for seed in range(studies))
    return binomtest(wins, studies).pvalue > 0.001


def test_each_of_two_identical_arms_wins_about_half():
    assert is_fair(40, share=False)


@pytest.mark.slow
def test_each_of_two_identical_arms_wins_about_half_of_200_studies():
    assert is_fair(200, share=False)

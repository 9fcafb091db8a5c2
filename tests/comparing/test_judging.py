"""The decision, on simulated studies: trials that select, fresh seeds that confirm, one verdict."""

import json
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from research_eval.analysis.evidence import Evidence
from research_eval.analysis.question import Request
from research_eval.comparing import judging
from research_eval.comparing.enough import fewest, shortfalls, smallest_p
from research_eval.hpo.book import Book
from research_eval.hpo.spec import StudySpec
from research_eval.records import RunStatus
from research_eval.testing.runs import ended_run

METRIC = "final_val_f1"
ARMS = ("mine", "moe")
NOISE = 0.01
"""Standard deviation between seeds of one configuration."""

SPREADS = (0.0, 0.01, 0.04)
"""Standard deviation of the true scores of configurations: none, as much as seeds, far more."""


class Laboratory:
    """Comparisons of two arms whose true scores and noise are known.

    Args:
        spread: Of the true scores of the configurations that a search draws.
        gain: By how much those of the candidate are better.
    """

    def __init__(self, spread, gain=0.0, trials=10, seeds=5):
        self.spread, self.gain = spread, gain
        self.spec = StudySpec(
            name="s", n_trials=2 * trials, arms=ARMS, objectives=(METRIC,), confirm=seeds
        )
        self.searched = [
            self.blank(number, ARMS[number % 2], 0, "search") for number in range(2 * trials)
        ]

    @staticmethod
    def blank(trial, arm, seed, phase):
        config = {"model_type": "moe", "origin": {"kind": "study", "arm": arm}}
        return ended_run(
            f"{phase} {trial} {seed}",
            RunStatus.COMPLETED,
            {},
            model_type="moe",
            full_config_json=json.dumps(config),
            config_hash=f"{arm} {trial}",
            study="s",
            trial=trial,
            seed=seed,
            phase=phase,
        )

    def evidence(self, random):
        """Return the runs of one comparison, which the study's own book has selected from."""
        true = {
            run.trial: 0.8 + random.normal(0, self.spread) + self.gain * (run.arm == "mine")
            for run in self.searched
        }
        runs = [self.scored(run, true, random) for run in self.searched]
        book = Book(self.spec)
        book.read(runs)
        for winner in book.best().values():
            for seed in range(1, 1 + self.spec.confirm):
                fresh = self.blank(winner.number, winner.arm, seed, "confirm")
                runs.append(self.scored(fresh, true, random))
        request = Request(candidate="mine", baselines=("moe",), goal=METRIC)
        by_id = {run.experiment_id: run for run in runs}
        return Evidence("data", request.question(runs), by_id, (), (), None, Path())

    @staticmethod
    def scored(run, true, random):
        value = true[run.trial] + random.normal(0, NOISE)
        return replace(run, metrics=ended_run("x", run.status, {METRIC: value}).metrics)


@cache
def judged(spread, repeats, gain=0.0):
    """Return evidence and table of so many comparisons, one contrast each."""
    laboratory, random = Laboratory(spread, gain), np.random.default_rng(1)
    found = [laboratory.evidence(random) for _ in range(repeats)]
    return [(evidence, judging.frame(evidence)) for evidence in found]


def verdicts(*asked):
    return [table["verdict"].item() for _, table in judged(*asked)]


@pytest.mark.parametrize(
    ("spread", "repeats"),
    [
        (SPREADS[1], 100),
        (SPREADS[2], 100),
        *(pytest.param(spread, 1000, marks=pytest.mark.slow) for spread in SPREADS),
    ],
)
def test_of_a_router_that_is_topk_under_another_name_no_difference_is_shown(spread, repeats):
    found = verdicts(spread, repeats)
    assert set(found) <= {"open", "better", "worse"}
    assert found.count("open") >= 0.94 * repeats


def test_seeds_alone_would_take_the_luck_of_the_search_for_a_difference():
    """Else the test above would be one of the noise between seeds, and easy to pass."""
    differ = [each for each in judged(SPREADS[-1], 100) if each[1]["p_holm_seeds"].item() <= 0.05]
    assert len(differ) > 50
    evidence, table = next(each for each in differ if each[1]["verdict"].item() == "open")
    (told,) = judging.sentences(table, evidence)
    assert told.startswith("No difference between mine and moe shown: ")
    assert "the luck of the search can explain that" in told


def test_an_idea_that_is_truly_better_is_found():
    found = verdicts(0.01, 30, 0.04)
    assert found.count("better") >= 27
    assert "worse" not in found


def test_the_luck_of_a_search_is_the_share_of_deals_that_set_the_best_as_far_apart():
    random = np.random.default_rng(3)
    for _ in range(20):
        first, second = random.normal(size=4).round(1), random.normal(size=5).round(1)
        pool = np.concatenate([first, second])
        observed = abs(first.max() - second.max())
        deals = [np.isin(np.arange(9), chosen) for chosen in combinations(range(9), 4)]
        gaps = np.array([abs(pool[deal].max() - pool[~deal].max()) for deal in deals])
        assert judging.luck(first, second) == pytest.approx((gaps >= observed).mean())


def test_trials_without_a_score_are_the_worst_and_equal_bests_show_nothing():
    assert judging.luck([1.0, 0.5], [1.0, 0.2]) == 1
    assert judging.luck([-np.inf] * 3, [-np.inf] * 3) == 1
    assert judging.luck([0.9, 0.8, 0.7], [-np.inf] * 3) == smallest_p(3)


def test_how_many_trials_and_seeds_can_show_anything_is_known_before():
    assert [fewest(contrasts) for contrasts in (1, 2, 6, 7)] == [4, 5, 5, 6]
    assert shortfalls(trials=5, seeds=5, contrasts=2) == []
    trials, seeds = shortfalls(trials=4, seeds=3, contrasts=2)
    assert trials.startswith("4 trials of each arm cannot show a difference")
    assert "p 0.029 at least, 0.057 after Holm for 2 contrasts; 5 trials" in trials
    assert "p 0.1 at least, 0.2 after Holm for 2 contrasts; 5 seeds do without" in seeds


@pytest.mark.parametrize(
    ("margin", "gain", "claim"),
    [
        (None, 0.2, "mine is better than moe: mine "),
        (None, -0.2, "mine is worse than moe: mine 0."),
        (0.1, 0.0, "mine and moe are equivalent within 10 points: mine 0."),
        (None, 0.0, "No difference between mine and moe shown: mine 0."),
    ],
)
def test_each_outcome_has_its_words(margin, gain, claim):
    evidence = Laboratory(0.0, gain=gain).evidence(np.random.default_rng(5))
    asked = replace(evidence, question=replace(evidence.question, margin=margin))
    (told,) = judging.sentences(judging.frame(asked), asked)
    assert told.startswith(claim)
    assert " ± " in told.partition(";")[0]
    assert " points [" in told
    assert ", p_Holm " in told

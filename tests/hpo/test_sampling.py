"""A study that is continued proposes what it would have proposed without the break."""

import pytest

from research_eval.hpo import SAMPLERS
from research_eval.knobs import Choice, Uniform

from .conftest import SPACE, bowl, tried

GRID = {"a": Choice(1, 2, 4, 8), "b": Choice("x", "y"), "c": Uniform(1, 3)}


def simple(trial):
    return trial.params["a"] + trial.params["c"]


@pytest.mark.parametrize("share", [False, True], ids=["arms", "one budget"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_seven_trials_and_seven_more_are_fourteen_in_one_go(search, sampler, share):
    objective, space = (simple, GRID) if sampler == "grid" else (bowl, SPACE)
    more = {"arms": ("one", "two"), "share_budget": share, "space": space, "sampler": sampler}
    whole = search(objective, n_trials=14, name="whole", **more)
    search(objective, n_trials=7, name="parts", **more)
    parts = search(objective, n_trials=14, name="parts", **more)
    assert tried(parts) == tried(whole)
    assert [trial.values for trial in parts.trials] == [trial.values for trial in whole.trials]


def test_a_sampler_learns_from_what_is_recorded(search):
    """With 28 trials TPE does better in one arm than chance, also across two breaks."""
    for total in (10, 20, 28):
        found = search(n_trials=total, sampler="tpe")
    by_chance = search(n_trials=28, sampler="random", name="chance")

    def late(result):
        return sum(trial.values[0] for trial in result.trials[14:])

    assert late(found) < 0.7 * late(by_chance)


def test_another_seed_is_another_study(search):
    assert tried(search(seed=1, name="one")) != tried(search(seed=2, name="two"))


def test_arms_take_turns_and_get_equal_shares(search):
    result = search(n_trials=11, arms=("a", "b", "c"))
    assert [trial.arm for trial in result.trials] == list("abcabcabcab")


def test_an_arm_that_was_ahead_waits_for_the_others(search):
    search(n_trials=4, arms=("a", "b"))
    result = search(n_trials=9, arms=("a", "b", "c"))
    assert sorted(trial.arm for trial in result.trials) == list("aaabbbccc")


@pytest.mark.parametrize("sampler", ["random", "tpe", "grid"])
def test_nothing_is_tried_twice_and_an_exhausted_space_is_said(search, sampler):
    result = search(simple, GRID, n_trials=40, sampler=sampler)
    assert len(set(tried(result))) == len(result.trials)
    if sampler == "grid":
        assert len(result.trials) == 24
    assert len(result.trials) <= 24
    assert "exhausted" in result.closed["objective"]


def test_auto_is_a_grid_where_everything_can_be_tried(search):
    result = search(simple, GRID, n_trials=24)
    assert len(set(tried(result))) == 24


def test_sampled_values_lie_in_their_ranges_and_have_their_types(search):
    for trial in search(n_trials=30, sampler="random").trials:
        for name, value in trial.params.items():
            assert SPACE[name].contains(value)
        assert isinstance(trial.params["layers"], int)
        assert isinstance(trial.params["x"], float)

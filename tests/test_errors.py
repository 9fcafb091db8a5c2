"""What every error owes to a user, to the command line, and to another process."""

import pickle

import pytest

from research_eval.errors import (
    ConfigError,
    DataError,
    DivergedError,
    FilterError,
    IncompleteError,
    Issue,
    PluginError,
    ResearchEvalError,
    RunError,
    StoppedError,
    StoreError,
    did_you_mean,
    require_known,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (PluginError("x"), 2),
        (FilterError("x", "y", 0), 2),
        (DataError("x"), 3),
        (StoreError("x"), 4),
        (RunError("x"), 5),
        (DivergedError(3), 5),
        (IncompleteError("x"), 6),
        (StoppedError(2, 7), 130),
        (StoppedError(15, 7), 143),
    ],
)
def test_exit_codes_are_the_documented_ones(error, code):
    assert isinstance(error, ResearchEvalError)
    assert error.exit_code == code


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("a.json is not legal", [Issue("epochs", "is missing"), Issue("", "no")]),
        PluginError("there is no plug-in file x.py"),
        FilterError("write '=='", "seed = 3", 5),
        DivergedError(12),
        StoppedError(15, 7),
    ],
)
def test_an_error_survives_the_way_from_a_worker(error):
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)


def test_a_configuration_error_is_one_line_with_every_issue():
    error = ConfigError("a.json is not legal", [Issue("epochs", "is missing"), Issue("", "no")])
    assert str(error) == "a.json is not legal; epochs: is missing; no"
    assert str(ConfigError("there is no file a.json")) == "there is no file a.json"


@pytest.mark.parametrize(
    ("name", "known", "sentence"),
    [
        ("topk_mo", ["moe", "topk_moe"], "did you mean 'topk_moe'? known: moe, topk_moe"),
        ("MOE", ["dense", "moe"], "did you mean 'moe'? known: dense, moe"),
        ("xyz", ["moe", "dense"], "known: dense, moe"),
        ("xyz", [], "known: none"),
    ],
)
def test_a_wrong_name_is_pointed_to_the_right_ones(name, known, sentence):
    assert did_you_mean(name, known) == sentence


def test_a_name_that_no_run_has_is_pointed_to_those_that_runs_have():
    require_known("study", ["a"], ["a", None, ""])
    for name in ("aa", "", None):
        with pytest.raises(ConfigError, match=f"no run has the study '{name}'.*known: a$"):
            require_known("study", [name], ["a", None, ""])

"""Small studies of functions, which cost nothing, and what became of their trials."""

import json

import pytest

from research_eval.hpo import NobodyListens, optimize
from research_eval.knobs import Choice, LogUniform, Uniform
from research_eval.store import Store

SPACE = {
    "x": Uniform(-1.0, 1.0),
    "lr": LogUniform(1e-4, 1e-1),
    "layers": Uniform(1, 4),
    "width": Choice(32, 64, 128),
    "norm": Choice("pre", "post"),
}


def bowl(trial):
    """Return something with a best point."""
    params = trial.params
    return (params["x"] - 0.3) ** 2 + abs(params["layers"] - 2) + (params["norm"] == "post")


class Told(NobodyListens):
    """An audience that remembers."""

    def __init__(self):
        self.lines = []
        self.states = []

    def say(self, line):
        self.lines.append(line)

    def ended(self, trial, standing):
        self.states.append((trial.number, str(trial.state)))
        assert standing.finished == sum(standing.counts.values()) - standing.counts.get(
            "RUNNING", 0
        )


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def search(told):
    """Carry out a study in this process and this folder."""

    def carry_out(objective=bowl, space=SPACE, n_trials=8, **asked):
        return optimize(
            objective=objective, space=space, n_trials=n_trials, db="s.db", audience=told, **asked
        )

    return carry_out


def tried(result):
    """Return arm and parameters of all trials in their order."""
    return [(trial.arm, json.dumps(trial.params, sort_keys=True)) for trial in result.trials]


def states(result):
    return [str(trial.state) for trial in result.trials]


def recorded(study="research_eval_study", db="s.db"):
    with Store.open(db) as store:
        return store.study_runs(study)

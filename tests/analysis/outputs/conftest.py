"""Studies in the laboratory, and pictures that are really drawn."""

import json

import pytest

from research_eval.analysis import style

LR = {"optimizer_params.lr": {"kind": "LogUniform", "low": 1e-4, "high": 1e-2}}


@pytest.fixture
def study(lab):
    """Return a function that records a study: a trial for each score, one second each."""

    def record(name, sampler, scores, *, spaces=LR, **asked):
        arms = dict.fromkeys(scores, spaces)
        told = {"asked": {"sampler": sampler, **asked}, "spaces": arms}
        lab.store.save_study(name, json.dumps(told))
        number = 0
        for arm, values in scores.items():
            for value in values:
                lr = {"optimizer_params": {"lr": 10 ** -(4 - number % 20 / 10)}}
                where = {"study": name, "trial": number, "phase": "search", "config": lr}
                if isinstance(value, str):
                    lab.run(arm, None, status=value, **where)
                else:
                    lab.run(arm, value, metrics={"total_training_time_seconds": 1.0}, **where)
                number += 1

    return record


@pytest.fixture
def drawn():
    """Return a function that draws a table and returns the figure, after rendering it."""

    def draw(output, frame, evidence):
        with style.house():
            figure = output.draw(frame, evidence)
            assert style.to_png(figure).startswith(b"\x89PNG")
        return figure

    return draw

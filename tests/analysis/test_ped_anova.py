"""The importance of a parameter, against Optuna's evaluator."""

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator

from research_eval.analysis.ped_anova import best_trials, divergence, grid_places

OPTIONS = ("pre", "post", "none")


def trials(number, seed):
    """Return values of five parameters, and a score that all but `dropout` decide."""
    generator = np.random.default_rng(seed)
    lr = 10 ** generator.uniform(-4, -1, number)
    dropout = generator.uniform(0, 0.5, number)
    layers = generator.integers(1, 7, number)
    norm = generator.integers(0, 3, number)
    heads = generator.integers(1, 5, number)
    lr[:2], dropout[:2], layers[:2] = (1e-4, 1e-1), (0, 0.5), (1, 6)  # the whole span is tried
    heads[:2] = 1, 4
    score = (
        -9 * (heads != 2) - ((np.log10(lr) + 2.5) ** 2) - 0.2 * abs(layers - 3) - 0.3 * (norm == 1)
    )
    return {"lr": lr, "dropout": dropout, "layers": layers, "norm": norm, "heads": heads}, score


def optunas(values, score, quantile):
    known = {
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "dropout": FloatDistribution(0, 0.5),
        "layers": IntDistribution(1, 6),
        "norm": CategoricalDistribution(OPTIONS),
        "heads": IntDistribution(1, 4),
    }
    study = optuna.create_study(direction="maximize")
    for place, value in enumerate(score):
        params = {name: column[place].item() for name, column in values.items()}
        params["norm"] = OPTIONS[params["norm"]]
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=known, value=float(value))
        )
    found = PedAnovaImportanceEvaluator(target_quantile=quantile).evaluate(study)
    # Optuna scales by the squared share of the best; what is reported are shares of the sum.
    count = np.count_nonzero(best_trials(score[None], quantile))
    return {name: value * (len(score) / count) ** 2 for name, value in found.items()}


def ours(values, score, quantile):
    best = best_trials(score[None], quantile)
    found = {}
    for name, column in values.items():
        if name == "norm":
            places, size = column, len(OPTIONS)
        else:
            places, size = grid_places(np.log(column) if name == "lr" else column.astype(float))
        found[name] = divergence(places[None], best, size, is_ordered=name != "norm").item()
    return found


@pytest.mark.parametrize(("number", "quantile"), [(20, 0.25), (60, 0.1), (300, 0.1)])
def test_it_equals_optunas_evaluator(number, quantile):
    values, score = trials(number, seed=number)
    assert ours(values, score, quantile) == pytest.approx(
        optunas(values, score, quantile), rel=1e-9
    )


def test_what_decides_matters_more_than_what_does_not():
    found = ours(*trials(300, seed=1), 0.1)
    assert found["lr"] > 5 * found["dropout"]


def test_samples_are_independent_of_each_other():
    values, score = trials(50, seed=2)
    places, size = grid_places(np.log(values["lr"]))
    chosen = np.random.default_rng(0).integers(0, 50, (3, 50))
    best = best_trials(score[chosen], 0.2)
    together = divergence(places[chosen], best, size, is_ordered=True)
    alone = [
        divergence(places[c][None], b[None], size, is_ordered=True).item()
        for c, b in zip(chosen, best, strict=True)
    ]
    assert together.tolist() == pytest.approx(alone)


def test_trials_that_equal_the_last_of_the_best_are_among_them():
    assert best_trials(np.array([[1.0, 3.0, 3.0, 2.0]]), 0.25).tolist() == [
        [False, True, True, False]
    ]

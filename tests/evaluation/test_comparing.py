"""What a control costs, and how sure that is."""

import numpy as np
import pandas as pd
import pytest

from research_eval.evaluation.comparing import Cost, f1_cost, loss_cost, verdict

LABELS = ["a", "b", "c"]


def table(labels, predictions, losses=None, targets=None):
    rows = len(labels)
    return pd.DataFrame(
        {
            "label": pd.Categorical.from_codes(labels, LABELS),
            "prediction": pd.Categorical.from_codes(predictions, LABELS),
            "loss": np.ones(rows) if losses is None else losses,
            "targets": np.ones(rows, dtype=int) if targets is None else targets,
        }
    )


def macro_f1(labels, predictions):
    scores = []
    for label in range(len(LABELS)):
        hits = ((labels == label) & (predictions == label)).sum()
        scores.append(2 * hits / max(1, (labels == label).sum() + (predictions == label).sum()))
    return np.mean(scores)


def wrong_at(labels, share, generator):
    is_wrong = generator.random(len(labels)) < share
    return np.where(is_wrong, (labels + 1) % len(LABELS), labels)


def test_the_bootstrap_is_that_of_whole_rows():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 200)
    learned, control = wrong_at(labels, 0.1, generator), wrong_at(labels, 0.3, generator)
    found = f1_cost(table(labels, learned), table(labels, control))
    assert found.value == pytest.approx(macro_f1(labels, learned) - macro_f1(labels, control))
    drawn = []
    for _ in range(2000):
        rows = generator.integers(0, 200, 200)
        drawn.append(macro_f1(labels[rows], learned[rows]) - macro_f1(labels[rows], control[rows]))
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.012)
    assert found.low > 0


def test_pairing_sees_what_two_separate_intervals_would_not():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 400)
    learned = wrong_at(labels, 0.4, generator)
    control = learned.copy()
    control[:12] = (labels[:12] + 1) % 3  # worse in a few rows, the same in all others
    assert f1_cost(table(labels, learned), table(labels, control)).low > 0


def test_the_same_predictions_cost_nothing_for_certain():
    labels = np.arange(30) % 3
    same = table(labels, (labels + 1) % 3)
    assert f1_cost(same, same) == Cost("f1", 0.0, 0.0, 0.0)
    assert loss_cost(same, same) == Cost("loss", 0.0, 0.0, 0.0)


def test_with_equal_rows_the_loss_interval_is_that_of_a_mean():
    generator = np.random.default_rng(1)
    labels = np.zeros(50, dtype=int)
    before, after = generator.normal(1, 0.1, 50), generator.normal(1.2, 0.1, 50)
    found = loss_cost(table(labels, labels, before), table(labels, labels, after))
    apart = after - before
    half = 1.96 * apart.std(ddof=1) / np.sqrt(50)
    assert [found.value, found.low, found.high] == pytest.approx(
        [apart.mean(), apart.mean() - half, apart.mean() + half], rel=1e-3
    )


def test_long_rows_weigh_more_and_empty_ones_nothing():
    labels = np.zeros(3, dtype=int)
    before = table(labels, labels, np.array([1.0, 1.0, np.nan]), np.array([30, 10, 0]))
    after = table(labels, labels, np.array([2.0, 5.0, np.nan]), np.array([30, 10, 0]))
    assert loss_cost(before, after).value == pytest.approx((30 * 1 + 10 * 4) / 40)


SHOWN, NOT_SHOWN = Cost("f1", 0.2, 0.1, 0.3), Cost("f1", 0.001, -0.003, 0.005)
LOSS, NO_LOSS = Cost("loss", 0.5, 0.4, 0.6), Cost("loss", 0.0, -1.0, 1.0)
HARM = Cost("loss", -0.2, -0.3, -0.1)


@pytest.mark.parametrize(
    ("costs", "finding", "meaning"),
    [
        ([SHOWN], "costs 0.2 F1 (0.1 to 0.3)", "matters"),
        ([SHOWN, LOSS], "costs 0.2 F1 (0.1 to 0.3)", "matters"),
        (
            [NOT_SHOWN, NO_LOSS],
            "shows no change in F1 (0.001, -0.003 to 0.005)",
            "is not what makes this model good",
        ),
        (
            [NOT_SHOWN, LOSS],
            "shows no change in F1 (0.001, -0.003 to 0.005), "
            "but costs 0.5 nats of loss (0.4 to 0.6)",
            "matters little",
        ),
        ([HARM], "gains 0.2 nats of loss (0.1 to 0.3)", "does harm here"),
    ],
)
def test_the_verdict_says_no_more_than_the_interval(costs, finding, meaning):
    expected = f"random routing {finding}; 95 % intervals over 1,000 rows: it {meaning}"
    assert verdict(costs, "random", "it", 1000) == expected

"""Curves in buckets: nothing lost but detail, and only what is new when asked again."""

import math
from itertools import pairwise

import numpy as np
import pytest

from research_eval.errors import StoreError
from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.testing.runs import new_run

HUGE, TINY = 1.7e308, 5e-324


@pytest.fixture
def store(database_url):
    with Store.open(database_url, create=True) as opened:
        yield opened


def logged(store, points, run="r"):
    """Record (step, value) points of the metric `m`."""
    made = store.start(new_run(run))
    for step, value in points:
        made.log({"m": value}, step=step)
    made.flush()
    return made


def expected(points):
    """Return a bucket of points as a series shows it."""
    finite = [value for _, value in points if math.isfinite(value)]
    steps = [step for step, _ in points]
    mean = math.fsum(value / len(finite) for value in finite) if finite else math.nan
    extremes = (min(finite), max(finite)) if finite else (math.nan, math.nan)
    return (min(steps), max(steps), *extremes, mean, len(points), len(points) - len(finite))


def rows(series):
    names = ("first_steps", "last_steps", "minimum", "maximum", "mean", "counts", "nonfinite")
    return list(zip(*(getattr(series, name).tolist() for name in names), strict=True))


def check(series, points, max_points):
    """Compare every bucket with the points between its steps."""
    found = rows(series)
    assert 2 <= len(found) <= max_points
    assert sum(row[5] for row in found) == len(points)
    for row in found:
        inside = [(step, value) for step, value in points if row[0] <= step <= row[1]]
        wanted = expected(inside)
        np.testing.assert_array_equal(row[:4] + row[5:], wanted[:4] + wanted[5:])
        rounding = 1e-12 * np.abs(row[2:4]).max()  # large values of both signs may cancel
        np.testing.assert_allclose(row[4], wanted[4], rtol=1e-12, atol=rounding)
    first, last = min(points)[0], max(points)[0]
    assert found[0][:2] == (first, first)
    assert found[-1][:2] == (last, last)
    assert all(one[1] < two[0] for one, two in pairwise(found))


@pytest.mark.parametrize(
    "steps",
    [
        range(3000),
        range(-1500, 1500),
        [2**i for i in range(63)] * 3,
        [-(2**63), *range(100), 2**63 - 1],
        [7] * 90 + [8] * 90,
        list(range(500, 0, -1)) + list(range(300)),
    ],
    ids=["even", "around zero", "growing", "extreme", "repeated", "backwards"],
)
def test_a_bucket_sums_up_its_points(store, steps):
    points = [(step, math.sin(index)) for index, step in enumerate(steps)]
    logged(store, points)
    for max_points in (10, 57):
        check(store.series("r", "m", max_points=max_points), points, max_points)


def test_values_that_are_no_numbers_are_counted_and_left_out(store):
    values = [math.nan, math.inf, -math.inf, 1.0, HUGE, HUGE, -HUGE, TINY, HUGE]
    points = [(step, values[step // 20 % 9]) for step in range(400)]
    logged(store, points)
    check(store.series("r", "m", max_points=20), points, 20)
    nothing = store.series("r", "m", max_points=400)
    assert rows(nothing)[0][:2] == (0, 0)
    assert [row[5] for row in rows(nothing)] == [1] * 400
    assert [row[6] for row in rows(nothing)[:80:20]] == [1, 1, 1, 0]


def test_few_points_come_as_they_are(store):
    logged(store, [(5, 0.1 + 0.2), (5, 1.0), (3, math.nan)])
    found = store.series("r", "m")
    assert not found.is_delta
    assert rows(found)[1:] == [(5, 5, 0.1 + 0.2, 0.1 + 0.2, 0.1 + 0.2, 1, 0), (5, 5, 1, 1, 1, 1, 0)]
    assert found.nonfinite[0] == 1


def test_a_cursor_asks_for_what_is_new_and_only_that(store):
    made = logged(store, [(step, float(step)) for step in range(100)])
    made.log({"other": 1.0}, step=1000)
    seen = store.series("r", "m", max_points=10)
    made.flush()
    quiet = store.series("r", "m", since=seen.cursor)
    assert (rows(quiet), quiet.is_delta) == ([], True)
    for step, value in ((100, 1.0), (40, 2.0), (40, math.inf), (101, 3.0)):
        made.log({"m": value}, step=step)
    made.flush()
    fresh = store.series("r", "m", since=quiet.cursor)
    assert fresh.is_delta
    assert list(zip(fresh.first_steps.tolist(), fresh.mean.tolist(), strict=True))[::2] == [
        (40, 2.0),
        (100, 1.0),
    ]
    assert fresh.counts.sum() == 4
    for step in range(200, 300):
        made.log({"m": 0.5}, step=step)
    made.flush()
    many = store.series("r", "m", max_points=10, since=fresh.cursor)
    check(many, [(step, 0.5) for step in range(200, 300)], 10)
    assert rows(store.series("r", "m", since=many.cursor)) == []


def test_a_resumed_run_is_read_anew_without_what_was_superseded(store):
    made = logged(store, [(step, 1.0) for step in range(60)])
    seen = store.series("r", "m")
    made.finish(RunStatus.INTERRUPTED)
    again = store.resume("r", step=20)
    for step in range(21, 40):
        again.log({"m": 2.0}, step=step)
    again.flush()
    points = [(step, 1.0 if step <= 20 else 2.0) for step in range(40)]
    found = store.series("r", "m", since=seen.cursor)
    assert not found.is_delta
    check(found, points, 60)
    check(store.series("r", "m", max_points=12), points, 12)
    assert store.history("r", "m").steps.tolist() == list(range(40))
    again.log({"m": 3.0}, step=40)
    again.flush()
    assert rows(store.series("r", "m", since=found.cursor)) == [(40, 40, 3.0, 3.0, 3.0, 1, 0)]


def test_many_histories_at_once_are_those_of_each_run(store):
    for run in ("a", "b", "c"):
        made = logged(store, [(step, step * 0.5) for step in (3, 1, 2)] + [(4, math.nan)], run=run)
        made.finish(RunStatus.INTERRUPTED)
    store.resume("b", step=2).log({"m": -1.0}, step=3)
    store.close()
    with Store.open(store.path or store.url) as again:
        again.start(new_run("d")).finish(RunStatus.COMPLETED)
        found = again.histories("m", ["a", "b", "d", "nobody"])
        assert list(found) == ["a", "b"]
        for run, history in found.items():
            alone = again.history(run, "m")
            for name in ("steps", "values", "times"):
                np.testing.assert_array_equal(getattr(history, name), getattr(alone, name))
        assert again.histories("other", ["a"]) == {}


def test_what_cannot_be_read_is_said(store):
    logged(store, [(1, 1.0)])
    for asked, said in (
        ({"metric": "none"}, "run r has no metric 'none'"),
        ({"metric": "m", "max_points": 9}, "10 buckets or more"),
        ({"metric": "m", "since": "1.2"}, "'1.2' is no cursor"),
        ({"metric": "m", "since": "9" * 30 + ".1.1"}, "is no cursor"),
    ):
        with pytest.raises(StoreError, match=said):
            store.series("r", **asked)
    with pytest.raises(StoreError, match="there is no run x"):
        store.series("x", "m")

"""What pages ask of many runs: the same from SQLite and PostgreSQL."""

import math

import numpy as np
import pytest

from research_eval.errors import FilterError, StoreError
from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.store.browsing import Browser
from research_eval.testing.runs import new_run, record


@pytest.fixture
def store(database_url):
    with Store.open(database_url, create=True) as opened:
        yield opened


@pytest.fixture
def browser(store):
    return Browser(store)


def write(store, name, values, *, first=0, metric="loss", **changes):
    run = store.start(new_run(name, **changes))
    for step, value in enumerate(values, start=first):
        run.log({metric: value}, step=step)
    run.finish(RunStatus.COMPLETED)


def test_long_runs_share_one_grid_and_short_ones_keep_every_point(store, browser):
    write(store, "long", [float(step) for step in range(100)])
    write(store, "later", [1.0] * 90, first=7)
    write(store, "short", [5.0, 6.0], first=3)
    found = browser.curves("loss", ["short", "long", "later", "missing"], max_points=10)
    assert list(found) == ["short", "long", "later"]
    assert found["short"].steps.tolist() == [3, 4]
    assert found["short"].width == 0
    assert found["long"].steps.tolist() == list(range(0, 100, 10))
    assert set(found["later"].steps.tolist()) <= set(found["long"].steps.tolist())
    assert found["long"].mean.tolist() == [10.0 * place + 4.5 for place in range(10)]
    assert found["long"].minimum.tolist() == [10.0 * place for place in range(10)]
    assert found["later"].counts.tolist() == [3, *[10] * 8, 7]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1.7e308])
def test_one_value_that_is_no_score_spoils_no_bucket(store, browser, bad):
    values = [1.0] * 40
    values[20] = bad
    write(store, "run", values)
    curve = browser.curves("loss", ["run"], max_points=10)["run"]
    is_finite = math.isfinite(bad)
    assert curve.nonfinite.tolist() == [0, 0, 0, 0, 0, int(not is_finite), 0, 0, 0, 0]
    assert curve.mean[5] == pytest.approx((3 + bad) / 4 if is_finite else 1.0)
    others = np.delete(curve.mean, 5)
    assert others.tolist() == [1.0] * 9


def test_points_that_a_resume_superseded_are_out(store, browser):
    run = store.start(new_run("run"))
    for step in range(50):
        run.log({"loss": 100.0 if step > 20 else 1.0}, step=step)
    run.finish(RunStatus.INTERRUPTED)
    run = store.resume("run", step=20)
    for step in range(21, 50):
        run.log({"loss": 1.0}, step=step)
    run.finish(RunStatus.COMPLETED)
    curve = browser.curves("loss", ["run"], max_points=10)["run"]
    assert curve.maximum.max() == 1.0
    assert curve.counts.sum() == 50
    assert browser.later("loss", {"run": curve.cursor}) == {}


def test_a_part_of_the_steps_is_summed_up_more_finely(store, browser):
    write(store, "run", [float(step) for step in range(100)])
    part = browser.curves("loss", ["run"], max_points=10, steps=(40, 59))["run"]
    assert part.width == 2
    assert part.steps.tolist() == list(range(40, 60, 2))
    assert part.cursor == ""


def test_a_group_is_averaged_at_each_step_first(store, browser):
    write(store, "a", [1.0, 2.0, 3.0, 4.0])
    write(store, "b", [3.0, 4.0])
    write(store, "c", [math.nan, 7.0])
    found = browser.group_curves("loss", {"all": ["a", "b", "c"], "none": ["d"]}, max_points=2)
    assert list(found) == ["all"]
    curve = found["all"]
    assert curve.steps.tolist() == [0, 2]
    assert curve.mean == pytest.approx([(2 + 13 / 3) / 2, 3.5])
    assert curve.counts.tolist() == [3, 1]
    assert curve.nonfinite.tolist() == [1, 0]
    assert curve.minimum.tolist() == [1.0, 3.0]
    variances = [np.var([1, 3], ddof=1), np.var([2, 4, 7], ddof=1)]
    assert curve.deviation[0] == pytest.approx(math.sqrt(np.mean(variances)))
    assert math.isnan(curve.deviation[1])


def test_later_names_only_runs_with_news(store, browser):
    write(store, "done", [1.0, 2.0])
    run = store.start(new_run("live"))
    run.log({"loss": 1.0}, step=0)
    run.flush()
    cursors = {n: c.cursor for n, c in browser.curves("loss", ["done", "live"]).items()}
    assert browser.later("loss", cursors) == {}
    run.log({"loss": 0.5}, step=1)
    run.finish(RunStatus.COMPLETED)
    news = browser.later("loss", cursors)
    assert {name: found.mean.tolist() for name, found in news.items()} == {"live": [0.5]}
    with pytest.raises(StoreError, match="is no cursor"):
        browser.later("loss", {"live": "1; --"})


def test_counts_and_names(store, browser):
    record(store, "a", {"loss": 1.0}, seed=1, model_type="moe")
    record(store, "b", {"loss": 1.0, "f1": 0.5}, seed=2, model_type="dense")
    record(store, "gone", {"loss": 1.0}, seed=3)
    store.delete(["gone"])
    assert browser.count() == 2
    assert browser.count('seed > 1 and status == "COMPLETED"') == 1
    with pytest.raises(FilterError):
        browser.count("seed >")
    known = browser.vocabulary()
    assert known.arms == ["dense", "moe"]
    assert known.metrics["f1"] == 1
    assert known.curves == []


def test_the_state_changes_with_what_others_write(store, browser):
    before = browser.state()
    assert browser.state() == before
    record(store, "a", {"loss": 1.0})
    assert browser.state() != before


def test_arrays_of_experts_by_step_and_layer(store, browser):
    run = store.start(new_run("run"))
    for step in (10, 20):
        for layer in (0, 2):
            run.log_array("load_share", np.array([step, layer], float), layer=layer, step=step)
    run.finish(RunStatus.COMPLETED)
    (found,) = browser.expert_arrays("run").values()
    assert (found.layers, found.steps, found.shape) == ((0, 2), (10, 20), (2,))
    arrays = browser.expert_array("run", "load_share", [20, 99])
    assert {s: {n: v.tolist() for n, v in layers.items()} for s, layers in arrays.items()} == {
        20: {0: [20.0, 0.0], 2: [20.0, 2.0]}
    }

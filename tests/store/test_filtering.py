"""Runs by a filter: the same as plain Python finds, on SQLite and on PostgreSQL."""

import math
import operator
from datetime import UTC, datetime
from functools import partial
from itertools import chain

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from research_eval.errors import FilterError
from research_eval.filters import (
    All,
    Column,
    Comparison,
    Either,
    Label,
    Metric,
    Not,
    Param,
    value_of,
)
from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.store.conditions import meets, true_status
from research_eval.store.queries import lost_runs, read_runs
from research_eval.testing.runs import new_run, set_columns

ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}

CONFIGS = (
    '{"model_params": {"top_k": 2, "bias": true, "router": "softmax"}, "lr": 0.001}',
    '{"model_params": {"top_k": 4, "bias": false, "router": "Softmax"}, "lr": 1e-05}',
    '{"model_params": {"top_k": "2", "bias": 1, "router": null}, "betas": [0.9, 0.95]}',
    '{"model_params": {}, "lr": -3, "a b": {"c.d": "é\' OR 1=1 --"}}',
    "{}",
)
METRICS = (
    {"f1": 0.5, "val/loss": 2.0},
    {"f1": math.nan, "val/loss": math.inf},
    {"f1": -math.inf},
    {"f1": 1e308, "val/loss": 5e-324},
    {},
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request, tmp_path_factory):
    if request.param == "sqlite":
        url = tmp_path_factory.mktemp("filtering") / "runs.db"
    else:
        url = request.getfixturevalue("postgres").new_database()
    with Store.open(url, create=True) as opened:
        fill(opened)
        yield opened


def fill(store):
    """Eleven runs that differ in everything that a filter can name."""
    for i in range(11):
        made = store.start(
            new_run(
                f"run-{i}",
                experiment_name=("Ablation", "abl 100%", "_", "ünïcode \U0001f600")[i % 4],
                full_config_json=CONFIGS[i % 5],
                model_type=(None, "moe", "dense")[i % 3],
                epochs=(None, 1, 10)[i % 3],
                seed=None if i % 4 == 0 else i - 5,
                tags=(("paper",), (), ("a", "b"))[i % 3],
            )
        )
        for step in range(i % 3 + 1):
            made.log(METRICS[i % 5], step=step)
        if i % 4 == 1:
            made.flag("below_loss_floor", "reason")
        if i < 9:
            status = (RunStatus.COMPLETED, RunStatus.FAILED)[i % 2]
            made.finish(status, error="boom" if i % 2 else None, contended=i % 3 == 0)
        elif i == 9:
            made.close()  # nobody renews its heartbeat
        else:
            made.flush()
    set_columns(store, "run-9", heartbeat="2020-01-01T00:00:00.000Z")
    for i in (2, 3):
        store.note(f"run-{i}", f"looked at {i}: 100% odd_")


# ----------------------------------------------------------------- the reference, in plain Python


def holds(condition, record):
    """Say whether a run meets a condition, by the words of the documentation."""
    match condition:
        case Not(inner):
            return not holds(inner, record)
        case All(parts):
            return all(holds(part, record) for part in parts)
        case Either(parts):
            return any(holds(part, record) for part in parts)
    found = value_of(record, condition.field)
    values = found if isinstance(condition.field, Label) else (found,)
    values = [v for v in values if v not in (None, "null") and v == v]  # NaN is not itself
    if condition.operator == "null":
        return not values
    return any(compares(v, condition.operator, w) for v in values for w in condition.values)


def compares(value, sign, wanted):
    if isinstance(value, list):
        value = "[" + ", ".join(map(str, value)) + "]"
    if kind(value) != kind(wanted):
        return False
    if sign == "in":
        return value == wanted
    if sign == "contains":
        return wanted in value
    return ORDERS[sign](value, wanted)


def kind(value):
    if isinstance(value, bool):
        return bool
    return float if isinstance(value, int | float) else type(value)


# ------------------------------------------------------------------------------------ conditions

TEXTS = st.sampled_from(
    ["moe", "2", "softmax", "Softmax", "paper", "b", "", "%", "_", "abl", "é' OR 1=1 --", "[0.9"]
) | st.text(max_size=3)
NUMBERS = st.sampled_from([0, 1, 2, 0.5, -3, 1e308, 5e-324, 2.5, -math.inf, math.inf, 10**18])
PATHS = ["model_params.top_k", "model_params.bias", "model_params.router", "lr", "betas", "none"]
PARAMS = st.sampled_from([*PATHS, "a b.c.d"]).map(Param)
METRIC_FIELDS = st.builds(
    Metric,
    st.sampled_from(["f1", "val/loss", "none"]),
    st.sampled_from(["last", "min", "max", "count", "nonfinite"]),
)
SIGNS = st.sampled_from(list(ORDERS))


def fields(*names):
    return st.sampled_from([Column(name) for name in names])


def comparisons(field, value, signs):
    one = st.tuples(value)
    several = st.lists(value, max_size=3).map(tuple)
    return st.builds(Comparison, field, signs, one) | st.builds(
        Comparison, field, st.just("in"), several
    ) | st.builds(Comparison, field, st.just("null"))  # fmt: skip  # reads as alternatives


TEXT_FIELDS = fields("model_type", "experiment_name", "error", "group")
TEXT_SIGNS = SIGNS | st.just("contains")
LEAVES = st.one_of(
    comparisons(TEXT_FIELDS, TEXTS, TEXT_SIGNS),
    comparisons(fields("epochs", "seed", "attempt", "id"), NUMBERS, SIGNS),
    comparisons(fields("contended"), st.booleans(), st.just("in")),
    comparisons(fields("status"), st.sampled_from(RunStatus), st.just("in")),
    comparisons(
        fields("timestamp", "ended"), st.datetimes(timezones=st.just(UTC)).map(
            lambda time: time.replace(microsecond=0)), SIGNS),
    comparisons(PARAMS, TEXTS, TEXT_SIGNS),
    comparisons(PARAMS, NUMBERS, SIGNS),
    comparisons(PARAMS, TEXTS | NUMBERS | st.booleans(), st.just("in")),
    comparisons(METRIC_FIELDS, NUMBERS, SIGNS),
    comparisons(
        st.sampled_from([Label("tag"), Label("note"), Label("flag")]), TEXTS, st.just("contains")
    ),
)  # fmt: skip  # a table of kinds
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(Not, inner)
        | st.lists(inner, min_size=2, max_size=3).map(lambda parts: All(tuple(parts)))
        | st.lists(inner, min_size=2, max_size=3).map(lambda parts: Either(tuple(parts)))
    ),
    max_leaves=6,
)


def test_a_filter_finds_what_plain_python_finds(store):
    everything = store.runs()
    assert len(everything) == 11

    @settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=250,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(CONDITIONS)
    def check(condition):
        with store._reading() as connection:
            status = true_status(lost_runs(connection))
            found = read_runs(connection, [meets(condition, status)], metric_names=())
        expected = [run.experiment_id for run in everything if holds(condition, run)]
        assert [run.experiment_id for run in found] == expected

    check()


def ids(store, condition=None, **asked):
    return [int(run.experiment_id[4:]) for run in store.runs(filter=condition, **asked)]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('model_type == "moe" and model_params.top_k >= 4', [1]),
        ("metrics.f1.max > 0.4", [10, 8, 5, 3, 0]),
        ('metrics."val/loss".count >= 2', [10, 8, 5, 1]),
        ('status in ["LOST", "running"]', [10, 9]),
        ('experiment_name contains "abl"', [9, 5, 1]),
        ('tag == "paper" and not flag == "below_loss_floor"', [6, 3, 0]),
        ('tag != "paper" and tag is not null', [8, 5, 2]),
        ('note contains "100% odd_"', [3, 2]),
        ("model_params.bias == true", [10, 5, 0]),
        ('model_params.top_k == "2"', [7, 2]),
        ("model_params.router is null and model_params.top_k is not null", [7, 2]),
        ("metrics.f1 is null", [9, 6, 4, 1]),
        ('timestamp < "2020-01-01"', []),
    ],
)
def test_filters_mean_what_they_say(store, condition, expected):
    assert ids(store, condition) == expected


@pytest.mark.parametrize(
    "attack",
    ["' OR '1'='1", '\\"; DROP TABLE experiments; --', "%", ":name", "%(x)s", "?", "\ud800", "\0"],
)
def test_what_looks_like_sql_is_only_a_value(store, attack):
    for form in ('experiment_name == "{}"', 'tag contains "{}x"', 'params."{}" == 1',
                 'metrics."{}" > 0', 'model_params.router in ["{}", "z"]'):  # fmt: skip  # a list
        assert ids(store, form.format(attack)) == []
    assert len(store.runs()) == 11
    assert len(store.unknown_names(f'metrics."{attack}" > 0')) == 1


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("seed", [1, 2, 3, 5, 6, 7, 9, 10, 8, 4, 0]),
        ("-seed", [10, 9, 7, 6, 5, 3, 2, 1, 8, 4, 0]),
        ("-metrics.f1.max, seed", [3, 8, 5, 10, 0, 1, 2, 6, 7, 9, 4]),
        ("metrics.f1", [7, 2, 10, 5, 0, 8, 3, 9, 6, 4, 1]),
        ("-model_params.top_k, -id", [6, 1, 10, 5, 0, 7, 2, 9, 8, 4, 3]),
        ("model_type, id", [2, 5, 8, 1, 4, 7, 10, 0, 3, 6, 9]),
        ("status, id", [0, 2, 4, 6, 8, 1, 3, 5, 7, 9, 10]),
        ("experiment_name, id", [0, 4, 8, 2, 6, 10, 1, 5, 9, 3, 7]),
    ],
)
def test_runs_are_sorted_by_anything_and_what_they_lack_comes_last(store, sort, expected):
    assert ids(store, sort=sort) == expected
    pages = [ids(store, sort=sort, limit=4, offset=offset) for offset in (0, 4, 8, 12)]
    assert [len(page) for page in pages] == [4, 4, 3, 0]
    assert list(chain(*pages)) == expected


def test_a_wrong_filter_is_told(store):
    with pytest.raises(FilterError, match="did you mean 'seed'"):
        store.runs(filter="sead == 1")
    with pytest.raises(FilterError, match="did you mean 'seed'"):
        store.frame("sead")


def test_names_that_no_run_has_are_told_with_the_nearest(store):
    told = partial(store.unknown_names, "metrics.f11 > 1 and seed == 1 or model_params.topk < 2")
    assert told() == [
        "no run has a metric 'f11'; did you mean 'f1'?",
        "no run has a parameter 'model_params.topk'; did you mean 'model_params.top_k'?",
    ]
    assert len(told(sort="-metrics.zzz", columns="params.yyy, tag")) == 4
    assert store.unknown_names('metrics."val/loss" > 1', "params.lr") == []


def test_a_frame_has_a_row_for_each_run(store):
    asked = 'model_type, model_params.top_k, metrics."val/loss".min, tag'
    frame = store.frame(asked, filter="id <= 3", sort="id")
    assert list(frame.index) == ["run-0", "run-1", "run-2"]
    assert list(frame.columns) == asked.split(", ")
    assert frame['metrics."val/loss".min'].tolist()[0] == 2.0
    assert frame["model_params.top_k"].tolist() == [2, 4, "2"]
    assert frame["tag"].tolist() == [("paper",), (), ("a", "b")]
    whole = store.frame(limit=3)
    assert {"status", "timestamp", "params.lr", "metrics.f1"} <= set(whole.columns)
    assert "group" not in whole.columns  # no run has one
    assert store.frame("seed", filter="seed == 99").shape == (0, 1)


def test_runs_are_compared_side_by_side(store):
    found = store.diff("run-0", "run-2", "run-4", metrics=["f1", "none"])
    assert found.params["model_params.top_k"] == (2, "2", None)
    assert found.params["model_params.bias"] == (True, 1, None)
    assert found.metrics == {"f1": (0.5, -math.inf, None), "none": (None, None, None)}
    assert store.diff("run-0", "run-5").params == {}
    assert list(store.diff("run-0", "run-4").metrics) == ["f1", "val/loss"]


def test_a_time_is_compared_in_utc(database_url):
    with Store.open(database_url, create=True) as store:
        store.start(new_run("run-3"))
        store.start(new_run("run-4"))
        set_columns(store, "run-3", timestamp="2026-03-31T23:30:00.000Z")
        assert store.run("run-3").timestamp == datetime(2026, 3, 31, 23, 30, tzinfo=UTC)
        assert ids(store, 'timestamp < "2026-04-01T01:31+02:00"') == [3]
        assert ids(store, 'timestamp < "2026-03-31T23:30"') == []


def test_parameters_that_no_number_holds_are_compared_as_far_as_they_can(database_url):
    huge = "1" + "0" * 400
    with Store.open(database_url, create=True) as store:
        store.start(new_run("run-1", full_config_json=f'{{"n": {huge}, "d": {{"x": -{huge}}}}}'))
        store.start(new_run("run-2", full_config_json='{"n": NaN}'))
        assert ids(store, "params.n > 1e308 and d.x < -1e308") == [1]
        assert ids(store, "params.n < 5 or params.n >= 5") == [1]
        assert store.run("run-1").params["n"] == int(huge)


def test_equal_numbers_are_equal_to_the_next_key(database_url):
    with Store.open(database_url, create=True) as store:
        for i, number in enumerate(("2.0", "2", "2.0", '"2"')):
            store.start(new_run(f"run-{i}", full_config_json=f'{{"n": {number}}}', seed=i))
        assert ids(store, sort="params.n, seed") == [0, 1, 2, 3]

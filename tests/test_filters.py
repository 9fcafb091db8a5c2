"""The grammar: what is understood, and what is said of the rest. The store's tests apply it."""

from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
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
    SortKey,
    columns,
    parse_fields,
    parse_filter,
    parse_sort,
)
from research_eval.records import RunStatus


def one(field, operator, *values):
    return Comparison(field, operator, values)


IS_MOE = one(Column("model_type"), "in", "moe")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ('model_type == "moe"', IS_MOE),
        ("model_type=='moe'", IS_MOE),
        ('model_type != "moe"', Not(IS_MOE)),
        ('not not not (model_type == "moe")', Not(IS_MOE)),
        ("model_params.top_k >= 2", one(Param("model_params.top_k"), ">=", 2)),
        ("params.lr < .5e-3", one(Param("lr"), "<", 0.0005)),
        ('params."a.b".c is null', one(Param("a.b.c"), "null")),
        ("metrics.f1 > -inf", one(Metric("f1"), ">", -float("inf"))),
        ('metrics."val/loss".min <= 1', one(Metric("val/loss", "min"), "<=", 1)),
        ("metrics.count.count == 3", one(Metric("count", "count"), "in", 3)),
        ('metrics."a.max" > 0', one(Metric("a.max"), ">", 0)),
        ("seed not in [1, -2,3]", Not(one(Column("seed"), "in", 1, -2, 3))),
        ("seed in []", one(Column("seed"), "in")),
        ('tag == "paper"', one(Label("tag"), "in", "paper")),
        ('note contains "a\\"b\\\\"', one(Label("note"), "contains", 'a"b\\')),
        ("contended == TRUE", one(Column("contended"), "in", True)),
        ('status == "completed"', one(Column("status"), "in", RunStatus.COMPLETED)),
        ("trial IS NOT NULL", Not(one(Column("trial"), "null"))),
        (
            'timestamp >= "2026-03-31T02:00+02:00"',
            one(Column("timestamp"), ">=", datetime(2026, 3, 31, tzinfo=UTC)),
        ),
    ],
)
def test_a_comparison_is_read(text, meaning):
    assert parse_filter(text) == meaning


def test_and_binds_stronger_than_or_and_not_strongest():
    a, b, c = (one(Column("seed"), "in", number) for number in (1, 2, 3))
    assert parse_filter("seed==1 or seed==2 and not seed==3") == Either((a, All((b, Not(c)))))
    assert parse_filter("(seed==1 or seed==2) and seed==3") == All((Either((a, b)), c))
    assert parse_filter("seed==1 and seed==2 and seed==3") == All((a, b, c))


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("", 0, "expected a field"),
        ('modle_type == "moe"', 0, "did you mean 'model_type'"),
        ("lr > 1", 0, "a parameter is written params.lr, a metric metrics.lr"),
        ('tags == "a"', 0, "did you mean 'tag'"),
        ("seed = 3", 5, "write '==', not '='"),
        ("seed == 3 && epochs == 1", 10, "write 'and', not '&&'"),
        ("seed == 3 epochs == 1", 10, "expected 'and', 'or' or the end, not 'epochs'"),
        ("seed", 4, "expected a comparison"),
        ("seed == ", 8, "expected a value, not the end"),
        ('seed == "3"', 8, "seed is compared with a number"),
        ("model_type == moe", 14, 'text stands in quotes: "moe"'),
        ("model_type == 3", 14, "model_type is compared with text"),
        ("experiment_id == 3fa2", 17, 'text stands in quotes: "3fa2"'),
        ("contended == 1", 13, "contended is compared with true or false"),
        ("seed contains 3", 5, "seed is no text"),
        ('tag < "b"', 4, "tag has no order"),
        ('status > "LOST"', 7, "status has no order"),
        ('status == "LOOST"', 10, "did you mean 'LOST'"),
        ("seed == null", 8, "write 'is null'"),
        ('timestamp > "yesterday"', 12, "is no time"),
        ("metrics.a.b > 1", 0, 'metrics."a.b"'),
        ("metrics.val/loss > 1", 11, "stands in quotes"),
        ("metrics.f1 > nan", 13, "text stands in quotes"),
        ('metrics.f1 > "1"', 13, "metrics.f1 is compared with a number"),
        ("model_params.top_k < true", 21, "compared with a number or text"),
        ('model_type == "moe', 14, "no closing quote"),
        ("(seed == 3", 10, "expected ')', not the end"),
        ("seed in [1,,2]", 11, "expected a value, not ','"),
        ("seed in 3", 8, "expected '['"),
        ("seed == 3)", 9, "not ')'"),
        ("0.9 < metrics.f1", 0, "expected a field"),
        ("metrics. > 1", 9, "expected a name behind the dot"),
        ("(" * 51 + "seed == 1" + ")" * 51, 51, "deeper than 50"),
        (" or ".join(["seed==1"] * 201), 2200, "more than 200 comparisons"),
        ("seed == 1" + " " * 20_000, 20_000, "more than 20,000"),
    ],
)
def test_an_error_points_at_its_place_and_says_what_would_be_right(text, position, said):
    with pytest.raises(FilterError) as caught:
        parse_filter(text)
    assert caught.value.position == position
    assert said in str(caught.value)
    assert f"at character {position + 1} " in str(caught.value)


def test_an_excerpt_shows_the_place_in_a_long_text():
    with pytest.raises(FilterError) as caught:
        parse_filter(" or ".join(["seed==1"] * 50) + " or sed == 1")
    shown, place = caught.value.excerpt()
    assert len(shown) <= 60
    assert shown[place:] == "sed == 1"


@settings(derandomize=True, database=None, deadline=None)
@given(st.text() | st.text("()[]\"'=<>!. ,-01mesdtanori\\"))
@example("(" * 30_000)
@example("not " * 4_000)
@example("seed == " + "9" * 5_000)
@example("metrics.x > 1e999999")
@example('timestamp > "0001-01-01T00:00+23:00"')
@example("seed == \u0661")  # a digit to Python, not to a database
@example('tag == "\ud800"')
def test_any_text_is_a_condition_or_an_error_with_a_place(text):
    for parse in (parse_filter, parse_sort, parse_fields):
        position = 0
        try:
            parse(text)
        except FilterError as error:
            position = error.position
        assert 0 <= position <= len(text)


NAMES = st.text(min_size=1)


@settings(derandomize=True, database=None, deadline=None)
@given(
    st.sampled_from([Column(name) for name in columns()])
    | st.builds(Metric, NAMES, st.sampled_from(["last", "min", "max", "count", "nonfinite"]))
    | st.builds(Param, NAMES)
    | st.builds(Label, st.sampled_from(["tag", "note", "flag"]))
)
@example(Param("metrics.x"))
@example(Param("params.x"))
@example(Param("seed"))
@example(Metric("a.max"))
def test_a_field_is_written_as_it_is_read(field):
    assert parse_fields(str(field)) == (field,)


def test_sorting_takes_several_fields():
    assert parse_sort('-metrics."a,b".max, seed') == (
        SortKey(Metric("a,b", "max"), True),
        SortKey(Column("seed"), False),
    )
    with pytest.raises(FilterError, match="cannot be sorted by tag"):
        parse_sort("seed, -tag")
    with pytest.raises(FilterError, match="expected ',' or the end"):
        parse_sort("seed desc")

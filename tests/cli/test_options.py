"""Values on the command line and in cells: read and written as people do."""

import math

import pytest
import typer

from research_eval.cli._options import (
    is_setting,
    parse_seeds,
    parse_width,
    seeds_in_words,
    split_commas,
    split_settings,
)
from research_eval.cli._records import distinct_length
from research_eval.cli._render import age, amount, number, printable, size, to_json


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        (["5"], [0, 1, 2, 3, 4]),
        (["1"], [0]),
        (["10-14"], [10, 11, 12, 13, 14]),
        (["1,3,7"], [1, 3, 7]),
        (["1", "3"], [1, 3]),
        (["0-2,7", "2"], [0, 1, 2, 7]),
        (["3,1,3"], [3, 1]),
        (["7-7"], [7]),
        (["7,"], [7]),
        (None, []),
    ],
)
def test_seeds_are_a_count_a_range_or_a_list(given, seeds):
    assert parse_seeds(given) == seeds


@pytest.mark.parametrize("given", ["0", "-1", "5-3", "a", "1.5", "1-", "0-9999999999", "٣", "1;2"])
def test_what_is_no_seed_is_refused(given):
    with pytest.raises(typer.BadParameter, match="how many"):
        parse_seeds([given])


@pytest.mark.parametrize(
    ("seeds", "words"), [([3], "seed 3"), ([0, 1, 2], "seeds 0-2"), ([1, 3, 7], "seeds 1, 3, 7")]
)
def test_seeds_are_said_as_one_would(seeds, words):
    assert seeds_in_words(seeds) == words


def test_commas_divide_lists_but_not_the_values_of_settings():
    assert split_commas(["a.json, b.json", "c.json"]) == ["a.json", "b.json", "c.json"]
    assert split_settings(["epochs=2,model_params.top_k=1"]) == ["epochs=2", "model_params.top_k=1"]
    assert split_settings(['tags=["a","b"],seed=1']) == ['tags=["a","b"]', "seed=1"]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("epochs=2", True),
        ("model_params.top_k=1", True),
        ("configs/a.json", False),
        ("./lr=1/a.json", False),
        ("=1", False),
        ("a.json", False),
    ],
)
def test_a_setting_is_told_from_a_file(argument, expected):
    assert is_setting(argument) is expected


def test_what_a_terminal_would_act_on_is_written_out():
    assert printable("\x1b[31mred\a\r\n\u202e\x9b") == "\\x1b[31mred\\x07\\r\\n\\u202e\\x9b"
    assert printable("naïve 猫 [red]x[/]") == "naïve 猫 [red]x[/]"


def test_json_has_no_invalid_numbers():
    text = to_json({"a": [math.nan, math.inf, -math.inf, 1.5], "b": {"c": (math.nan,)}})
    assert '"NaN"' in text
    assert '"-Infinity"' in text
    assert "1.5" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.993251, "0.9933"),
        (0.0, "0"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (1e-5, "1.000e-05"),
        (123456, "123,456"),
        (-0.5, "-0.5"),
        (3.2e9, "3.200e+09"),
    ],
)
def test_numbers_have_four_significant_digits(value, text):
    assert number(value) == text


def test_amounts_sizes_and_ages_use_the_largest_unit():
    assert [amount(v) for v in (7, 1234, 1.5e6, 2.41e9, 3e12)] == [
        "7",
        "1.234 k",
        "1.5 M",
        "2.41 G",
        "3 T",
    ]
    assert [size(v) for v in (10, 2048, 3 * 2**20, 2**31)] == ["10 B", "2 KiB", "3 MiB", "2 GiB"]
    assert [age(v) for v in (-1, 59, 60, 7200, 200_000)] == ["0 s", "59 s", "1 min", "2 h", "2 d"]


def test_ids_are_cut_only_as_far_as_they_differ():
    assert distinct_length(["aaaaaaaaaaaa", "bbbbbbbbbbbb"]) == 8
    assert distinct_length(["aaaaaaaaaaaa", "aaaaaaaaabbb"]) == 10
    assert distinct_length([]) == 8


@pytest.mark.parametrize(
    ("given", "inches"),
    [("3.25in", 3.25), (" 8.5 cm", 3.346), ("84mm", 3.307), ("234.8775pt", 3.25), ("12in", 12)],
)
def test_widths_are_read_in_the_units_of_print(given, inches):
    assert parse_width(given, "--width") == pytest.approx(inches, abs=0.001)


@pytest.mark.parametrize("given", ["", "3.25", "in", "3,25in", "3.25 px", "1e3mm", "2.9in", "13in"])
def test_no_widths(given):
    with pytest.raises(typer.BadParameter):
        parse_width(given, "--width")

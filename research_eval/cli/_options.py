"""Arguments and options that several commands share."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from research_eval.cli._render import Format

DbOption = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="URL",
        help="Database: a file or an SQLAlchemy URL. By default what RESEARCH_EVAL_DB names, "
        "else experiment_results.db in this folder or the nearest one above it.",
    ),
]

FormatOption = Annotated[Format, typer.Option("--format", help="How to print results.")]

MAX_SEEDS = 10_000

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_INCHES = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}  # pt as TeX has it
WIDTHS = (3.0, 12.0)
"""Inches between which a figure can be drawn: letters keep their size, so less is illegible."""

_NEXT_SETTING = re.compile(r",(?=[A-Za-z_]\w*(?:\.\w+)*=)")
_SETTING = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*=", re.ASCII)


def split_commas(values: list[str] | None) -> list[str]:
    """Return the parts of repeated options that may hold several values with commas between."""
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def split_settings(values: list[str] | None) -> list[str]:
    """Return `path=value` settings; a comma divides only where another path follows it."""
    return [part for value in values or () for part in _NEXT_SETTING.split(value) if part]


def is_setting(argument: str) -> bool:
    """Return whether an argument reads as `path=value` and not as a file."""
    return _SETTING.match(argument) is not None


def parse_seeds(values: list[str] | None) -> list[int]:
    """Return the seeds that `--seeds` asks for, each once, in the order given.

    A single number is how many, counted from 0; `10-14` is a range, both ends included; numbers
    with commas (`7,` is one), or a repeated option, are the seeds themselves.

    Raises:
        typer.BadParameter: If it cannot be read so.
    """
    parts = split_commas(values)
    count = re.fullmatch(r"\d+", ",".join(values or ()), re.ASCII)
    if count:
        parts = [f"0-{int(count[0]) - 1}"]
    seeds: list[int] = []
    for part in parts:
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part, re.ASCII)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if last < first or last - first >= MAX_SEEDS:
            raise typer.BadParameter(
                f"cannot read seeds from '{','.join(values or ())}'; write how many (5), "
                f"a range (10-14) or a list (1,3,7), at most {MAX_SEEDS}",
                param_hint="--seeds",
            )
        seeds += range(first, last + 1)
    return list(dict.fromkeys(seeds))


def parse_time(text: str | None, option: str) -> float | None:
    """Return seconds, as in 90, 90s, 30m, 2h or 1d.

    Raises:
        typer.BadParameter: If it cannot be read so, or is no time at all.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not seconds:
        raise typer.BadParameter(
            f"write a time as in 90, 30m or 2h, not '{text}'", param_hint=option
        )
    return seconds


def parse_width(text: str, option: str) -> float:
    """Return inches, as in 3.25in, 8.5cm, 84mm or 234pt.

    Raises:
        typer.BadParameter: If it cannot be read so, or nothing legible is so wide.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(in|cm|mm|pt)", text.strip(), re.ASCII)
    if not found:
        raise typer.BadParameter(
            f"write a width as in 3.25in, 8.5cm, 84mm or 234pt, not '{text}'", param_hint=option
        )
    inches = float(found[1]) * _INCHES[found[2]]
    low, high = WIDTHS
    if not low <= inches <= high:
        raise typer.BadParameter(
            f"'{text}' is {inches:.3g} inches; figures are legible from {low:g} to {high:g} inches",
            param_hint=option,
        )
    return inches


def seeds_in_words(seeds: list[int]) -> str:
    """Return seeds as a person would say them: `seed 3`, `seeds 0-4`, `seeds 1, 3, 7`."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]}-{seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds))}"

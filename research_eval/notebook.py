"""Records as HTML for a notebook: bounded tables in the colours that the notebook has."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

from research_eval.quantities import number

MAX_ROWS = 16
MAX_COLUMNS = 8
MAX_CHARACTERS = 100
"""Of a name or a value; more rows, columns and characters are counted instead of shown."""


class Section(NamedTuple):
    """A table of a panel.

    Attributes:
        title: Stands above it.
        rows: Values by the name of their row.
        heads: Of the columns of values; empty for none.
        rest: The attribute that has the rows that are not shown.
    """

    title: str
    rows: Mapping[str, Sequence[object]]
    heads: Sequence[str] = ()
    rest: str = ""


def panel(title: str, sections: Iterable[Section]) -> str:
    """Return sections as HTML that contains nothing of the values but text."""
    # The classes keep MathJax from reading dollar signs in names as formulas.
    return (
        f'<div class="tex2jax_ignore mathjax_ignore"><strong>{_text(title)}</strong>'
        f"{''.join(map(_section, sections))}</div>"
    )


def scores_first(names: Iterable[str]) -> list[str]:
    """Return names of metrics, those that sum up a run or an evaluation first."""
    return sorted(names, key=lambda name: not name.startswith(("final_", "eval_")))


def _section(section: Section) -> str:
    rows = list(section.rows.items())
    lines = [_row("td", name, values) for name, values in rows[:MAX_ROWS]]
    if len(rows) > MAX_ROWS:
        more = f"... and {len(rows) - MAX_ROWS:,} more in .{section.rest}"
        lines.append(_row("td", more, ()))
    head = _row("th", "", section.heads) if section.heads else ""
    return (
        f"<details open><summary>{_text(section.title)}</summary>"
        f"<table>{head}{''.join(lines)}</table></details>"
    )


def _row(tag: str, name: str, values: Sequence[object]) -> str:
    cells = [f"<{tag}>{_text(_shown(value))}</{tag}>" for value in values[:MAX_COLUMNS]]
    if len(values) > MAX_COLUMNS:
        cells.append(f"<{tag}>... {len(values) - MAX_COLUMNS:,} more</{tag}>")
    return f'<tr><th style="text-align: left">{_text(name)}</th>{"".join(cells)}</tr>'


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return number(value)
    is_json = isinstance(value, bool | dict | list | tuple)
    return json.dumps(value, ensure_ascii=False, default=str) if is_json else str(value)


def _text(text: str) -> str:
    if len(text) > MAX_CHARACTERS:
        text = f"{text[:MAX_CHARACTERS]}... ({len(text):,} characters)"
    return escape(text.encode(errors="replace").decode())

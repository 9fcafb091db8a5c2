"""The report: one HTML file that opens from disk, needs no network, and prints.

Whatever people named, it is text: everything that comes from records is escaped.
"""

from __future__ import annotations

import json
import math
import shlex
from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from research_eval.analysis import words
from research_eval.analysis.arms import choose_all
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import Output
from research_eval.analysis.section import Section
from research_eval.metrics import find_metric
from research_eval.quantities import amount, duration, number

SHOWN_COMMANDS = 20
HASH_LENGTH = 12
_COUNTS = ("parameters", "FLOPs", "tokens")


def as_html(evidence: Evidence, sections: Sequence[Section], command: str) -> str:
    """Return the report as one self-contained page.

    Args:
        evidence: The runs.
        sections: What is shown, in this order.
        command: What makes the report again.
    """
    shown = [each for each in sections if each.table is not None]
    missing = [each for each in sections if each.table is None]
    title = f"{evidence.dataset}: {evidence.question.metric}"
    style = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    links = "".join(
        f'<a href="#{each.output.name}">{_text(each.output.title)}</a>' for each in shown
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(title)}</title>",
            f"<style>{style}</style></head><body>",
            f"<h1>{_text(evidence.dataset)}</h1>",
            *_head(evidence),
            *_verdicts(sections),
            f"<nav>{links}</nav>",
            *(line for each in shown for line in _section(each, evidence)),
            *_missing(missing),
            *_commands(evidence, command),
            "</body></html>\n",
        ]
    )


def _text(value: object) -> str:
    return escape(str(value))


def _head(evidence: Evidence) -> list[str]:
    question, counts = evidence.question, evidence.table["outcome"].value_counts()
    better = "higher" if question.is_max else "lower"
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    among = f"{question.candidate} is the candidate" if question.candidate else "no candidate named"
    facts = [
        f"Decided by {question.metric} ({better} is better); {among}.",
        f"{words.counted(len(evidence.runs), 'run')} of {words.listed(evidence.arms)}: {outcomes}.",
        *(f"{each}." for each in evidence.left_out),
    ]
    return [f'<p class="soft">{"<br>".join(map(_text, facts))}</p>']


def _verdicts(sections: Iterable[Section]) -> list[str]:
    """Return what was asked for first: who is better, among all runs and at equal cost."""
    found = [each for each in sections if each.output.name in ("contrasts", "matched")]
    return [_list(each.sentences) for each in found if each.sentences]


def _list(sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{_text(sentence)}</li>" for sentence in sentences)
    return f'<ul class="says">{items}</ul>'


def _section(section: Section, evidence: Evidence) -> list[str]:
    output, table = section.output, section.table
    lines = [
        f'<section id="{output.name}"><h2>{_text(output.title)}</h2>',
        f'<p class="soft">{_text(output.meaning)}</p>',
    ]
    if section.sentences:
        lines.append(_list(section.sentences))
    if section.picture is not None:
        data = b64encode(section.picture).decode()
        source = f"data:image/png;base64,{data}"
        lines.append(f'<figure><img alt="{_text(output.title)}" src="{source}"></figure>')
    lines += [f'<p class="soft">No picture: {_text(note)}.</p>' for note in section.notes]
    if table is not None:
        lines.append(_table(output, table))
        lines.append(f'<p class="soft">{_cut(output, table)}{_text(output.stem(evidence))}.csv</p>')
    return [*lines, "</section>"]


def _cut(output: Output, table: pd.DataFrame) -> str:
    if len(table) <= output.max_rows:
        return "Whole table: "
    return f"The first {output.max_rows} of {len(table):,} rows; whole table: "


def _table(output: Output, table: pd.DataFrame) -> str:
    kept = [name for name in output.shown or table.columns if name in table.columns]
    part = table[kept].dropna(axis="columns", how="all").head(output.max_rows)
    is_number = [pd.api.types.is_numeric_dtype(part[name].dtype) for name in part.columns]
    kinds = [' class="number"' if each else "" for each in is_number]
    head = "".join(
        f"<th{kind}>{_text(str(name).replace('_', ' '))}</th>"
        for name, kind in zip(part.columns, kinds, strict=True)
    )
    rows = []
    for values in part.itertuples(index=False, name=None):
        cells = (
            f"<td{kind}>{_text(cell(str(name), value))}</td>"
            for name, kind, value in zip(part.columns, kinds, values, strict=True)
        )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    body = "\n".join(rows)
    inner = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="table"><table>{inner}</table></div>'


def cell(name: str, value: Any) -> str:
    """Return a value of a table as people read it.

    Args:
        name: Of its column; that of a metric says its unit.
        value: Of any type; NaN and None are a dash.
    """
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return "-" if pd.isna(value) else value.strftime("%Y-%m-%d %H:%M")
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if not isinstance(value, int | float | np.number):
        return str(value)[:HASH_LENGTH] if name == "configuration" else str(value)
    known = find_metric(name)
    if name.endswith("seconds"):
        return duration(float(value))
    if known and known.unit in _COUNTS:
        return amount(float(value))
    return number(int(value) if float(value).is_integer() else float(value))


def _missing(sections: Iterable[Section]) -> list[str]:
    items = [
        f"<li>{_text(each.output.title)}: {_text('; '.join(each.notes))}.</li>" for each in sections
    ]
    if not items:
        return []
    return ["<section><h2>Not shown</h2>", f"<ul>{''.join(items)}</ul></section>"]


def _commands(evidence: Evidence, command: str) -> list[str]:
    """Return the commands that made the runs and the report."""
    standing = [run for chosen in choose_all(evidence).values() for run in chosen.runs]
    found = dict.fromkeys(_command(evidence.runs[run].argv) for run in standing)
    made = [each for each in found if each]
    more = len(made) - SHOWN_COMMANDS
    lines = [*made[:SHOWN_COMMANDS], *([f"# and {more} more"] if more > 0 else []), command]
    return [
        "<section><h2>To reproduce</h2>",
        '<p class="soft">What made the runs that stand for the architectures, and this report.</p>',
        f"<pre>{_text(chr(10).join(lines))}</pre></section>",
    ]


def _command(argv: str | None) -> str:
    """Return a recorded command as one would type it."""
    try:
        first, *rest = json.loads(argv or "[]") or [""]
    except ValueError:
        return ""
    name = str(first).replace("\\", "/").rpartition("/")[2]
    is_ours = name in ("research-eval", "__main__.py")
    return (
        shlex.join(["research-eval" if is_ours else str(first), *map(str, rest)]) if first else ""
    )

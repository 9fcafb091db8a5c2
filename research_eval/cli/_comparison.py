"""Runs side by side, as a table, as JSON or as CSV."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from research_eval.cli._records import distinct_length, field_text
from research_eval.cli._render import Column, Format, note, number, print_rows, to_json, write

if TYPE_CHECKING:
    from research_eval.comparison import Comparison

_FACTS = ("experiment_name", "model_type", "dataset_name", "seed", "status", "config_hash")


def print_comparison(found: Comparison, form: Format) -> None:
    """Print in what runs differ, and their metrics; of two runs also the difference."""
    ids = [run.experiment_id for run in found.runs]
    facts = {name: tuple(getattr(run, name) for run in found.runs) for name in _FACTS}
    facts = {name: values for name, values in facts.items() if any(v is not None for v in values)}
    sections = {"run": facts, "configuration": found.params, "metrics": found.metrics}
    if form is Format.JSON:
        named = {
            section: {name: dict(zip(ids, values, strict=True)) for name, values in rows.items()}
            for section, rows in sections.items()
        }
        write(to_json(named))
        return
    rows = {section: _rows(ids, values) for section, values in sections.items()}
    columns = [Column("name", "", is_fixed=True), *_run_columns(ids)]
    if form is Format.CSV:
        lines = [{"section": s} | row for s, of_section in rows.items() for row in of_section]
        print_rows(lines, [Column("section", ""), *columns], form)
        return
    print_rows(rows["run"], columns, form)
    if found.params:
        print_rows(rows["configuration"], columns, form, title="\nconfiguration, where it differs")
    else:
        note("the configurations are the same, but for names")
    if len(ids) == 2:
        columns.append(Column("difference", "difference", number, is_number=True))
    print_rows(rows["metrics"], columns, form, title="\nmetrics")


def _rows(ids: list[str], sections: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    rows = []
    for name, values in sections.items():
        row = {"name": name} | dict(zip(ids, values, strict=True))
        if len(values) == 2 and all(isinstance(value, float) for value in values):
            row["difference"] = values[1] - values[0]
        rows.append(row)
    return rows


def _run_columns(ids: list[str]) -> list[Column]:
    length = distinct_length(ids)
    show: Callable[[Any], str] = field_text
    return [Column(each, each[:length], show) for each in dict.fromkeys(ids)]

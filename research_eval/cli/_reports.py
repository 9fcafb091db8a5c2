"""What `analyze` has found, as text on the terminal, as JSON or as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from research_eval.cli._render import (
    Column,
    Format,
    amount,
    note,
    number,
    print_rows,
    printable,
    to_json,
    write,
)

if TYPE_CHECKING:
    import pandas as pd

    from research_eval.analysis import Report

BEST_RUNS = "best_runs"


def show_reports(reports: list[Report], form: Format) -> None:
    """Print what reports say: verdicts and best runs, or everything as JSON, best runs as CSV."""
    if form is Format.JSON:
        write(to_json({report.evidence.dataset: _plain(report) for report in reports}))
    elif form is Format.CSV:
        rows = [
            {"dataset": report.evidence.dataset, **row}
            for report in reports
            for row in _rows(report, BEST_RUNS)
        ]
        print_rows(rows, [Column("dataset", "data")], form)
    else:
        for place, report in enumerate(reports):
            write("") if place else None
            _show_table(report)


def _plain(report: Report) -> dict[str, Any]:
    """Return a report as JSON values."""
    evidence, question = report.evidence, report.evidence.question
    return {
        "metric": question.metric,
        "direction": question.direction,
        "candidate": question.candidate,
        "runs": len(evidence.runs),
        "left_out": [str(each) for each in evidence.left_out],
        "outputs": {
            each.output.name: {
                "sentences": list(each.sentences),
                "notes": list(each.notes),
                "rows": [] if each.table is None else as_records(each.table),
            }
            for each in report.sections
        },
        "files": [str(path) for path in report.files],
    }


def as_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as JSON values."""
    return [
        {str(name): None if value != value else value for name, value in row.items()}
        for row in table.to_dict("records")
    ]


def _rows(report: Report, name: str) -> list[dict[str, Any]]:
    section = report.section(name)
    return [] if section is None or section.table is None else as_records(section.table)


def _show_table(report: Report) -> None:
    evidence = report.evidence
    metric, test = evidence.question.metric, evidence.question.test_metric
    for each in evidence.left_out:
        note(printable(each))
    for name in ("contrasts", "matched", "ablation"):
        section = report.section(name)
        for sentence in section.sentences if section else ():
            write(printable(sentence))
    rows = _rows(report, BEST_RUNS)
    scores = [name for name in (metric, test) if name]
    columns = [
        Column("arm", "model"),
        Column("run", "run", is_fixed=True),
        Column("seed", "seed", is_number=True),
        *(Column(name, name, number, is_number=True) for name in scores),
        Column("param_count", "parameters", amount, is_number=True, is_optional=True),
        Column("active_param_count", "active", amount, is_number=True, is_optional=True),
        Column("flops_per_token", "FLOPs/token", amount, is_number=True, is_optional=True),
        Column("inference_latency_ms_batch_p50", "ms/batch", number, True, is_optional=True),
        Column("tried", "tried", is_number=True, is_optional=True),
        *([Column("flags", "notes")] if any(row["flags"] for row in rows) else []),
    ]
    if rows:
        print_rows(rows, columns, Format.TABLE, title=f"best runs on {printable(evidence.dataset)}")
    best = report.section(BEST_RUNS)
    for sentence in best.sentences if best else ():
        note(printable(sentence))
    for section in report.sections:
        if section.table is None and (
            section.output.name != "ablation" or evidence.question.ablation
        ):
            note(printable(f"{section.output.title}: {'; '.join(section.notes)}"))

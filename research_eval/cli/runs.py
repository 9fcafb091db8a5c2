"""`runs`: look at what is recorded. Nothing here loads torch or creates a database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from research_eval.cli import _experts, _records
from research_eval.cli._comparison import print_comparison
from research_eval.cli._options import DbOption, FormatOption, split_commas
from research_eval.cli._render import (
    Format,
    moment,
    note,
    number,
    print_rows,
    print_sections,
    printable,
    size,
)
from research_eval.filters import Field, Metric, parse_fields, parse_sort
from research_eval.records import RunStatus

if TYPE_CHECKING:
    from research_eval.records import RunRecord
    from research_eval.store import Store

app = typer.Typer(help="Look at recorded runs.")

SHOWN_PACKAGES = 10

ELSEWHERE = frozenset(
    {
        "config_schema_json",
        "env_details_json",
        "error",
        "flags",
        "full_config_json",
        "git_diff",
        "metrics",
        "notes",
    }
)
"""Fields of a record that `runs show` does not list among its facts."""


@contextmanager
def reading(database: str | None) -> Iterator[Store]:
    """Open the store that is meant, read-only, and say where it is."""
    from research_eval.store import Store
    from research_eval.store.location import locate

    with Store.open(database or locate(create=False), mode="ro") as store:
        note(f"database: {printable(store.path or store.url)}")
        yield store


FilterOption = Annotated[
    str | None,
    typer.Option(
        "--filter",
        metavar="CONDITION",
        help="Only runs that meet it, for example 'model_params.top_k >= 2 and "
        'metrics.final_val_f1 > 0.9 and tag == "paper"\'.',
    ),
]


RunArgument = Annotated[
    str, typer.Argument(metavar="ID", help="An id, its beginning, a unique name, last, or best.")
]


SortOption = Annotated[
    str | None,
    typer.Option(metavar="FIELDS", help="Sort by these, -FIELD for descending; else newest first."),
]

ColumnsOption = Annotated[
    str | None,
    typer.Option(
        metavar="FIELDS",
        help="Show these, for example 'seed, model_params.top_k, metrics.val_f1.max'.",
    ),
]


@app.command("list")
def list_runs(
    condition: FilterOption = None,
    sort: SortOption = None,
    columns: ColumnsOption = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    deleted: Annotated[bool, typer.Option("--deleted", help="Those in the trash.")] = False,
    project: Annotated[str | None, typer.Option(help="Only of this project.")] = None,
    model_type: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    dataset_name: Annotated[str | None, typer.Option(help="Only on this data set.")] = None,
    status: Annotated[
        RunStatus | None, typer.Option(case_sensitive=False, help="Only with this status.")
    ] = None,
    database: DbOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List runs, newest first.

    Conditions and fields name columns (seed), parameters (model_params.top_k), metrics
    (metrics.NAME, or .min, .max, .count, .nonfinite), tag, note and flag.
    """
    if columns is not None:
        shown: Sequence[Field] = parse_fields(columns)
    else:
        shown = [key.field for key in parse_sort(sort)] if sort is not None else []
    names = [field.name for field in shown if isinstance(field, Metric)]
    with reading(database) as store:
        records = store.runs(
            filter=condition,
            sort=sort,
            project=project,
            model_type=model_type,
            dataset_name=dataset_name,
            status=status,
            limit=limit,
            metrics=[*_records.LIST_METRICS, *names],
            deleted=deleted,
        )
        for sentence in store.unknown_names(condition, sort, columns):
            note(printable(sentence))
    rows, shown_columns = _records.listed(records, shown, only=columns is not None)
    print_rows(rows, shown_columns, form)
    if len(records) == limit:
        note(f"these are {limit}; --limit shows more, --filter others")


@app.command()
def show(
    run: RunArgument,
    by: Annotated[
        str | None,
        typer.Option(metavar="METRIC:MAX|MIN", help="For best: best by what?"),
    ] = None,
    experts: Annotated[
        bool,
        typer.Option(
            "--experts", help="Show what its experts did: load, couplings, paths, by layer."
        ),
    ] = False,
    database: DbOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show everything that is recorded of a run."""
    with reading(database) as store:
        record = store.run(run, by=by)
        if experts:
            _experts.show_experts(record, store, form)
            return
        artifacts = store.artifacts(record.experiment_id)
        folder = store.artifact_dir
    sections = {
        "run": _facts(record),
        "error": {} if record.error is None else {"": record.error},
        "uncommitted": {} if record.git_diff is None else {"": record.git_diff},
        "flags": dict(record.flags),
        "notes": {str(i): asdict(each) for i, each in enumerate(record.notes, start=1)},
        "metrics": {name: summary._asdict() for name, summary in sorted(record.metrics.items())},
        "config": json.loads(record.full_config_json),
        "environment": json.loads(record.env_details_json),
        "artifacts": {str(folder / each.path): asdict(each) for each in artifacts},
    }
    texts: dict[str, Callable[[Any], str]] = {
        "notes": lambda each: f"{moment(each['timestamp'])}  {printable(each['text'])}",
        "metrics": _metric,
        "artifacts": _artifact,
        "uncommitted": _diff,
        "environment": _environment,
    }
    print_sections(sections, form, texts=texts)


@app.command()
def diff(
    runs: Annotated[
        list[str], typer.Argument(metavar="ID ID...", help="Two runs or more, as for show.")
    ],
    metrics: Annotated[
        list[str] | None, typer.Option(metavar="NAMES", help="Only these metrics.")
    ] = None,
    database: DbOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show where configurations differ, and the metrics of the runs side by side."""
    if len(runs) < 2:
        raise typer.BadParameter("name two runs or more", param_hint="ID ID...")
    with reading(database) as store:
        found = store.diff(*runs, metrics=split_commas(metrics) or None)
    print_comparison(found, form)


def _facts(record: RunRecord) -> dict[str, Any]:
    facts = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in ELSEWHERE}
    facts = {name: facts[name] for name in ("experiment_id", "experiment_name", "status")} | facts
    if not record.unacknowledged:
        del facts["unacknowledged"]
    return {name: value for name, value in facts.items() if value is not None and value != ()}


def _metric(summary: Mapping[str, Any]) -> str:
    text = number(summary["value"])
    if summary["count"] > 1 and summary["minimum"] is not None:
        text += (
            f"  at step {summary['step']}; {summary['count']} points from "
            f"{number(summary['minimum'])} at step {summary['minimum_step']} to "
            f"{number(summary['maximum'])} at step {summary['maximum_step']}"
        )
    return text + (f"; {summary['nonfinite']} not finite" if summary["nonfinite"] else "")


def _diff(diff: str) -> str:
    return f"a diff of {len(diff.splitlines())} lines; --format json has it"


def _artifact(artifact: Mapping[str, Any]) -> str:
    return f"{artifact['kind']}, {size(artifact['bytes'])}"


def _environment(value: object) -> str:
    """Return a fact as text; of a long list of packages only how many there are."""
    if isinstance(value, Mapping):
        if len(value) > SHOWN_PACKAGES:
            return f"{len(value)} packages; --format json has them"
        return printable(", ".join(f"{name} {inner}" for name, inner in value.items()))
    return printable(value)

"""What there is: models, data sets, routers, metrics, and the schema of configurations."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from research_eval.cli._options import FormatOption
from research_eval.cli._render import Column, Format, print_rows, to_json, write

if TYPE_CHECKING:
    from research_eval.registry import SpecMap
    from research_eval.spec import DatasetSpec, ModelSpec

NameArgument = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Show the parameters of this one.")
]

PARAMETERS = (
    Column("name", "parameter", is_fixed=True),
    Column("type", "type"),
    Column("default", "default"),
    Column("legal", "legal"),
    Column("searched", "searched"),
    Column("meaning", "meaning"),
)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file that stand alone to the application."""
    for command in (models, routers, metrics, schema):
        app.command()(command)


def models(name: NameArgument = None, form: FormatOption = Format.TABLE) -> None:
    """List the models, or the parameters of one."""
    from research_eval.registry import MODELS_MAP

    if name is not None:
        print_parameters(MODELS_MAP, name, form)
        return
    rows = [
        {"name": each, "meaning": first_line(spec.params), "version": spec.version}
        for each, spec in MODELS_MAP.items()
    ]
    columns = (Column("name", "model", is_fixed=True), Column("meaning", "meaning"))
    print_rows(rows, columns, form)


def routers(form: FormatOption = Format.TABLE) -> None:
    """List the ways to choose experts."""
    from research_eval.registry import ROUTERS_MAP

    rows = [
        {
            "name": name,
            "kind": "learned" if spec.learned else "control",
            "meaning": first_line(spec.build),
        }
        for name, spec in ROUTERS_MAP.items()
    ]
    columns = (
        Column("name", "router", is_fixed=True),
        Column("kind", "kind"),
        Column("meaning", "meaning"),
    )
    print_rows(rows, columns, form)


def metrics(form: FormatOption = Format.TABLE) -> None:
    """List what a run records, and which way is better."""
    from research_eval.metrics import METRICS

    columns = (
        Column("name", "metric", is_fixed=True),
        Column("history", "points"),
        Column("direction", "better"),
        Column("unit", "unit"),
        Column("task", "task"),
        Column("meaning", "meaning"),
    )
    print_rows([asdict(metric) for metric in METRICS], columns, form)


def schema(
    model: Annotated[str | None, typer.Option(help="Only for this model, with --dataset.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Only for this data set, with --model.")
    ] = None,
) -> None:
    """Print the JSON Schema of configurations, with ranges and meanings, for editors and tools."""
    from research_eval.config import json_schema

    if (model is None) != (dataset is None):
        raise typer.BadParameter("give both or neither", param_hint="--model and --dataset")
    experiment = None
    if model is not None and dataset is not None:
        from research_eval.cli.new import starting_point

        experiment = starting_point(model, dataset)
    write(to_json(json_schema(experiment)))


def print_parameters(known: SpecMap[Any], name: str, form: Format) -> None:
    """Print the parameters of a registered component, or of a plug-in file."""
    from research_eval.parameters import describe

    spec: ModelSpec | DatasetSpec = known.find(name, Path.cwd())
    rows = [asdict(each) for each in describe(spec.params.model_json_schema())]
    print_rows(rows, PARAMETERS, form, title=f"{name}: {first_line(spec.params)}")


def first_line(documented: object) -> str:
    """Return the first line of a docstring, empty if there is none."""
    return (getattr(documented, "__doc__", None) or "").strip().partition("\n")[0]

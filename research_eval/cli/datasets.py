"""`datasets`: which there are, their parameters, and whether one keeps its promises."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from research_eval.cli._options import FormatOption
from research_eval.cli._render import Column, Format, print_rows
from research_eval.cli.catalog import first_line, print_parameters


class _ShowByDefault(TyperGroup):
    """A group in which a word that is no command is what `show` is to show."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None:
            args = ["show", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=_ShowByDefault)


@app.callback(invoke_without_command=True)
def datasets(context: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """List the data sets; `datasets NAME` lists the parameters of one."""
    from research_eval.registry import DATASETS_MAP

    if context.invoked_subcommand is not None:
        if form is not Format.TABLE:
            raise typer.BadParameter("stands behind the name", param_hint="--format")
        return
    rows = [
        {
            "name": name,
            "dataset_type": spec.dataset_type,
            "tasks": list(spec.tasks),
            "meaning": first_line(spec.params),
            "version": spec.version,
        }
        for name, spec in DATASETS_MAP.items()
    ]
    columns = (
        Column("name", "data set", is_fixed=True),
        Column("dataset_type", "type"),
        Column("tasks", "task", " or ".join),
        Column("meaning", "meaning"),
    )
    print_rows(rows, columns, form)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A data set, or ./file.py:Name.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show the parameters of one; `show` may be left out."""
    from research_eval.registry import DATASETS_MAP

    print_parameters(DATASETS_MAP, name, form)

"""`db`: look after the store."""

from __future__ import annotations

from dataclasses import asdict

import typer

from research_eval.cli._options import DbOption, FormatOption
from research_eval.cli._render import Format, print_sections
from research_eval.cli.runs import reading

app = typer.Typer(help="Look after the database.")


@app.command()
def init(database: DbOption = None) -> None:
    """Make an empty database; one that is there is left as it is."""
    from research_eval.store import Store
    from research_eval.store.location import locate

    Store.open(database or locate(create=True), create=True).close()
    with reading(database):
        pass


@app.command()
def info(database: DbOption = None, form: FormatOption = Format.TABLE) -> None:
    """Show where the database is and what it holds."""
    with reading(database) as store:
        found = asdict(store.info()) | {"artifacts": str(store.artifact_dir)}
    runs = {str(status).lower(): count for status, count in found.pop("runs").items()}
    print_sections({"database": found, "runs": runs}, form)

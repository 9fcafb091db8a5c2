"""`dashboard`: look at the records in a browser."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from research_eval.cli._options import DbOption, split_commas
from research_eval.cli._render import note, printable, write
from research_eval.errors import ConfigError


def dashboard(
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine need a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port; by default the first free one from 8765 on, 0 for any."
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    token: Annotated[
        bool,
        typer.Option("--token", help="Ask for a token on this machine too: others share it."),
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A further name under which browsers reach it."),
    ] = None,
    reports: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the reports of analyze.")
    ] = Path("analysis_reports"),
    database: DbOption = None,
) -> None:
    """Show the records on a local web page, which changes nothing."""
    from research_eval.cli.runs import reading

    try:
        from research_eval.dashboard.server import Listening, serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "jinja2"):
            raise
        raise ConfigError(
            f"the dashboard needs {error.name}, which is not installed: "
            "pip install 'research-eval[dashboard]'"
        ) from error

    def ready(address: str) -> None:
        write(address)
        sys.stdout.flush()
        note("it reads and changes nothing; Ctrl-C ends it")
        _say_how_to_reach(address)
        if open_page:
            _open(address)

    names = split_commas(allowed_host)
    listening = Listening(host=host, port=port, names=names, with_token=token)
    with reading(database) as store:
        serve(store, reports, listening, ready)


def _say_how_to_reach(address: str) -> None:
    if "SSH_CONNECTION" in os.environ:
        port = address.rpartition(":")[2].partition("/")[0]
        note(f"from your own machine: ssh -L {port}:127.0.0.1:{port} HOST")


def _open(address: str) -> None:
    import webbrowser

    if not webbrowser.open(address):
        note(f"no browser could be started; open {printable(address)}")

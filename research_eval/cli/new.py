"""`new`: a file to start from."""

from __future__ import annotations

import typer

app = typer.Typer(help="Write a file to start from.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass

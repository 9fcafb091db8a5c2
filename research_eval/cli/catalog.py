"""What there is: models, data sets, routers, metrics, and the schema of configurations."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the application."""

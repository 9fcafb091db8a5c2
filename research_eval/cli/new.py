"""`new`: a file to start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from research_eval.cli._render import note, printable, to_json, write
from research_eval.errors import ConfigError

if TYPE_CHECKING:
    from research_eval.config import Experiment

app = typer.Typer(help="Write a file to start from.")

SCHEMA_FILE = "research-eval.schema.json"


@app.callback()
def _new() -> None:
    """Write a file to start from."""


@app.command()
def config(
    model: Annotated[str, typer.Option(help="A model, or ./file.py:Name.")],
    dataset: Annotated[str, typer.Option(help="A data set, or ./file.py:Name.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help=f"Write to this new file, and {SCHEMA_FILE} beside it, from which editors know "
            "ranges and meanings.",
        ),
    ] = None,
) -> None:
    """Write a configuration with every default in it."""
    from research_eval.config import json_schema

    complete = _complete(starting_point(model, dataset))
    if output is None:
        write(to_json(complete))
        return
    _write_new(output, to_json({"$schema": f"./{SCHEMA_FILE}"} | complete))
    _write(output.with_name(SCHEMA_FILE), to_json(json_schema()))
    note(f"next: research-eval run {printable(output)}")


def starting_point(model: str, dataset: str) -> Experiment:
    """Return the experiment of a model on a data set with all defaults.

    Raises:
        ConfigError: If one of them is unknown.
    """
    from research_eval.config import validate

    name = "_".join(part.rpartition(":")[2] for part in (model, dataset))
    return validate({"experiment_name": name, "model_type": model, "dataset_name": dataset})


def _complete(experiment: Experiment) -> dict[str, Any]:
    left_out = {"schema_ref", "origin", "tags"}
    complete = experiment.config.model_dump(mode="json", by_alias=True, exclude=left_out)
    return complete | {"dataset_type": experiment.dataset.dataset_type}


def _write_new(path: Path, text: str) -> None:
    if path.exists():
        raise ConfigError(f"{path} is there already and is not overwritten; choose another name")
    _write(path, text)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None

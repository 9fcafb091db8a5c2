"""`new`: a file to start from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from research_eval.cli._render import note, printable, to_json, write
from research_eval.errors import ConfigError

if TYPE_CHECKING:
    from research_eval.config import Experiment

app = typer.Typer(help="Write a file to start from.")

SCHEMA_FILE = "research-eval.schema.json"

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="A new Python file, for example mine.py.")
]


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


@app.command()
def model(file: FileArgument) -> None:
    """Write a model to start from: what stands between the shared embedding and head."""
    _write_template("model", file, "MyModel", "CONFIG model_type={}")


@app.command()
def router(file: FileArgument) -> None:
    """Write a router to start from: how a token's experts are chosen."""
    _write_template("router", file, "MyRouter", "CONFIG model_type=moe model_params.router={}")


@app.command()
def dataset(file: FileArgument) -> None:
    """Write a data set to start from."""
    _write_template("dataset", file, "MY_DATA", "CONFIG dataset_name={}")


def _write_template(kind: str, file: Path, name: str, settings: str) -> None:
    """Write a file that keeps its promises as it is, and say what to do with it.

    Args:
        kind: Which file.
        file: Where to.
        name: Of the component in it.
        settings: Of a run with it; {} is where the component is named.
    """
    from importlib import resources

    if file.suffix != ".py":
        raise typer.BadParameter(f"'{printable(file)}' must end in .py", param_hint="FILE")
    template = resources.files("research_eval.cli.templates") / f"{kind}.py"
    _write_new(file, template.read_text(encoding="utf-8").rstrip("\n"))
    where = file if file.is_absolute() else f"./{file}"
    component = shlex.quote(printable(f"{where}:{name}"))
    note(f"next: research-eval check {component}")
    note(f"      research-eval run {settings.format(component)}")


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

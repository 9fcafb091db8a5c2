"""The command line: one file per group of commands; each parses, calls one function and renders.

Commands import what they need when they are called, so that `--help` loads nothing heavy.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, cast

import typer
from typer.exceptions import TyperException

from research_eval.cli import (
    analyze,
    bundles,
    catalog,
    check,
    compare,
    configs,
    dashboard,
    datasets,
    db,
    editing,
    evaluate,
    explain,
    generate,
    hpo,
    match,
    new,
    reproduce,
    run,
    runs,
    studies,
    suggest,
    watching,
)
from research_eval.cli._render import note, printable
from research_eval.errors import ConfigError, FilterError, ResearchEvalError
from research_eval.processes import Process, launched, quiet_torch

INTERRUPTED = 130

SOLITARY = ("check", "compare", "hpo", "match", "reproduce", "suggest")
"""Commands that train, or may, and do not share it."""

app = typer.Typer(
    name="research-eval",
    help="One JSON file in, one recorded experiment out.",
    epilog="Begin with: research-eval new config --model moe --dataset parity -o first.json",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("hpo")(hpo.hpo)
app.command("suggest")(suggest.suggest)
app.command("match")(match.match)
app.command("compare")(compare.compare)
app.command("analyze")(analyze.analyze)
app.command("evaluate")(evaluate.evaluate)
app.command("explain")(explain.explain)
app.command("generate")(generate.generate)
app.command("reproduce")(reproduce.reproduce)
app.add_typer(studies.app, name="studies")
editing.add_to(runs.app)
watching.add_to(runs.app)
bundles.add_to(runs.app)
configs.add_to(runs.app)
app.add_typer(runs.app, name="runs")
app.add_typer(datasets.app, name="datasets")
catalog.add_to(app)
app.command("check")(check.check)
app.command("dashboard")(dashboard.dashboard)
app.add_typer(new.app, name="new")
app.add_typer(db.app, name="db")


@dataclass(slots=True)
class _Settings:
    """What the options before the command say."""

    debug: bool = False


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("research-eval"))
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _before(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where in the program an error comes from.")
    ] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    cast("_Settings", context.obj).debug = debug
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
    here = launched()
    if here is not None:
        _join(here, context)


def _join(here: Process, context: typer.Context) -> None:
    """Be one of the processes that a launcher started, if they have something to do together.

    Raises:
        ConfigError: If each of them would train by itself.
    """
    if context.invoked_subcommand in SOLITARY:
        raise ConfigError(
            f"{context.invoked_subcommand} takes no launcher, which started {here.size} processes: "
            "they could only do the same; start it by itself"
        )
    if context.invoked_subcommand != "run":
        return
    quiet_torch()
    from research_eval.company import leading
    from research_eval.following import follow

    if here.rank:
        follow()
        raise typer.Exit
    context.with_resource(leading(here))


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command and return its exit code; errors are told on stderr.

    Args:
        arguments: Words behind the name of the program; those of this process by default.
    """
    settings = _Settings()
    try:
        given = None if arguments is None else list(arguments)
        code = app(given, prog_name=app.info.name, standalone_mode=False, obj=settings)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except ResearchEvalError as error:
        if settings.debug:
            traceback.print_exc()
        _tell(error)
        return error.exit_code
    except TyperException as error:
        note(f"error: {printable(_usage(error))}")
        return 2
    except KeyboardInterrupt:
        note("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough, as in `runs list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _tell(error: ResearchEvalError) -> None:
    """Print an error as one line, and several mistakes of a configuration as a line each."""
    if isinstance(error, ConfigError) and len(error.issues) > 1:
        note(f"error: {printable(error.args[0])}")
        for issue in error.issues:
            note(f"  {printable(issue)}")
    else:
        note(f"error: {printable(error)}")
    if isinstance(error, FilterError):
        shown, place = error.excerpt()
        note(f"  {printable(shown)}")
        note(f"  {' ' * len(printable(shown[:place]))}^")


def _usage(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    hint = f"; see {context.command_path} --help" if context is not None else ""
    return f"{error.format_message().rstrip('.')}{hint}"

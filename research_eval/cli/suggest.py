"""`suggest`: from past runs to the configurations to try next."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from research_eval.cli._options import DbOption, FormatOption, parse_time, split_commas
from research_eval.cli._progress import display
from research_eval.cli._records import field_text
from research_eval.cli._render import Column, Format, note, print_rows, printable, write
from research_eval.cli.runs import reading
from research_eval.quantities import duration, number, parse_amount
from research_eval.suggest.names import DEFAULT_FOLDER, STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from research_eval.errors import IncompleteError
    from research_eval.suggest.past import Question
    from research_eval.suggest.suggesting import Request, Suggester, Suggestion

_LEARN = "What to learn from"
_HOW = "How"
SHOWN_CHANGES = 3


def suggest(
    dataset_name: Annotated[
        str | None,
        typer.Option(
            "--dataset-name", help="By default that of the latest run.", rich_help_panel=_LEARN
        ),
    ] = None,
    model_type: Annotated[
        list[str] | None,
        typer.Option(
            "--model-type",
            metavar="NAMES",
            help="By default all that were run.",
            rich_help_panel=_LEARN,
        ),
    ] = None,
    metric_name: Annotated[
        str | None,
        typer.Option(
            "--metric-name",
            metavar="METRIC[:MAX|MIN]",
            rich_help_panel=_LEARN,
            help="What is best; by default what the latest run selected weights by.",
        ),
    ] = None,
    filter: Annotated[
        str | None,
        typer.Option(
            "--filter",
            help="Only runs that meet this condition, as in `runs list`.",
            rich_help_panel=_LEARN,
        ),
    ] = None,
    any_code: Annotated[
        bool,
        typer.Option(
            "--any-code", help="Learn also from runs that other code made.", rich_help_panel=_LEARN
        ),
    ] = False,
    strategy: Annotated[
        str,
        typer.Option("--strategy", help=f"One of {', '.join(STRATEGIES)}.", rich_help_panel=_HOW),
    ] = "auto",
    top_n: Annotated[
        int, typer.Option("--top-n", help="Best configurations to vary.", rich_help_panel=_HOW)
    ] = 3,
    num_variations_per_config: Annotated[
        int,
        typer.Option(
            "--num-variations-per-config", help="Variations of each.", rich_help_panel=_HOW
        ),
    ] = 2,
    perturbation_magnitude: Annotated[
        float,
        typer.Option(
            "--perturbation-magnitude",
            rich_help_panel=_HOW,
            help="Size of a variation, as a share of each range.",
        ),
    ] = 0.1,
    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            rich_help_panel=_HOW,
            help="Suggestions in all, by default variations times best ones.",
        ),
    ] = None,
    max_params: Annotated[
        str | None,
        typer.Option(
            "--max-params",
            metavar="COUNT",
            rich_help_panel=_HOW,
            help="No model with more parameters, for example 5M.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="TIME",
            rich_help_panel=_HOW,
            help="Training time for all suggestions together: 90, 30m, 2h.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of chance.", rich_help_panel=_HOW)] = 0,
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Where the files go.")] = Path(
        DEFAULT_FOLDER
    ),
    explain: Annotated[
        bool, typer.Option("--explain", help="Say of each why, and all that it changes.")
    ] = False,
    run_them: Annotated[bool, typer.Option("--run", help="Run them, too.")] = False,
    database: DbOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Suggest what to run next, as configuration files, each with the reason why.

    It learns from the recorded runs of one data set. The same runs and the same --seed give the
    same suggestions; what is recorded or running already is never suggested.
    """
    from research_eval.allocator import tune_allocator
    from research_eval.suggest.past import Question
    from research_eval.suggest.suggesting import Request, require_writable

    tuned = tune_allocator() if run_them else ""  # before torch loads
    request = Request(
        strategy=strategy,
        top_n=top_n,
        variations=num_variations_per_config,
        n=n,
        magnitude=perturbation_magnitude,
        max_params=_amount(max_params),
        budget=parse_time(budget, "--budget"),
        seed=seed,
    )
    models = tuple(split_commas(model_type))
    asked = Question(dataset_name, models, metric_name, filter, any_code)
    require_writable(output_dir)
    paths, shortage = _suggest(
        asked,
        request,
        output_dir,
        database,
        form,
        explain=explain,
        is_shown=not run_them or form is Format.TABLE,
    )
    if paths and not run_them:
        note(f"next: {printable(shlex.join(['research-eval', 'run', *map(str, paths)]))}")
    if run_them and paths:
        from research_eval.cli.run import run

        note(tuned)
        run([str(path) for path in paths], database=database, form=form)
    if shortage is not None:
        raise shortage


def _amount(text: str | None) -> float | None:
    try:
        return None if text is None else parse_amount(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--max-params") from None


def _suggest(
    question: Question,
    request: Request,
    folder: Path,
    database: str | None,
    form: Format,
    *,
    explain: bool,
    is_shown: bool,
) -> tuple[list[Path], IncompleteError | None]:
    """Write suggestions and show them; return their files, and an error if they are too few."""
    from research_eval.cli._batch import OneRun
    from research_eval.suggest.suggesting import Suggester, write_files

    with reading(database) as store, display() as shown:
        suggester = Suggester(store, question, request, OneRun("counting parameters", shown))
        found = suggester.suggestions()
        paths = write_files(found, suggester.past, folder)
    for line in suggester.learnt_from():
        note(printable(line))
    if is_shown and (found or form is not Format.TABLE):
        _show(found, paths, suggester, form, explain=explain)
    return paths, _shortage(len(found), request)


def _shortage(found: int, request: Request) -> IncompleteError | None:
    """Return the error that says why there are fewer suggestions than were asked for."""
    from research_eval.errors import IncompleteError

    if found >= request.count:
        return None
    limits = [*["--max-params"] * bool(request.max_params), *["--budget"] * bool(request.budget)]
    why = f"no more fit {' and '.join(limits)}" if limits else "all others are on record"
    return IncompleteError(f"{found} of {request.count} suggestions: {why}")


def _show(
    found: Sequence[Suggestion],
    paths: Sequence[Path],
    suggester: Suggester,
    form: Format,
    *,
    explain: bool,
) -> None:
    metric = suggester.past.objective.name
    rows = [_row(each, path) for each, path in zip(found, paths, strict=True)]
    columns = [
        Column("file", "file", is_fixed=True),
        Column("model_type", "model", is_optional=True),
        Column("kind", "kind"),
        Column("parent", "from run", lambda run: printable(run[:8])),
        Column("mean", metric, number, is_number=True),
        Column("sd", "±", number, is_number=True),
        Column("probability", "P(better)", lambda p: f"{p:.2f}", is_number=True),
        Column("seconds", "time", duration, is_number=True, is_optional=True),
        Column("changed", "changes", _changes),
    ]
    print_rows(rows, columns, form)
    if explain and form is Format.TABLE:
        for each, path in zip(found, paths, strict=True):
            _explain(each, path)


def _row(each: Suggestion, path: Path) -> dict[str, Any]:
    return {"file": path.name, "path": str(path)} | asdict(each)


def _changes(changed: Mapping[str, Any]) -> str:
    shown = [f"{path.rpartition('.')[2]} {field_text(v)}" for path, v in changed.items()]
    more = [f"{len(shown) - SHOWN_CHANGES} more"] * (len(shown) > SHOWN_CHANGES)
    return ", ".join([*shown[:SHOWN_CHANGES], *more]) or "nothing"


def _explain(each: Suggestion, path: Path) -> None:
    write(f"\n{printable(path)}: {printable(each.reason)}")
    for name, value in each.changed.items():
        write(f"  {printable(name)}={field_text(value)}")
    if each.repairs:
        write(f"  made legal by {printable(', '.join(each.repairs))}")
    if each.parent is not None and each.distance is not None:
        write(f"  the most similar configuration on record is {each.distance:.2f} ranges away")

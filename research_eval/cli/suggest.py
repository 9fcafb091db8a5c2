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


DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset-name", help="By default that of the latest run.", rich_help_panel=_LEARN
    ),
]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model-type",
        metavar="NAMES",
        help="By default all that were run.",
        rich_help_panel=_LEARN,
    ),
]
MetricOption = Annotated[
    str | None,
    typer.Option(
        "--metric-name",
        metavar="METRIC[:MAX|MIN]",
        rich_help_panel=_LEARN,
        help="What is best; by default what the latest run selected weights by.",
    ),
]
FilterOption = Annotated[
    str | None,
    typer.Option(
        "--filter",
        help="Only runs that meet this condition, as in `runs list`.",
        rich_help_panel=_LEARN,
    ),
]
AnyCodeOption = Annotated[
    bool,
    typer.Option(
        "--any-code", help="Learn also from runs that other code made.", rich_help_panel=_LEARN
    ),
]
StrategyOption = Annotated[
    str, typer.Option("--strategy", help=f"One of {', '.join(STRATEGIES)}.", rich_help_panel=_HOW)
]
TopOption = Annotated[
    int, typer.Option("--top-n", help="Best configurations to vary.", rich_help_panel=_HOW)
]
VariationsOption = Annotated[
    int,
    typer.Option("--num-variations-per-config", help="Variations of each.", rich_help_panel=_HOW),
]
MagnitudeOption = Annotated[
    float,
    typer.Option(
        "--perturbation-magnitude",
        rich_help_panel=_HOW,
        help="Size of a variation, as a share of each range.",
    ),
]
CountOption = Annotated[
    int | None,
    typer.Option(
        "--n",
        rich_help_panel=_HOW,
        help="Suggestions in all, by default variations times best ones.",
    ),
]
MaxParamsOption = Annotated[
    str | None,
    typer.Option(
        "--max-params",
        metavar="COUNT",
        rich_help_panel=_HOW,
        help="No model with more parameters, for example 5M.",
    ),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="TIME",
        rich_help_panel=_HOW,
        help="Training time for all suggestions together: 90, 30m, 2h.",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Of chance.", rich_help_panel=_HOW)]
FolderOption = Annotated[Path, typer.Option("--output-dir", help="Where the files go.")]
ExplainOption = Annotated[
    bool, typer.Option("--explain", help="Say of each why, and all that it changes.")
]
RunOption = Annotated[bool, typer.Option("--run", help="Run them, too.")]


def suggest(
    dataset_name: DatasetOption = None,
    model_type: ModelsOption = None,
    metric_name: MetricOption = None,
    filter: FilterOption = None,
    any_code: AnyCodeOption = False,
    strategy: StrategyOption = "auto",
    top_n: TopOption = 3,
    num_variations_per_config: VariationsOption = 2,
    perturbation_magnitude: MagnitudeOption = 0.1,
    n: CountOption = None,
    max_params: MaxParamsOption = None,
    budget: BudgetOption = None,
    seed: SeedOption = 0,
    output_dir: FolderOption = Path(DEFAULT_FOLDER),
    explain: ExplainOption = False,
    run_them: RunOption = False,
    database: DbOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Suggest what to run next, as configuration files, each with the reason why.

    It learns from the recorded runs of one data set. The same runs and the same --seed give the
    same suggestions; what is recorded or running already is never suggested.
    """
    from research_eval.allocator import tune_allocator

    tuned = tune_allocator() if run_them else ""  # before torch loads
    from research_eval.suggest.past import Question
    from research_eval.suggest.suggesting import Request

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
    asked = Question(dataset_name, tuple(split_commas(model_type)), metric_name, filter, any_code)
    shown = form if form is Format.TABLE or not run_them else None
    paths, shortage = _suggest(asked, request, output_dir, database, shown, explain=explain)
    if paths:
        _go_on([str(path) for path in paths], database, form, run_them=run_them, tuned=tuned)
    if shortage is not None:
        raise shortage


def _go_on(
    paths: list[str], database: str | None, form: Format, *, run_them: bool, tuned: str
) -> None:
    """Run the suggestions, or say how."""
    from research_eval.cli.run import run

    if run_them:
        note(tuned)
        run(paths, database=database, form=form)
    else:
        note(f"next: {printable(shlex.join(['research-eval', 'run', *paths]))}")


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
    form: Format | None,
    *,
    explain: bool,
) -> tuple[list[Path], IncompleteError | None]:
    """Write suggestions, show them if a form is given; return files, an error if too few."""
    from research_eval.cli._batch import OneRun
    from research_eval.files import require_writable
    from research_eval.suggest.suggesting import Suggester, write_files

    require_writable(folder)
    with reading(database) as store, display() as shown:
        suggester = Suggester(store, question, request, OneRun("counting parameters", shown))
        found = suggester.suggestions()
        paths = write_files(found, suggester.past, folder)
    for line in suggester.learnt_from():
        note(printable(line))
    if form is not None and (found or form is not Format.TABLE):
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

"""`compare`: does an idea beat its baselines at equal cost?"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from research_eval.allocator import tune_allocator
from research_eval.cli._crew import Crew, GpusOption, WorkersOrNoneOption
from research_eval.cli._options import DbOption, FormatOption, split_commas
from research_eval.cli._render import (
    Column,
    Format,
    amount,
    note,
    number,
    print_rows,
    printable,
    to_json,
    write,
)
from research_eval.cli._reports import as_records
from research_eval.cli._study_plan import forecast_of, show_forecast
from research_eval.cli._study_result import near, raise_if_nothing
from research_eval.cli._study_view import study_view
from research_eval.cli.run import find_place
from research_eval.comparing.names import DEFAULT_AXIS, DEFAULT_SEEDS, DEFAULT_TRIALS, REPORTS
from research_eval.errors import IncompleteError

if TYPE_CHECKING:
    from research_eval.comparing import Comparison, Outcome

CandidateArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="Configuration of the idea; names its arm.")
]
BaselinesOption = Annotated[
    list[str],
    typer.Option(
        metavar="NAMES",
        help="Models, ./file.py:Name beside CONFIG, or configuration files (.json).",
    ),
]
MatchOption = Annotated[
    str,
    typer.Option(
        metavar="AXIS",
        help="What every trial of every arm has as much of as CONFIG: params, active_params or "
        "flops.",
    ),
]
TrialsOption = Annotated[
    int, typer.Option(help="Trials in total, as in hpo; each arm gets equally many.")
]
SeedsOption = Annotated[
    int, typer.Option(help="Fresh seeds on which each arm's winner is run; they decide.")
]
NameOption = Annotated[
    str | None,
    typer.Option("--study-name", help="Of the comparison and its study; by default compare_NAME."),
]
SearchOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH=RANGE",
        help="Change a range, as in hpo; the name of an arm in brackets behind model_params means "
        "only that one.",
    ),
]
ObjectiveOption = Annotated[
    str | None,
    typer.Option(
        metavar="METRIC:MAX|MIN",
        help="What decides, by default final_val_f1:max, or final_val_loss:min for language "
        "modelling.",
    ),
]
MarginOption = Annotated[
    float | None,
    typer.Option(help="Differences smaller than this do not matter; allows to show equivalence."),
]
SeedOption = Annotated[int, typer.Option(help="Of the sampling.")]
FolderOption = Annotated[
    Path, typer.Option(metavar="DIR", help="Where a folder with the report is made.")
]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Show arms, runs, time, memory and disk; record nothing."),
]


def compare(
    config: CandidateArgument,
    baselines: BaselinesOption,
    match: MatchOption = DEFAULT_AXIS,
    n_trials: TrialsOption = DEFAULT_TRIALS,
    seeds: SeedsOption = DEFAULT_SEEDS,
    study_name: NameOption = None,
    search: SearchOption = None,
    objective: ObjectiveOption = None,
    margin: MarginOption = None,
    seed: SeedOption = 0,
    workers: WorkersOrNoneOption = 1,
    gpus: GpusOption = None,
    output_dir: FolderOption = REPORTS,
    dry_run: DryRunOption = False,
    database: DbOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Find out whether an idea beats its baselines at equal cost, and say it in one sentence.

    Checks the contract of plug-ins, makes all arms cost the same, writes a plan, tunes each arm
    with equally many trials, runs each winner on fresh seeds, and writes a report with the verdict.
    The same command continues after any interruption.
    """
    tuned = tune_allocator()  # before torch loads
    crew = Crew.of(workers, gpus)
    from research_eval.comparing import Comparison, Question

    comparison = Comparison(
        Question(
            candidate=config,
            baselines=tuple(split_commas(baselines)),
            match=match,
            n_trials=n_trials,
            seeds=seeds,
            name=study_name,
            search=tuple(search or ()),
            objective=objective,
            margin=margin,
            sampling_seed=seed,
        )
    )
    if dry_run:
        _show_dry_run(comparison, crew, form)
        return
    note(tuned)
    _carry_out(comparison, crew, database, output_dir, form)


ARMS = (
    Column("arm", "arm"),
    Column("source", "from"),
    Column("model_type", "model"),
    Column("searched", "searched", is_number=True),
    Column("params", "parameters", amount, is_number=True),
    Column("active_params", "active", amount, is_number=True),
    Column("flops", "FLOPs/token", amount, is_number=True),
)
"""Arms before anything is run: what they cost with everything searched at its default."""


def _arm_rows(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {
            "arm": label,
            "source": arm["source"],
            "model_type": arm["model_type"],
            "searched": len(arm["searched"]),
            **arm["cost"],
        }
        for label, arm in comparison.plan.question["arms"].items()
    ]


def _show_dry_run(comparison: Comparison, crew: Crew, form: Format) -> None:
    rows = _arm_rows(comparison)
    if form is Format.JSON:
        cost = forecast_of(comparison.spec, crew)
        write(
            to_json(
                {
                    "plan": comparison.plan,
                    "arms": rows,
                    "warnings": comparison.warnings,
                    "forecast": cost,
                }
            )
        )
        return
    print_rows(rows, ARMS, form, title=f"each trial scaled to {comparison.target}")
    for line in comparison.warnings:
        note(line)
    show_forecast(comparison.spec, crew, form)


def _carry_out(
    comparison: Comparison, crew: Crew, database: str | None, folder: Path, form: Format
) -> None:
    from research_eval.cli.check import require_kept

    for plugin in comparison.plugins:
        require_kept(plugin, comparison.task)
    url = find_place(database)
    for line in comparison.warnings:
        note(line)
    with study_view(comparison.spec.name) as view:
        outcome = comparison.run(
            url, workers=crew.workers or None, gpus=crew.gpus, audience=view, folder=folder
        )
    if not view.num_started and outcome.confirmed == outcome.to_confirm:
        note(f"comparison {comparison.spec.name} is finished; this is what it found")
    _show(outcome, form)
    _say_next(outcome)
    raise_if_nothing(outcome.study)
    if outcome.confirmed < outcome.to_confirm:
        raise IncompleteError(
            f"{outcome.confirmed} of {outcome.to_confirm} runs on fresh seeds are completed"
        )


def _show(outcome: Outcome, form: Format) -> None:
    arms = outcome.report.section("arms")
    contrasts = outcome.report.section("contrasts")
    rows, tests = (
        [] if section is None or section.table is None else as_records(section.table)
        for section in (arms, contrasts)
    )
    if form is Format.JSON:
        told = {
            "verdicts": outcome.verdicts,
            "arms": rows,
            "contrasts": tests,
            "departures": outcome.departures,
            "plan": outcome.plan,
            "files": [str(path) for path in outcome.files],
        }
        write(to_json(told))
        return
    if form is Format.TABLE:
        for sentence in outcome.verdicts:
            write(printable(sentence))
        write("")
    question = outcome.report.evidence.question
    print_rows(rows, _columns(question.metric, question.test_metric), form)


def _columns(metric: str, test: str | None) -> list[Column]:
    scores = [metric, *([test] if test else [])]
    return [
        Column("arm", "arm"),
        Column("trials", "trials", is_number=True),
        Column("seeds", "seeds", is_number=True),
        *(Column(name, name, number, is_number=True) for name in scores),
        Column("low", "95 % from", number, is_number=True),
        Column("high", "to", number, is_number=True),
        Column("param_count", "parameters", amount, is_number=True, is_optional=True),
        Column("active_param_count", "active", amount, is_number=True, is_optional=True),
        Column("flops_per_token", "FLOPs/token", amount, is_number=True, is_optional=True),
    ]


def _say_next(outcome: Outcome) -> None:
    for line in outcome.departures or ("everything went as planned",):
        note(printable(line))
    plan, *pages = outcome.files
    note(f"plan: {printable(near(plan))}")
    for page in pages:
        if page.suffix in (".html", ".md"):
            note(f"report: {printable(near(page))}")
    candidate, *baselines = outcome.plan.question["arms"]
    runs = {arm: trial.confirmed for arm, trial in outcome.study.best.items() if trial.confirmed}
    others = [arm for arm in baselines if arm in runs]
    if candidate in runs and others:
        ids = [runs[arm][0].experiment_id for arm in (candidate, others[-1])]
        note(f"next: research-eval explain {ids[0]} --vs {ids[1]}")
    condition = f'study == "{outcome.plan.name}"'
    command = ["research-eval", "suggest", "--filter", condition]
    note(f"      {printable(shlex.join(command))}")

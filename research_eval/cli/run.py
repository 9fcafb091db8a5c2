"""`run`: configurations in, recorded runs out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from research_eval.cli._batch import Batch, OneRun, show_records
from research_eval.cli._cases import Cases, gather
from research_eval.cli._crew import Crew, GpusOption, NprocOption, WorkersOption
from research_eval.cli._options import (
    DbOption,
    FormatOption,
    is_setting,
    parse_seeds,
    seeds_in_words,
    split_commas,
    split_settings,
)
from research_eval.cli._plans import show_plans
from research_eval.cli._progress import display
from research_eval.cli._render import Format, note, printable
from research_eval.processes import launched

ConfigsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CONFIG | PATH=VALUE]...",
        help="Configuration files, and settings that replace what they say.",
    ),
]
JsonOption = Annotated[
    list[str] | None, typer.Option("--json", metavar="FILE", help="Configuration files.")
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Settings, for example epochs=2."),
]
SeedsOption = Annotated[
    list[str] | None,
    typer.Option("--seeds", help="How many (5), a range (10-14) or a list (1,3,7)."),
]
SweepOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH=VALUES",
        help="Every combination of these, for example model_params.top_k=1,2 or seed=0-4.",
    ),
]
AblateOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH=VALUES",
        help="The configuration as it is, and with each of these changes alone.",
    ),
]
GroupOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Record the runs as this group.")
]
PrintJobsOption = Annotated[
    bool, typer.Option("--print-jobs", help="Print a command for each run; run nothing.")
]
ResumeOption = Annotated[
    str | None, typer.Option(metavar="ID", help="Continue this interrupted run from its record.")
]
AgainOption = Annotated[bool, typer.Option("--again", help="Run also what is recorded already.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what it would cost; record nothing.")
]


def run(
    arguments: ConfigsArgument = None,
    json: JsonOption = None,
    settings: SettingsOption = None,
    seeds: SeedsOption = None,
    sweep: SweepOption = None,
    ablate: AblateOption = None,
    group: GroupOption = None,
    workers: WorkersOption = 1,
    gpus: GpusOption = None,
    nproc: NprocOption = 1,
    print_jobs: PrintJobsOption = False,
    resume: ResumeOption = None,
    again: AgainOption = False,
    dry_run: DryRunOption = False,
    database: DbOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Carry out experiments and record them.

    What is recorded already is not run again, and what was interrupted continues, so the same
    command can be typed until all is done.
    """
    from research_eval.allocator import tune_allocator

    tuned = tune_allocator()  # before torch loads
    crew, asked = Crew.sharing(nproc, workers, gpus), parse_seeds(seeds)
    if resume is not None:
        others = (arguments, json, settings, seeds, sweep, ablate, group, again, dry_run)
        if any(others) or print_jobs or crew.workers > 1 or crew.gpus:
            told = "takes nothing beside it but --nproc, --db and --format"
            raise typer.BadParameter(told, param_hint="--resume")
        note(tuned)
        _resume(resume, database, form, nproc=crew.nproc)
        return
    files, overrides = _files_and_settings(arguments, json, settings)
    cases = gather(files, overrides, sweep, ablate, seeds=asked, group=group)
    if print_jobs:
        _print_jobs(cases, database, again=again, nproc=nproc)
        return
    if cases.seeds:
        note(seeds_in_words(cases.seeds))
    if dry_run:
        varied, size = cases.columns(), crew.nproc
        show_plans(cases.experiments, cases.seeds, database, form, varied=varied, processes=size)
        return
    note(tuned)
    _carry_out(cases, database, form, again=again, crew=crew)


def _files_and_settings(
    arguments: list[str] | None, json: list[str] | None, settings: list[str] | None
) -> tuple[list[str], list[str]]:
    """Return the configuration files, and the `path=value` settings of all of them."""
    named = [each for each in arguments or () if not is_setting(each) or Path(each).exists()]
    files = [*named, *split_commas(json)]
    if not files:
        raise typer.BadParameter("name a file, for example first.json", param_hint="CONFIG")
    overrides = [each for each in arguments or () if each not in named]
    return files, overrides + split_settings(settings)


def _print_jobs(cases: Cases, database: str | None, *, again: bool, nproc: int) -> None:
    group = [] if cases.group is None else ["--group", cases.group]
    place = [] if database is None else ["--db", database]
    sharing = [] if nproc == 1 else ["--nproc", f"{nproc}"]
    cases.print_commands([*group, *place, *sharing, *(["--again"] if again else [])])
    note(
        "next: add `> jobs.txt`; the task of a job array runs "
        '`eval "$(sed -n "${SLURM_ARRAY_TASK_ID}p" jobs.txt)"`'
    )


def _carry_out(
    cases: Cases, database: str | None, form: Format, *, again: bool, crew: Crew
) -> None:
    from research_eval import executors
    from research_eval.jobs import Job
    from research_eval.records import Place

    if launched() is not None:
        cases.require_one()
    jobs = [
        replace(Job.of(experiment, seed, source=label, again=again), place=Place(group=cases.group))
        for label, experiment in cases.experiments.items()
        for seed in cases.seeds_of(label)
    ]
    url = find_place(database)
    crew = crew.at_most(len(jobs))
    batch = Batch(jobs, cases.columns(), cases.group)
    try:
        with display() as batch.display:
            if crew.workers == 1 and not crew.gpus:
                executors.run_here(jobs, url, batch, processes=crew.nproc)
            else:
                batch.say(crew.in_words())
                executors.run_in_workers(jobs, url, batch, workers=crew.workers, gpus=crew.gpus)
    finally:
        batch.show_results(form)
    batch.raise_if_incomplete()


def find_place(database: str | None) -> str | Path:
    """Say where runs will be recorded; what is there already must be a store that can be used."""
    from research_eval.store import Store
    from research_eval.store.engine import parse_address
    from research_eval.store.location import locate

    url = database or locate(create=True)
    address = parse_address(url)
    is_new = address.path is not None and not address.path.exists()
    if not is_new:
        Store.open(url, create=True).close()
    note(f"database: {printable(address)}{' (new)' if is_new else ''}")
    return url


def _resume(run_id: str, database: str | None, form: Format, *, nproc: int) -> None:
    from research_eval import execute
    from research_eval.store import Store
    from research_eval.store.location import locate
    from research_eval.training.progress import Watcher

    with Store.open(database or locate(create=False)) as store:
        note(f"database: {printable(store.path or store.url)}")
        record = store.run(run_id)
        with display() as shown:
            watcher: Watcher = OneRun(record.experiment_name, shown)
            outcome = execute.resume(record, store, watcher, processes=nproc)
    show_records([outcome.record], form)

"""`run`: configurations in, recorded runs out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from research_eval.cli._batch import Batch, OneRun, show_records
from research_eval.cli._options import (
    DbOption,
    FormatOption,
    is_setting,
    parse_seeds,
    seeds_in_words,
    split_commas,
    split_settings,
)
from research_eval.cli._progress import display
from research_eval.cli._records import SHORTEST_ID
from research_eval.cli._render import Column, Format, amount, note, print_rows, printable, size
from research_eval.errors import ConfigError, Issue

if TYPE_CHECKING:
    from research_eval.config import Experiment
    from research_eval.store import Store


def run(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG | PATH=VALUE]...",
            help="Configuration files, and settings that replace what they say.",
        ),
    ] = None,
    json: Annotated[
        list[str] | None, typer.Option("--json", metavar="FILE", help="Configuration files.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Settings, for example epochs=2."),
    ] = None,
    seeds: Annotated[
        list[str] | None,
        typer.Option("--seeds", help="How many (5), a range (10-14) or a list (1,3,7)."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the runs.")] = 1,
    resume: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Continue this interrupted run from its record."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Run also what is recorded already.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what it would cost; record nothing.")
    ] = False,
    database: DbOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Carry out experiments and record them.

    What is recorded already is not run again, and what was interrupted continues, so the same
    command can be typed until all is done.
    """
    from research_eval.allocator import tune_allocator

    tuned = tune_allocator()  # before torch loads
    files = [a for a in arguments or () if not is_setting(a) or Path(a).exists()]
    overrides = [a for a in arguments or () if a not in files] + split_settings(settings)
    files += split_commas(json)
    asked = parse_seeds(seeds)
    if resume is not None:
        if files or overrides or asked or again or dry_run or workers > 1:
            raise typer.BadParameter(
                "takes nothing beside it but --db and --format", param_hint="--resume"
            )
        note(tuned)
        _resume(resume, database, form)
        return
    if not files:
        raise typer.BadParameter("name a file, for example first.json", param_hint="CONFIG")
    experiments = _load(files, overrides)
    if asked:
        note(seeds_in_words(asked))
    if dry_run:
        _show_plans(experiments, asked, database, form)
        return
    note(tuned)
    _carry_out(experiments, asked, database, form, again=again, workers=workers)


def _load(files: Sequence[str], overrides: Sequence[str]) -> dict[str, Experiment]:
    """Return all configurations, or raise with the mistakes of all."""
    from research_eval.config import load_file

    loaded: dict[str, Experiment] = {}
    wrong: list[tuple[str, ConfigError]] = []
    for file in files:
        try:
            loaded[file] = load_file(Path(file), overrides)
        except ConfigError as error:
            wrong.append((file, error))
    if len(wrong) == 1:
        raise wrong[0][1]
    if wrong:
        issues = [
            Issue(file, str(issue)) for file, error in wrong for issue in error.issues or (error,)
        ]
        raise ConfigError(f"{len(wrong)} of {len(files)} configurations are not legal", issues)
    return loaded


def _carry_out(
    experiments: Mapping[str, Experiment],
    seeds: Sequence[int],
    database: str | None,
    form: Format,
    *,
    again: bool,
    workers: int,
) -> None:
    from research_eval import executors
    from research_eval.jobs import Job

    jobs = [
        Job.of(experiment, seed, source=file, again=again)
        for file, experiment in experiments.items()
        for seed in seeds or [experiment.config.seed]
    ]
    url = _place(database)
    workers = min(workers, len(jobs))
    batch = Batch(jobs)
    try:
        with display() as batch.display:
            if workers == 1:
                executors.run_here(jobs, url, batch)
            else:
                batch.say(
                    f"{workers} workers with {executors.threads_each(workers)} CPU threads each; "
                    "another number of threads may change the last digits of results"
                )
                executors.run_in_workers(jobs, url, batch, workers=workers)
    finally:
        batch.show_results(form)
    batch.raise_if_incomplete()


def _place(database: str | None) -> str | Path:
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


def _resume(run_id: str, database: str | None, form: Format) -> None:
    from research_eval import execute
    from research_eval.store import Store
    from research_eval.store.location import locate
    from research_eval.training.progress import Watcher

    with Store.open(database or locate(create=False)) as store:
        note(f"database: {printable(store.path or store.url)}")
        record = store.run(run_id)
        with display() as shown:
            watcher: Watcher = OneRun(record.experiment_name, shown)
            outcome = execute.resume(record, store, watcher)
    show_records([outcome.record], form)


def _show_plans(
    experiments: Mapping[str, Experiment],
    seeds: Sequence[int],
    database: str | None,
    form: Format,
) -> None:
    from research_eval import execute
    from research_eval.prepare import plan, prepare

    rows = []
    with _existing(database) as store, display() as shown:
        for file, experiment in experiments.items():
            config = experiment.config
            prepared = prepare(experiment, OneRun(file, shown))
            done = [
                record
                for seed in seeds or [config.seed]
                for record in (execute.recorded(prepared.with_seed(seed), store) if store else ())
            ]
            rows.append(
                {
                    "config": file,
                    "experiment_name": config.experiment_name,
                    "model_type": config.model_type,
                    "dataset_name": config.dataset_name,
                    "runs": len(seeds or [config.seed]),
                    **asdict(plan(prepared)),
                    "recorded": {r.experiment_id: str(r.status) for r in done},
                }
            )
    print_rows(rows, PLAN_COLUMNS, form)


@contextmanager
def _existing(database: str | None) -> Iterator[Store | None]:
    """Open the store for reading if there is one."""
    from research_eval.store import Store
    from research_eval.store.engine import parse_address
    from research_eval.store.location import locate

    url = database or locate(create=True)
    path = parse_address(url).path
    if path is not None and not path.exists():
        yield None
        return
    with Store.open(url, mode="ro") as store:
        yield store


def _recorded(found: Mapping[str, str]) -> str:
    names = (f"{printable(name[:SHORTEST_ID])} {status.lower()}" for name, status in found.items())
    return ", ".join(names) or "nothing"


PLAN_COLUMNS = (
    Column("experiment_name", "name"),
    Column("model_type", "model"),
    Column("data", "data"),
    Column("runs", "runs", is_number=True),
    Column("param_count", "parameters", amount, is_number=True),
    Column("active_param_count", "active", amount, is_number=True),
    Column("steps", "steps", "{:,}".format, is_number=True),
    Column("tokens", "tokens", amount, is_number=True),
    Column("flops", "FLOPs", amount, is_number=True),
    Column("memory_bytes", "memory", size, is_number=True),
    Column("disk_bytes", "disk", size, is_number=True),
    Column("recorded", "recorded", _recorded),
)
"""A plan as a table; tokens, FLOPs and steps are those of one run."""

"""`studies`: look at recorded studies. Nothing here needs Optuna or torch."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from research_eval.cli._options import DbOption, FormatOption
from research_eval.cli._render import (
    Column,
    Format,
    age,
    note,
    number,
    print_rows,
    printable,
    to_json,
    write,
)
from research_eval.cli._study_plan import SPACE, in_words, space_rows
from research_eval.cli._study_result import trial_columns, trial_row
from research_eval.cli._study_view import counts_in_words
from research_eval.cli.runs import reading
from research_eval.errors import StoreError, did_you_mean

if TYPE_CHECKING:
    from research_eval.hpo.book import Book
    from research_eval.store import Store
    from research_eval.store.studies import StudyRecord

app = typer.Typer(help="Look at recorded studies.")

LIST = (
    Column("study", "study"),
    Column("data", "data"),
    Column("trials", "trials", is_number=True),
    Column("states", "states", is_optional=True),
    Column("objective", "objective"),
    Column("best", "best", number, is_number=True),
    Column("arm", "of"),
    Column("age_seconds", "age", age, is_number=True),
)


@app.command("list")
def list_studies(database: DbOption = None, form: FormatOption = Format.TABLE) -> None:
    """List studies, newest first."""
    with reading(database) as store:
        rows = [_row(record, _recall(store, record)) for record in store.studies()]
    print_rows(rows, LIST, form)
    note(
        f"next: research-eval studies show {printable(rows[0]['study'])}"
        if rows
        else "no study is recorded; next: research-eval hpo --dry-run"
    )


@app.command()
def show(
    study: Annotated[str, typer.Argument(metavar="NAME", help="Name of the study.")],
    trials: Annotated[
        bool, typer.Option("--trials", help="Show every trial, not only the best of each arm.")
    ] = False,
    database: DbOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show what a study was asked and what it found."""
    with reading(database) as store:
        record = _find(store, study)
        book = _recall(store, record)
    told = json.loads(record.spec_json)
    names = [objective.name for objective in book.objectives]
    chosen = list(book.trials.values()) if trials else [*book.best().values()]
    chosen = sorted(chosen, key=lambda trial: trial.number) if trials else chosen
    rows = [trial_row(trial, names) for trial in chosen]
    if form is Format.JSON:
        every = [trial_row(trial, names) for _, trial in sorted(book.trials.items())]
        write(to_json({"asked": told["asked"], "space": told["spaces"], "trials": every}))
        return
    if form is Format.TABLE:
        write(printable(in_words(book.spec, tuple(told["spaces"]))))
        states = counts_in_words(book.counts(), running="begun")
        write(f"{book.standing().finished} trials are finished: {states}\n")
        print_rows(space_rows(told["spaces"]), SPACE, form)
        write("")
    title = "" if form is Format.CSV else "all trials" if trials else "best of each arm"
    print_rows(rows, trial_columns(names, rows), form, title=title)
    if rows:
        run = rows[0]["runs"][0] if rows[0]["runs"] else "last"
        note(f"next: research-eval runs show {run}")


def _find(store: Store, name: str) -> StudyRecord:
    for record in store.studies(name):
        return record
    known = [each.name for each in store.studies()]
    raise StoreError(f"there is no study '{name}'; {did_you_mean(name, known)}")


def _recall(store: Store, record: StudyRecord) -> Book:
    from research_eval.hpo.remembering import recall

    return recall(record, store.study_runs(record.name))


def _row(record: StudyRecord, book: Book) -> dict[str, Any]:
    told = json.loads(record.spec_json)
    objective = book.objectives[0]
    best = None
    for trial in book.best().values():
        if best is None or objective.is_better(trial.values[0], best.values[0]):
            best = trial
    standing = book.standing()
    began = record.timestamp.replace(tzinfo=record.timestamp.tzinfo or UTC)
    return {
        "study": record.name,
        "data": told["data"][1],
        "trials": f"{standing.finished} of {standing.total}",
        "states": counts_in_words(standing.counts, running="begun"),
        "objective": str(objective),
        "best": None if best is None else best.values[0],
        "arm": None if best is None else best.arm,
        "best_trial": None if best is None else best.number,
        "timestamp": began.isoformat(timespec="seconds"),
        "age_seconds": (datetime.now(UTC) - began).total_seconds(),
    }

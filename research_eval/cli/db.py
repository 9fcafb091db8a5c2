"""`db`: look after the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from research_eval.cli._counting import counting
from research_eval.cli._options import DbOption, FormatOption
from research_eval.cli._render import (
    Column,
    Format,
    note,
    print_rows,
    print_sections,
    printable,
    size,
)
from research_eval.cli.editing import writing
from research_eval.cli.runs import reading
from research_eval.errors import StoreError

if TYPE_CHECKING:
    from research_eval.store.garbage import Garbage
    from research_eval.store.verify import Check

app = typer.Typer(help="Look after the database.")

_LARGEST = 5


@app.command()
def init(database: DbOption = None) -> None:
    """Make an empty database; one that is there is left as it is."""
    from research_eval.store import Store
    from research_eval.store.location import locate

    Store.open(database or locate(create=True), create=True).close()
    with reading(database):
        pass


@app.command()
def info(database: DbOption = None, form: FormatOption = Format.TABLE) -> None:
    """Show where the database is and what it holds."""
    with reading(database) as store:
        found = asdict(store.info()) | {"artifacts": str(store.artifact_dir)}
    runs = {str(status).lower(): count for status, count in found.pop("runs").items()}
    print_sections({"database": found, "runs": runs}, form)


@app.command()
def upgrade(database: DbOption = None) -> None:
    """Bring a database of an older version to this one; a copy of a file is kept."""
    from research_eval.store.location import locate
    from research_eval.store.upgrade import upgrade_store

    copy = upgrade_store(database or locate(create=False))
    with reading(database) as store:
        note(f"its schema is {store.info().schema_version}")
    if copy is not None:
        note(f"as it was before: {printable(copy)}")


@app.command()
def ingest(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="What RESEARCH_EVAL_SPOOL named there.")
    ],
    database: DbOption = None,
) -> None:
    """Take in runs from machines that could not reach the database and only left files.

    It may be repeated while they run: what they have written so far is taken in, once.
    """
    with writing(database) as store:
        done = store.ingest(folder)
    runs = ", ".join(map(printable, done.runs))
    note(f"{done.records:,} records of {len(done.runs)} runs taken in{runs and f': {runs}'}")
    for kept, reason in done.refused.items():
        note(f"refused: {printable(reason)}; kept in {printable(kept)}")
    if done.runs:
        note(f"next: research-eval runs show {printable(done.runs[-1])}")


@app.command()
def stats(database: DbOption = None, form: FormatOption = Format.TABLE) -> None:
    """Show how much room tables and runs take."""
    from research_eval.store.stats import largest_runs, table_sizes

    with reading(database) as store:
        tables = table_sizes(store)
        largest = largest_runs(store, _LARGEST)
    points = next(each for each in tables if each.table == "metric_points")
    per_point = points.bytes / points.rows if points.bytes and points.rows else None
    if form is not Format.TABLE:
        sections: dict[str, dict[str, Any]] = {
            "tables": {each.table: asdict(each) for each in tables},
            "points": {"number": points.rows, "bytes_per_point": per_point},
            "largest": {each.experiment_id: asdict(each) for each in largest},
        }
        print_sections(sections, form)
        return
    columns = [
        Column("table", "table"),
        Column("rows", "rows", "{:,}".format, is_number=True),
        Column("bytes", "size", size, is_number=True),
    ]
    print_rows([asdict(each) for each in tables], columns, form)
    if per_point is not None:
        note(f"\n{points.rows:,} points of {per_point:.1f} bytes")
    if largest:
        columns = [
            Column("experiment_id", "largest runs", is_fixed=True),
            Column("experiment_name", "name"),
            Column("metrics", "metrics", "{:,}".format, is_number=True),
            Column("points", "points", "{:,}".format, is_number=True),
        ]
        note("")
        print_rows([asdict(each) for each in largest], columns, form)


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A file or an SQLAlchemy URL.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="Likewise; made if it is missing.")],
    has_files: Annotated[
        bool, typer.Option("--files/--no-files", help="Also copy the files of the runs.")
    ] = True,
) -> None:
    """Copy every run and study into another database, of the same kind or the other.

    DST may hold other runs. What was written is read back and compared; if anything differs or
    goes wrong, DST is left as it was.
    """
    from research_eval.store import Store
    from research_eval.store.copying import copy_store, take_in_waiting

    take_in_waiting(source)
    with (
        Store.open(source, mode="ro") as here,
        Store.open(target, create=True) as there,
        counting("copied") as show,
    ):
        note(f"from {printable(here.url)} to {printable(there.url)}")
        done = copy_store(here, there, with_files=has_files, on_progress=show)
        left = "" if has_files else f"; the files stay in {here.artifact_dir}"
        folder, place = there.artifact_dir, there.path or there.url
    rows = ", ".join(f"{number:,} {name}" for name, number in done.rows.items() if number)
    note(f"copied and compared: {rows or 'no rows'}{left}")
    if done.files:
        note(f"{done.files:,} files, {size(done.bytes)}, into {printable(folder)}")
    for run in done.running:
        note(f"run {printable(run)} is still running; the copy ends where it was just now")
    note(f"next: research-eval db verify --db {printable(place)}")


@app.command()
def verify(
    repair: Annotated[
        bool, typer.Option("--repair", help="Compute summaries anew where they are wrong.")
    ] = False,
    database: DbOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Check that the database and its files still hold what was recorded."""
    from research_eval.store.verify import rebuild_summaries
    from research_eval.store.verify import verify as verify_store

    if repair:
        with writing(database) as store:
            note(f"summaries of {rebuild_summaries(store)} runs were wrong and are made anew")
    with reading(database) as store:
        checks = list(verify_store(store))
    rows = [asdict(check) | {"found": _found(check.problems)} for check in checks]
    columns = [
        Column("name", "check"),
        Column("checked", "looked at", "{:,}".format, is_number=True),
        Column("found", "found"),
    ]
    print_rows(rows, columns, form)
    problems = [problem for check in checks for problem in check.problems]
    if problems:
        for problem in problems if form is Format.TABLE else ():
            note(printable(problem))
        raise StoreError(f"{len(problems)} things are not as they were recorded; {_advice(checks)}")


def _found(problems: tuple[str, ...]) -> str:
    return f"{len(problems)} wrong" if problems else "ok"


def _advice(checks: Sequence[Check]) -> str:
    failed = {check.name for check in checks if check.problems}
    if "pages" in failed:
        return "the file is damaged: copy it away, and see what `sqlite3 FILE .recover` saves"
    if failed == {"summaries"}:
        return "`research-eval db verify --repair` computes summaries from the points"
    return "put back what is missing from a copy"


@app.command()
def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    database: DbOption = None,
) -> None:
    """Empty the trash for good: its runs, their files, and folders that no run owns."""
    from research_eval.store.garbage import collect, find_garbage

    with reading(database) if dry_run else writing(database) as store:
        garbage = find_garbage(store)
        _say(garbage)
        if dry_run:
            note("nothing was removed; without --dry-run it is")
            return
        with counting("removed") as show:
            done = 0

            def on_rows(number: int) -> None:
                nonlocal done
                done += number
                show(done, garbage.points)

            freed = collect(store, garbage, on_rows)
    note(f"the database became {size(freed)} smaller, files {size(garbage.file_bytes)}")


def _say(garbage: Garbage) -> None:
    note(
        f"to remove: {len(garbage.runs)} runs with {garbage.points:,} points, "
        f"{len(garbage.folders)} folders with {size(garbage.file_bytes)}"
    )
    owned = set(garbage.runs)
    for folder in garbage.folders:
        if folder.name not in owned:
            note(f"no run owns {printable(folder)}")
    for run in garbage.kept:
        note(f"run {printable(run)} stays in the trash: it still runs, or has runs outside of it")

"""Does the store still hold what was recorded? Each check reads, compares and reports."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

from sqlalchemy import Connection, ForeignKey, func, select
from sqlalchemy.exc import DatabaseError

from research_eval.records import RunStatus
from research_eval.store.batch import read_summaries, write_summaries
from research_eval.store.database import Store
from research_eval.store.queries import summarize
from research_eval.store.schema import artifacts, experiments, metadata, metrics
from research_eval.store.summary import RunningSummary, nan_as_null


@dataclass(frozen=True, slots=True)
class Check:
    """One kind of question, asked of everything it applies to.

    Attributes:
        checked: How many things were looked at.
        problems: What is wrong, a line each.
    """

    name: str
    checked: int
    problems: tuple[str, ...]


def verify(store: Store) -> Iterator[Check]:
    """Yield the outcome of each check, the quickest first; nothing is changed.

    Where pages of the file are damaged, no other check can be trusted, and none follows.

    Raises:
        StoreError: If the database is too damaged to be read.
    """
    with store._reading() as connection:
        if store.path is not None:
            pages = _pages(connection)
            yield pages
            if pages.problems:
                return
        yield _references(connection)
        yield _spools(store)
        yield _summaries(connection)
        yield _files(connection, store.artifact_dir)


def rebuild_summaries(store: Store) -> int:
    """Compute the table `metrics` anew from the points; return how many runs needed it."""
    with store._reading() as connection:
        wrong = [run for run, _key, problems in _compared(connection) if problems]
    for run in wrong:
        with store._writing() as connection:
            key = connection.scalar(
                select(experiments.c.id).where(experiments.c.experiment_id == run)
            )
            connection.execute(metrics.delete().where(metrics.c.experiment_id == run))
            write_summaries(connection, run, summarize(connection, int(key or 0)))
    return len(wrong)


def _pages(connection: Connection) -> Check:
    try:
        reports = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
    except DatabaseError as error:  # so damaged that even the check cannot go on
        reports = [str(error.orig)]
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    return Check("pages", pages, tuple(line for line in reports if line != "ok"))


def _references(connection: Connection) -> Check:
    """Look for rows that point to nothing; a server never lets them in, a damaged file may."""
    keys = [key for table in metadata.sorted_tables for key in table.foreign_keys]
    return Check(
        "references", len(keys), tuple(p for key in keys for p in _dangling(connection, key))
    )


def _dangling(connection: Connection, key: ForeignKey) -> Iterator[str]:
    column, meant = key.parent, key.column.table.alias()
    is_known = select(1).where(meant.c[key.column.name] == column).exists()
    query = select(func.count()).select_from(column.table).where(column.is_not(None), ~is_known)
    number = connection.scalar(query)
    if number:
        yield (
            f"{number} rows of {column.table.name} have a {column.name} that is not in "
            f"{key.column.table.name}"
        )


def _spools(store: Store) -> Check:
    """Look for records of runs that nobody writes any more."""
    waiting = store.waiting()
    living = {run.experiment_id for run in store.runs(status=RunStatus.RUNNING, metrics=())}
    problems = (
        f"{number} records of run {run} wait in {store.spool_root}; any command that writes, such "
        "as `db verify --repair`, takes them in"
        for run, number in waiting.items()
        if run not in living
    )
    return Check("spools", sum(waiting.values()), tuple(problems))


def _summaries(connection: Connection) -> Check:
    checked, problems = 0, list[str]()
    for run, _key, wrong in _compared(connection):
        checked += 1
        problems += [
            f"run {run}, {name}: the summary does not follow from the points" for name in wrong
        ]
    return Check("summaries", checked, tuple(problems))


def _compared(connection: Connection) -> Iterator[tuple[str, int, list[str]]]:
    """Yield each run with the metrics whose summary is wrong, missing or superfluous."""
    runs = select(experiments.c.experiment_id, experiments.c.id).order_by(experiments.c.id)
    for run, key in connection.execute(runs).all():
        stored = read_summaries(connection, run)
        folded = summarize(connection, key)
        wrong = [
            name
            for name in sorted(stored.keys() | folded.keys())
            if _comparable(stored.get(name)) != _comparable(folded.get(name))
        ]
        yield run, key, wrong


def _comparable(summary: RunningSummary | None) -> object:
    """NaN, which equals nothing, becomes None."""
    return summary and (nan_as_null(summary.value), *astuple(summary)[1:])


def _files(connection: Connection, folder: Path) -> Check:
    rows = connection.execute(select(artifacts.c.path, artifacts.c.sha256, artifacts.c.bytes))
    checked, problems = 0, list[str]()
    for path, sha256, size in rows:
        checked += 1
        problems += _wrong_with(folder / path, sha256, size)
    return Check("files", checked, tuple(problems))


def _wrong_with(path: Path, sha256: str, size: int) -> list[str]:
    try:
        if path.stat().st_size != size:
            return [f"{path} has {path.stat().st_size} bytes, not {size}"]
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return [f"{path} cannot be read: {error.strerror}"]
    return [] if digest == sha256 else [f"{path} was changed after it was recorded"]

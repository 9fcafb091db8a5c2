"""What nobody needs any more: runs in the trash, and folders that no run owns."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select, text, tuple_

from research_eval.errors import StoreError
from research_eval.records import RunStatus
from research_eval.store.database import Store
from research_eval.store.engine import store_errors
from research_eval.store.folders import files_in, total_size
from research_eval.store.queries import status_columns, status_now
from research_eval.store.schema import experiments, expert_stats, metric_points
from research_eval.store.transfer import RUNS_AT_ONCE, in_chunks, present, run_keys

ROWS_AT_ONCE = 20_000
"""Rows per transaction: other writers then wait about 0.1 s."""
PAGES_AT_ONCE = 2_000
YOUNG_S = 24 * 3600.0
"""A folder that is younger may belong to a run whose start is still in a spool."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """What can be removed.

    Attributes:
        runs: Ids of the runs in the trash, children before parents.
        points: How many points and arrays they have.
        folders: Their folders, and, beside a file, those that no run owns.
        file_bytes: Size of what these hold.
        kept: Ids of runs in the trash that must stay, since they still run or have children
            that are not in the trash.
    """

    runs: tuple[str, ...]
    points: int
    folders: tuple[Path, ...]
    file_bytes: int
    kept: tuple[str, ...]


def find_garbage(store: Store) -> Garbage:
    """Return what `collect` would remove; nothing is changed."""
    columns = experiments.c
    in_trash = select(columns.experiment_id, columns.parent, *status_columns())
    with store._reading() as connection:
        trash = connection.execute(
            in_trash.where(columns.deleted.is_not(None)).order_by(columns.id.desc())
        ).all()
        running = {row.experiment_id for row in trash if status_now(row) is RunStatus.RUNNING}
        of_living = select(columns.parent).where(
            columns.deleted.is_(None), columns.parent.is_not(None)
        )
        kept = running | set(connection.scalars(of_living))
        for row in trash:  # children come first, so that a kept one keeps its parents
            if row.experiment_id in kept and row.parent is not None:
                kept.add(row.parent)
        runs = tuple(row.experiment_id for row in trash if row.experiment_id not in kept)
        points = sum(_count(connection, group) for group in in_chunks(runs, RUNS_AT_ONCE))
        folders = [folder for run in runs if (folder := store.artifact_dir / run).is_dir()]
        # Another server's database of the same name may own the others.
        left = [] if store.path is None else _old_folders(store.artifact_dir)
        owned = set(present(connection, [folder.name for folder in left]))
    folders += [folder for folder in left if folder.name not in owned]
    sizes = (total_size(files_in(folder)) for folder in folders)
    still_there = tuple(row.experiment_id for row in trash if row.experiment_id in kept)
    return Garbage(runs, points, tuple(folders), sum(sizes), still_there)


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise StoreError(
            f"{error.filename} cannot be removed: {error.strerror}; `db gc` may be called again"
        ) from error


def _count(connection: Connection, runs: list[str]) -> int:
    keys = list(run_keys(connection, runs).values())
    of_runs = (
        select(func.count()).select_from(table).where(table.c.run_id.in_(keys))
        for table in (metric_points, expert_stats)
    )
    return sum(connection.scalar(query) or 0 for query in of_runs)


def collect(store: Store, garbage: Garbage, on_rows: Callable[[int], None]) -> int:
    """Remove it, in short transactions, and return how many bytes the database became smaller.

    A run that was restored in the meantime is left alone. Interrupted, it may be called again.

    Args:
        store: Open for writing.
        garbage: As found.
        on_rows: Called with the number of points removed since the last call.

    Raises:
        StoreError: If the database cannot be written, or a folder cannot be removed.
    """
    before = store.info().bytes
    for run in garbage.runs:
        for table in (metric_points, expert_stats):
            while number := _remove_rows(store, table, run):
                on_rows(number)
        with store._writing() as connection:
            connection.execute(delete(experiments).where(*_is_trashed(run)))
    with store._reading() as connection:
        owned = set(present(connection, [folder.name for folder in garbage.folders]))
    for folder in garbage.folders:
        if folder.name not in owned:
            _remove(folder)
    give_space_back(store)
    return before - store.info().bytes


def _remove_rows(store: Store, table: Table, run: str) -> int:
    """Remove some rows of a run; a range of the primary key is ten times as fast as a list."""
    columns = list(table.primary_key)
    with store._writing() as connection:
        key = connection.scalar(select(experiments.c.id).where(*_is_trashed(run)))
        of_run = table.c.run_id == key
        ordered = select(*columns).where(of_run).order_by(*columns)
        next_one = connection.execute(ordered.limit(1).offset(ROWS_AT_ONCE)).one_or_none()
        removed = delete(table).where(of_run)
        if next_one is not None:
            removed = removed.where(tuple_(*columns) < tuple_(*next_one))
        return connection.execute(removed).rowcount


def _is_trashed(run: str) -> tuple[ColumnElement[bool], ...]:
    return experiments.c.experiment_id == run, experiments.c.deleted.is_not(None)


def give_space_back(store: Store) -> None:
    """Make the file of a SQLite database as small as its content; let a server reuse its space."""
    address = store._address
    if address.path is None:
        with store_errors(address), store._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM"))
        return
    with store_errors(address), closing(sqlite3.connect(address.path, timeout=30.0)) as database:
        if database.execute("PRAGMA auto_vacuum").fetchone() == (2,):
            while database.execute("PRAGMA freelist_count").fetchone() != (0,):
                # `execute` would stop after the first page.
                database.executescript(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})")
        else:
            database.execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect with VACUUM
            database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _old_folders(artifact_dir: Path) -> list[Path]:
    if not artifact_dir.is_dir():
        return []
    limit = time.time() - YOUNG_S
    return sorted(f for f in artifact_dir.iterdir() if f.is_dir() and f.stat().st_mtime < limit)

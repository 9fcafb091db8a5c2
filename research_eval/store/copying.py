"""A whole store into another one: from SQLite to PostgreSQL, back, or into another file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from research_eval.errors import StoreError
from research_eval.records import RunStatus
from research_eval.store.database import Store
from research_eval.store.folders import files_in, placed, total_size
from research_eval.store.schema import experiments, studies
from research_eval.store.transfer import all_ids, count_rows, present, transfer, transfer_studies

_SHOWN = 3

Progress = Callable[[int, int], None]
"""Called with how many rows are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy holds.

    Attributes:
        rows: Number of rows by table; they were read back and compared.
        files: Number of files beside the database that were copied.
        bytes: Their size.
        running: Runs that were still RUNNING; what they record from now on is not in the copy.
    """

    rows: Mapping[str, int]
    files: int
    bytes: int
    running: tuple[str, ...]


def take_in_waiting(url: str | Path) -> None:
    """Take in what waits in spools, of living runs too, so that what is read now is complete.

    Nothing is written where nothing waits: the store may be read-only.

    Raises:
        StoreError: If there is no store, or something waits and it cannot be written.
    """
    with Store.open(url, mode="ro") as store:
        if not store.waiting():
            return
    with Store.open(url) as store:
        store.take_in(store.spool_root, living=True)


def copy_store(source: Store, target: Store, *, with_files: bool, on_progress: Progress) -> Copied:
    """Copy every run, study and, if asked, file; the copy is complete or nothing is changed.

    Memory does not grow with the number of points. The target may hold other runs.

    Raises:
        StoreError: If both have a run of the same id or different studies of one name, or what
            was written reads differently.
    """
    with source._reading() as connection:
        ids = all_ids(connection)
        total = count_rows(connection, ids)
        wanted = list(connection.scalars(select(studies.c.name)))
        _refuse_clashes(source, target, ids)
        folders = {}
        if with_files:
            sources = {source.artifact_dir / run: target.artifact_dir / run for run in ids}
            folders = {here: there for here, there in sources.items() if here.is_dir()}
        done = 0

        def on_rows(number: int) -> None:
            nonlocal done
            done += number
            on_progress(done, total)

        with placed(folders, shutil.copytree), target._writing() as there:
            transfer_studies(connection, there, wanted)
            rows = transfer(connection, there, ids, on_rows=on_rows)
        running = _running(connection)
    files = [file for folder in folders.values() for file in files_in(folder)]
    return Copied(rows | {"studies": len(wanted)}, len(files), total_size(files), running)


def _refuse_clashes(source: Store, target: Store, ids: list[str]) -> None:
    with target._reading() as connection:
        both = present(connection, ids)
    if both:
        more = ", ..." if len(both) > _SHOWN else ""
        raise StoreError(
            f"{len(both)} of the {len(ids)} runs in {source.url} are in {target.url} already "
            f"({', '.join(both[:_SHOWN])}{more}); nothing was copied. `runs export` and `runs "
            "import` carry over those that are not"
        )


def _running(connection: Connection) -> tuple[str, ...]:
    is_running = experiments.c.status == RunStatus.RUNNING
    return tuple(connection.scalars(select(experiments.c.experiment_id).where(is_running)))

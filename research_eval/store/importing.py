"""Taking a bundle in: all of its runs or none, and none twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from sqlalchemy import Connection, Table, select

from research_eval.errors import StoreError
from research_eval.store.bundle import DATABASE, FILES, is_inside, unpacked
from research_eval.store.database import Store
from research_eval.store.folders import placed
from research_eval.store.schema import artifacts, experiments, studies
from research_eval.store.starting import is_run_id
from research_eval.store.transfer import (
    OF_RUNS,
    NewIds,
    all_ids,
    content,
    present,
    transfer,
    transfer_studies,
)
from research_eval.store.upgrade import upgrade_store

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the runs of a bundle.

    Attributes:
        ids: New ones by the ids that they have in the bundle.
        skipped: Ids of those that the store has just so.
        rows: Number of rows written; they were read back and compared.
    """

    ids: Mapping[str, str]
    skipped: tuple[str, ...]
    rows: int


def import_bundle(store: Store, path: Path, *, as_new: bool) -> Imported:
    """Take in the runs of a bundle, with their files.

    Args:
        store: Open for writing.
        path: The bundle.
        as_new: Whether a run whose id means another run in the store gets a new id.

    Raises:
        StoreError: If the bundle is damaged or of a newer version, or, unless `as_new`, the store
            has other runs of the same ids. Nothing is changed then.
    """
    with unpacked(path, _near(store)) as folder:
        upgrade_store(folder / DATABASE)
        with (
            Store.open(folder / DATABASE, mode="ro") as bundle,
            bundle._reading() as source,
        ):
            _refuse_outsiders(source, path, all_ids(source))
            # A bundle may leave out files; then it says nothing of them either.
            compared = [table for table in OF_RUNS if table is not artifacts]
            return merge(
                store, source, path, as_new=as_new, compared=compared, files=folder / FILES
            )


def merge(
    store: Store,
    source: Connection,
    path: Path,
    *,
    as_new: bool,
    compared: Sequence[Table],
    files: Path,
) -> Imported:
    """Take in all runs of another database of the same version.

    Args:
        store: Open for writing.
        source: Of the other database.
        path: Where that came from, for messages.
        as_new: As in `import_bundle`.
        compared: Tables in which a run of the same id must agree to be the same run.
        files: Has a folder for each run that has files; they are moved.

    Raises:
        StoreError: As `import_bundle` does.
    """
    ids = all_ids(source)
    with store._reading() as target:
        skipped, different = _compare(source, target, ids, compared)
        if different and not as_new:
            raise _clash(store, path, different)
        renamed = _new_ids(target, list(different), taken={*ids})
    new = [run for run in ids if run not in skipped]
    folders = {
        files / run: store.artifact_dir / renamed.get(run, run)
        for run in new
        if (files / run).is_dir()
    }
    with placed(folders, shutil.move), store._writing() as target:
        transfer_studies(source, target, list(source.scalars(select(studies.c.name))))
        rows = transfer(source, target, new, renamed=NewIds(renamed))
    return Imported({run: renamed.get(run, run) for run in new}, skipped, sum(rows.values()))


def _near(store: Store) -> Path:
    """Return a folder from which files can be moved into the store's."""
    near = store.artifact_dir.parent
    near.mkdir(parents=True, exist_ok=True)
    return near


def _refuse_outsiders(source: Connection, path: Path, ids: list[str]) -> None:
    """Refuse ids and paths that would reach out of the folder of a run."""
    rows = source.execute(select(artifacts.c.experiment_id, artifacts.c.path))
    outside = [run for run in ids if not is_run_id(run)] + [
        row.path
        for row in rows
        if not is_inside(row.path) or not row.path.startswith(f"{row.experiment_id}/")
    ]
    if outside:
        raise StoreError(
            f"{path} names '{outside[0]}', which would lie outside of the store; nothing was "
            "imported"
        )


def _compare(
    source: Connection, target: Connection, ids: list[str], compared: Sequence[Table]
) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """Return the runs that both have just so, and those that differ with the tables where."""
    same, different = [], {}
    for run in present(target, ids):
        tables = [
            table.name
            for table in compared
            if content(source, table, [run]) != content(target, table, [run])
        ]
        if tables:
            different[run] = tables
        else:
            same.append(run)
    return tuple(same), different


def _new_ids(target: Connection, ids: list[str], taken: set[str]) -> dict[str, str]:
    known = taken | set(target.scalars(select(experiments.c.experiment_id)))
    found = {}
    for run in ids:
        found[run] = next(new for new in _candidates(run) if new not in known)
        known.add(found[run])
    return found


def _candidates(run: str) -> Iterator[str]:
    return (f"{run}-{number}" for number in count(2))


def _clash(store: Store, path: Path, different: Mapping[str, list[str]]) -> StoreError:
    shown = [f"{run} (in {', '.join(tables)})" for run, tables in different.items()][:_SHOWN]
    more = ", ..." if len(different) > _SHOWN else ""
    return StoreError(
        f"{store.url} has other runs of the same ids as {path}: {', '.join(shown)}{more}; nothing "
        "was imported. With --as-new they get new ids"
    )

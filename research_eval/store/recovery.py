"""Spools whose writers are gone, or have no database: who waits there, and taking them in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from research_eval.errors import StoreError
from research_eval.store.ingest import Drain, Ingester, RefusedError
from research_eval.store.location import ARTIFACTS, SPOOL_VARIABLE
from research_eval.store.schema import identity, spools
from research_eval.store.segments import (
    OWNER_NAME,
    Owner,
    Segment,
    count,
    segment_paths,
    spool_folders,
    try_lock,
)


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What became of the spools in a folder.

    Attributes:
        records: How many points and other records became rows.
        runs: Ids of their runs.
        refused: Reasons, by the folder where the records are kept.
    """

    records: int
    runs: tuple[str, ...]
    refused: Mapping[Path, str]


def state_folder(connection: Connection) -> Path:
    """Return the folder of the spools of a server's database, in the user's state folder."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    name: str = connection.scalars(select(identity.c.id)).one()
    return Path(base) / "research-eval" / "spool" / name


def take_in(ingester: Ingester, root: Path, *, living: bool, run: str | None = None) -> TakenIn:
    """Take the spools of a folder into the database, the oldest first.

    Args:
        ingester: Of the database.
        root: Folder of the spools.
        living: Whether to take in also what processes that still live have written so far.
        run: Only this run's.

    Raises:
        BusyError: If the database is locked or cannot be reached; the rest stays.
        StoreError: If it cannot be written for another reason.
    """
    records, runs, refused = 0, dict[str, None](), dict[Path, str]()
    found = [(folder, owner_of(folder)) for folder in spool_folders(root)]
    for folder, owner in sorted(found, key=lambda each: each[1].started if each[1] else 0.0):
        if run is not None and (owner is None or owner.experiment_id != run):
            continue
        with _locked(folder) as is_ours:
            if not (is_ours or living):
                continue
            drain = Drain(ingester, folder, is_live=False, removes=is_ours)
            with closing(drain):
                try:
                    # No sign of life for a run that somebody is about to resume.
                    is_alive = not is_ours and run is None
                    while drain.step(beat=is_alive):
                        pass
                    if is_ours:
                        drain.remove()
                except RefusedError as error:
                    if is_ours:
                        refused[drain.set_aside(str(error))] = str(error)
            if drain.records and owner is not None:
                records += drain.records
                runs[owner.experiment_id] = None
    return TakenIn(records, tuple(runs), refused)


def take_in_nodes(ingester: Ingester, root: Path, artifact_dir: Path) -> TakenIn:
    """Take in what machines without a database left in a folder, and move the files of its runs.

    The files of a run that is still being written stay until it has ended.

    Args:
        ingester: Of the database.
        root: What `RESEARCH_EVAL_SPOOL` named there.
        artifact_dir: Where the files of runs belong.

    Raises:
        StoreError: If `root` is no folder, the database cannot be written, or a file cannot be
            moved; what is left stays in `root`.
    """
    if not root.is_dir():
        raise StoreError(f"there is no folder {root}; give the one that {SPOOL_VARIABLE} named")
    done = take_in(ingester, root, living=True)
    owners = {owner_of(folder) for folder in root.iterdir() if folder.name != ARTIFACTS}
    unfinished = {owner.experiment_id for owner in owners if owner is not None}
    for folder in sorted((root / ARTIFACTS).glob("*")):
        if folder.name not in unfinished:
            try:
                shutil.copytree(folder, artifact_dir / folder.name, dirs_exist_ok=True)
                shutil.rmtree(folder)
            except OSError as error:
                raise StoreError(f"{folder} cannot be moved to {artifact_dir}: {error}") from error
    return done


def waiting(connection: Connection, root: Path) -> dict[str, int]:
    """Return how many points and other records of each run are not yet in the database."""
    found: dict[str, int] = {}
    for folder in spool_folders(root):
        for path in segment_paths(folder):
            with suppress(FileNotFoundError), closing(Segment(path)) as segment:
                if segment.owner is None:
                    continue
                of_segment = spools.c.segment == segment.key
                offset = connection.scalar(select(spools.c.committed).where(of_segment)) or 0
                number = sum(count(record) for record, _ in segment.read(offset))
                if number:
                    run = segment.owner.experiment_id
                    found[run] = found.get(run, 0) + number
    return found


def owner_of(folder: Path) -> Owner | None:
    """Return whose records a spool holds; None if its writer died before saying so."""
    for path in segment_paths(folder):
        with suppress(FileNotFoundError), closing(Segment(path)) as segment:
            return segment.owner
    return None


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a spool if its owner is gone; yield whether that is so."""
    try:
        descriptor = try_lock(folder / OWNER_NAME)
    except FileNotFoundError:  # somebody else has just taken it in
        yield False
        return
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)

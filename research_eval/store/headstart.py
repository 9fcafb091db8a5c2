"""Runs of scripts: they start before their database is open, and do not wait for SQLAlchemy."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from research_eval.errors import StoreError
from research_eval.records import NewRun, RunRecord
from research_eval.store.location import (
    ARTIFACTS,
    SPOOL_VARIABLE,
    artifacts_beside,
    locate,
    spools_beside,
    sqlite_file,
)
from research_eval.store.process import owner_here
from research_eval.store.spool import Spool
from research_eval.store.writer import RunWriter

if TYPE_CHECKING:
    from research_eval.store.database import Store
    from research_eval.store.ingest import Ingester


@dataclass(frozen=True, slots=True)
class Recording:
    """A run that is being recorded, and the store that was opened for it.

    Attributes:
        writer: Takes the records.
        stores: What is to be closed when the run has ended.
    """

    writer: RunWriter
    stores: list[Store]

    def close(self) -> None:
        """Close the store; the run must have ended.

        Raises:
            StoreError: If that could not be done.
        """
        while self.stores:
            self.stores.pop().close()


def start(
    new: NewRun,
    db: str | Path | None,
    *,
    strict: bool = False,
    before: Callable[[], None] = lambda: None,
) -> Recording:
    """Record a run that starts now; a thread opens the database, and makes one if need be.

    Only a SQLite file is left to the thread: where the spools of a server lie, it must say. Where
    `RESEARCH_EVAL_SPOOL` names a folder, the run is left there with its files, and no database is
    touched: `db ingest` takes it in.

    Args:
        new: The run.
        db: Path or URL; None for the one that the commands would use.
        strict: Whether what cannot be kept is an error, instead of one warning and a count.
        before: Called in the thread before the database is opened; an error delays that.

    Raises:
        StoreError: If the records can be kept nowhere, or a server cannot be reached.
    """
    apart = os.environ.get(SPOOL_VARIABLE)
    if apart:
        folder = Path(apart).expanduser().resolve()
        return Recording(RunWriter(_begun(folder, new, strict), folder / ARTIFACTS, None), [])
    named = db or locate(create=True)
    file = sqlite_file(named)
    if file is None:
        store = _opened(named, create=True)
        return Recording(store.start(new, strict=strict), [store])
    spool = _begun(spools_beside(file), new, strict)
    stores: list[Store] = []

    def connect() -> Ingester:
        before()
        stores.append(_opened(file, create=True))
        return stores[-1].ingester()

    return Recording(RunWriter(spool, artifacts_beside(file), connect), stores)


def go_on(
    experiment_id: str, db: str | Path | None, *, step: int | None, strict: bool
) -> tuple[Recording, RunRecord, int]:
    """Record another attempt of a run; return it with what is known of the run, and its step.

    Args:
        experiment_id: The run, named as in every command.
        db: Path or URL; None for the one that the commands would use.
        step: Step from which it goes on; None for the highest one that was recorded.
        strict: As in `start`.

    Raises:
        StoreError: If there is no such run, it cannot be resumed, or the store cannot be written.
    """
    store = _opened(db or locate(create=False), create=False)
    try:
        record = store.run(experiment_id)
        if step is None:
            last = store.last_step(record.experiment_id)
            step = -1 if last is None else last
        writer = store.resume(record.experiment_id, step=step, strict=strict)
        return Recording(writer, [store]), record, step
    except BaseException:
        store.close()
        raise


def _begun(root: Path, new: NewRun, strict: bool) -> Spool:
    spool = Spool(root, owner_here(new.experiment_id, host=new.host), strict=strict)
    if not spool.record("start", {"run": asdict(new)}):
        raise StoreError(f"{root} cannot keep the start of a run; free some space")
    return spool


def _opened(db: str | Path, *, create: bool) -> Store:
    from research_eval.store.database import Store  # noqa: PLC0415 - loads SQLAlchemy

    return Store.open(db, create=create)

"""The store as others see it: opened, written to through runs, and read as records."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from sqlalchemy import Connection, Engine

from research_eval.errors import StoreError
from research_eval.records import NewRun
from research_eval.store import editing
from research_eval.store.creation import ensure_current
from research_eval.store.engine import (
    Address,
    open_engine,
    parse_address,
    store_errors,
    use_write_ahead_log,
)
from research_eval.store.ingest import Ingester
from research_eval.store.location import artifacts_beside, spools_beside
from research_eval.store.naming import run_key
from research_eval.store.process import owner_here
from research_eval.store.reading import Reader
from research_eval.store.recovery import TakenIn, state_folder, take_in, take_in_nodes, waiting
from research_eval.store.segments import Owner
from research_eval.store.spool import Spool
from research_eval.store.starting import continue_run, insert_run
from research_eval.store.studies import write_study
from research_eval.store.writer import RunWriter

BUSY_TIMEOUT_S = 30.0

_log = logging.getLogger(__name__)


class Store(Reader):
    """All runs of a database. Open one with `Store.open`; it is a context manager.

    It may be used from several threads. Reading never changes the database, and shows a run whose
    process died as LOST.

    Attributes:
        url: Where it is, as a SQLAlchemy URL without password.
        path: The file of a SQLite database, None for a server.
        artifact_dir: Folder of the runs' files, one folder for each run.
    """

    def __init__(self, engine: Engine, address: Address, *, is_writable: bool) -> None:
        super().__init__(engine, address)
        self._is_writable = is_writable
        self._writers: list[RunWriter] = []
        self.artifact_dir = artifacts_beside(address.path or Path.cwd() / str(address.url.database))

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        mode: Literal["rw", "ro"] = "rw",
        create: bool = False,
        busy_timeout: float = BUSY_TIMEOUT_S,
    ) -> Self:
        """Open a store.

        Args:
            url: A path, or a SQLAlchemy URL of SQLite or PostgreSQL.
            mode: "ro" cannot change anything, not even by mistake.
            create: Whether to make a store where there is nothing; only with mode "rw".
            busy_timeout: Seconds to wait for a lock that another process holds.

        Raises:
            StoreError: If it cannot be opened, or is not a store of this version.
        """
        if create and mode == "ro":
            raise ValueError("a store that is opened read-only cannot be created")
        address = parse_address(url)
        if address.path is not None and not create and not address.path.exists():
            raise StoreError(
                f"there is no database {address}; record a run first (research-eval run "
                "cfg.json), or name another one with --db"
            )
        engine = open_engine(address, "rwc" if create else mode, busy_timeout)
        try:
            ensure_current(engine, address, create=create)
            if mode == "rw":
                use_write_ahead_log(address, busy_timeout)
        except BaseException:
            engine.dispose()
            raise
        store = cls(engine, address, is_writable=mode == "rw")
        if mode == "rw":
            store._take_in_what_died()
        return store

    def close(self) -> None:
        """Write what unfinished runs still hold and end their threads.

        Raises:
            StoreError: If that could not be written.
        """
        try:
            while self._writers:
                self._writers.pop().close()
        finally:
            self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Keep a connection, for many short runs in a row.

        SQLite writes its log into the database, with two waits for the disk, whenever the last
        connection is closed.
        """
        with self._reading() as connection:
            connection.rollback()
            yield

    def _check_writable(self) -> None:
        if not self._is_writable:
            raise StoreError(f"{self._address} was opened read-only")

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        self._check_writable()
        with (
            store_errors(self._address),
            self._engine.connect().execution_options(writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    # -------------------------------------------------------------------------------- writing

    def start(self, new: NewRun, *, strict: bool = False) -> RunWriter:
        """Record a run that starts now, in this process.

        Args:
            new: The run; host and process are filled in where they are left open.
            strict: Whether what cannot be kept is an error, instead of one warning and a count.

        Raises:
            StoreError: If its id is taken, or the store cannot be written.
        """
        owner = owner_here(new.experiment_id, host=new.host)
        with self._writing() as connection:
            insert_run(connection, new, owner)
            spool = self._spool(owner, strict)
        return self._writer(spool)

    def begin(self, new: NewRun) -> RunWriter:
        """Record a run that starts now, in one transaction with what it records at first.

        A run that ends within 0.2 s costs one transaction instead of two. An id that is taken is
        noticed when the records are refused.

        Raises:
            StoreError: If the records can be kept nowhere.
        """
        self._check_writable()
        spool = self._spool(owner_here(new.experiment_id, host=new.host), strict=False)
        spool.record("start", {"run": asdict(new)})
        return self._writer(spool)

    def resume(self, experiment_id: str, *, step: int, strict: bool = False) -> RunWriter:
        """Continue an INTERRUPTED, LOST or FAILED run as a new attempt.

        Points after `step` stay in the database, marked as superseded, and are left out of
        summaries and histories.

        Args:
            experiment_id: The run.
            step: Step of the resume point that it continues from.
            strict: As in `start`.

        Raises:
            StoreError: If there is no such run, it has another status, or the store cannot be
                written.
        """
        self.take_in(self.spool_root, living=True, run=experiment_id)
        with self._writing() as connection:
            owner = continue_run(connection, experiment_id, step)
            spool = self._spool(owner, strict)
        return self._writer(spool)

    def _spool(self, owner: Owner, strict: bool) -> Spool:
        """Make the folders of a run; when that fails, the caller's transaction is undone."""
        folder = self.artifact_dir / owner.experiment_id
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make the folder {folder}: {error.strerror}") from error
        return Spool(self.spool_root, owner, strict=strict)

    def _writer(self, spool: Spool) -> RunWriter:
        writer = RunWriter(spool, self.artifact_dir, self.ingester)
        self._writers = [*(w for w in self._writers if w.is_open), writer]
        return writer

    def ingester(self) -> Ingester:
        """Return what writes records of spools into this database; the caller closes it."""
        return Ingester(self._engine, self._address)

    def take_in(self, root: Path, *, living: bool = False, run: str | None = None) -> TakenIn:
        """Take spools into the database that their writers could not, or had none to write to.

        Args:
            root: Folder of spools: `spool_root`, or that of nodes which only spool.
            living: Whether to take in also what processes that still live have written so far.
            run: Only this run's.

        Raises:
            StoreError: If the database cannot be written; the rest stays in the folder.
        """
        self._check_writable()
        with closing(self.ingester()) as ingester:
            return take_in(ingester, root, living=living, run=run)

    def ingest(self, folder: Path) -> TakenIn:
        """Take in the runs of machines without a database: what they have written so far.

        Args:
            folder: What `RESEARCH_EVAL_SPOOL` named there.

        Raises:
            StoreError: If it is no folder, or the store cannot be written; what is left stays.
        """
        self._check_writable()
        with closing(self.ingester()) as ingester:
            return take_in_nodes(ingester, folder, self.artifact_dir)

    def _take_in_what_died(self) -> None:
        """Take in what killed processes left; if that fails now, a later opening does it."""
        try:
            self.take_in(self.spool_root)
        except StoreError as error:
            _log.warning("%s; records of dead processes wait in %s", error, self.spool_root)

    @cached_property
    def spool_root(self) -> Path:
        """Folder of the spools: beside a SQLite file, else in the user's state folder."""
        if self.path is not None:
            return spools_beside(self.path)
        with self._reading() as connection:
            return state_folder(connection)

    def waiting(self) -> dict[str, int]:
        """Return by run how many points and other records wait in spools; nothing is changed."""
        with self._reading() as connection:
            return waiting(connection, self.spool_root)

    def save_study(self, name: str, spec_json: str) -> None:
        """Record a study, or replace what it was asked.

        Raises:
            StoreError: If the store cannot be written.
        """
        with self._writing() as connection:
            write_study(connection, name, spec_json)

    # -------------------------------------------------------------------------------- editing

    def tag(
        self, experiment_id: str, tags: Iterable[str] = (), *, remove: Collection[str] = ()
    ) -> None:
        """Add tags to a run and remove others; a tag that is there, or is not, stays so.

        Raises:
            StoreError: If there is no such run, a tag is empty, or the store cannot be written.
        """
        with self._writing() as connection:
            run_key(connection, self._address, experiment_id)
            editing.change_tags(connection, experiment_id, tags, remove)

    def note(self, experiment_id: str, text: str) -> None:
        """Write a remark beside a run.

        Raises:
            StoreError: If there is no such run, the text is empty, or the store cannot be written.
        """
        with self._writing() as connection:
            run_key(connection, self._address, experiment_id)
            editing.add_note(connection, experiment_id, text)

    def rename(self, experiment_id: str, name: str) -> None:
        """Give a run another name; its id stays.

        Raises:
            StoreError: If there is no such run, the name is empty, or the store cannot be written.
        """
        with self._writing() as connection:
            run_key(connection, self._address, experiment_id)
            editing.rename(connection, experiment_id, name)

    def delete(self, experiment_ids: Collection[str]) -> None:
        """Put runs into the trash, all of them or none; readers do not see them there.

        Raises:
            StoreError: If there is no such run, one is RUNNING, or the store cannot be written.
        """
        with self._writing() as connection:
            editing.move_to_trash(connection, self._address, experiment_ids)

    def restore(self, experiment_ids: Collection[str]) -> None:
        """Take runs out of the trash.

        Raises:
            StoreError: If there is no such run, or the store cannot be written.
        """
        with self._writing() as connection:
            editing.take_from_trash(connection, self._address, experiment_ids)

    def ask_to_stop(self, experiment_id: str) -> None:
        """Ask a running run to stop; its process does so after its step, with a resume point.

        The process sees the request within about 10 s, mostly within one.

        Raises:
            StoreError: If there is no such run, it does not run, or the store cannot be written.
        """
        with self._writing() as connection:
            editing.ask_to_stop(connection, self._address, experiment_id)

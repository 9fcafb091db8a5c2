"""The store as others see it: opened, written to through runs, and read as records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from sqlalchemy import Connection, Engine

from research_eval.errors import StoreError
from research_eval.records import NewRun
from research_eval.store.batch import RunKey
from research_eval.store.creation import ensure_current
from research_eval.store.engine import (
    Address,
    open_engine,
    parse_address,
    store_errors,
    use_write_ahead_log,
)
from research_eval.store.reading import Reader
from research_eval.store.starting import continue_run, insert_run
from research_eval.store.summary import RunningSummary
from research_eval.store.writer import RunWriter

BUSY_TIMEOUT_S = 30.0


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
        base = address.path or Path.cwd() / str(address.url.database)
        self.artifact_dir = base.with_name(f"{base.name}.artifacts")

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
        return cls(engine, address, is_writable=mode == "rw")

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        if not self._is_writable:
            raise StoreError(f"{self._address} was opened read-only")
        with (
            store_errors(self._address),
            self._engine.connect().execution_options(writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    # -------------------------------------------------------------------------------- writing

    def start(self, new: NewRun) -> RunWriter:
        """Record a run that starts now, in this process.

        Host and process are filled in where `new` leaves them open.

        Raises:
            StoreError: If its id is taken, or the store cannot be written.
        """
        with self._writing() as connection:
            key = insert_run(connection, new)
            self._make_folder(key)
        return self._writer(key, {})

    def resume(self, experiment_id: str, *, step: int) -> RunWriter:
        """Continue an INTERRUPTED or LOST run as a new attempt.

        Points after `step` stay in the database, marked as superseded, and are left out of
        summaries and histories.

        Args:
            experiment_id: The run.
            step: Step of the resume point that it continues from.

        Raises:
            StoreError: If there is no such run, it has another status, or the store cannot be
                written.
        """
        with self._writing() as connection:
            key, summaries = continue_run(connection, experiment_id, step)
            self._make_folder(key)
        return self._writer(key, summaries)

    def _make_folder(self, key: RunKey) -> None:
        folder = self.artifact_dir / key.experiment_id
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make the folder {folder}: {error.strerror}") from error

    def _writer(self, key: RunKey, summaries: dict[str, RunningSummary]) -> RunWriter:
        with store_errors(self._address):
            writer = RunWriter(self._engine, self._address, key, self.artifact_dir, summaries)
        self._writers = [*(w for w in self._writers if w.is_open), writer]
        return writer

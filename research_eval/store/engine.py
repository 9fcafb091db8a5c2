"""Connections: how a database is addressed and opened, and what its errors mean to a user."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.pool import NullPool

from research_eval.errors import StoreError
from research_eval.store.filesystem import warn_of_network

Access = Literal["ro", "rw", "rwc"]
"""Read only, read and write, or read and write and create if missing (SQLite's own words)."""


CONNECT_TIMEOUT_S = 10


class BusyError(StoreError):
    """The database is locked by someone else or away; the same transaction may succeed later."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is.

    Attributes:
        url: SQLAlchemy URL.
        path: The file of a SQLite database, None for a server.
    """

    url: URL
    path: Path | None

    def __str__(self) -> str:
        return str(self.path or self.shown_url)

    @property
    def shown_url(self) -> str:
        """The URL as a person would type it, with secrets replaced."""
        query = {name: "***" if "password" in name else v for name, v in self.url.query.items()}
        shown = self.url.set(drivername=self.url.get_backend_name(), query=query)
        return shown.render_as_string(hide_password=True)


def parse_address(url: str | Path) -> Address:
    """Read a plain path or a SQLAlchemy URL.

    Raises:
        StoreError: If it is neither, or names a kind of database that is not supported.
    """
    if isinstance(url, Path) or "://" not in url:
        return _file_address(str(url))
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is not a number
        kind = url.partition("://")[0]  # the rest may hold a password
        raise StoreError(f"the database URL that begins with '{kind}://' is malformed") from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if parsed.query:
            raise StoreError("a SQLite URL takes no options here; write sqlite:///path/to/file.db")
        return _file_address(parsed.database or ":memory:")
    if backend == "postgresql":
        # psycopg is the driver that the `postgres` extra installs.
        return Address(parsed.set(drivername="postgresql+psycopg"), None)
    raise StoreError(f"'{backend}' databases are not supported; use SQLite or PostgreSQL")


def _file_address(name: str) -> Address:
    if name == ":memory:" or not name:
        raise StoreError("a store needs a file: one in memory would vanish with its process")
    path = Path(name).expanduser().resolve()
    return Address(URL.create("sqlite", database=str(path)), path)


def open_engine(address: Address, access: Access, busy_timeout: float) -> Engine:
    """Return an engine; nothing is read or written before it is used.

    On SQLite each connection is opened when it is needed and closed after (about 0.2 ms): none
    is shared between threads, and none is left open. A transaction of a connection with the
    execution option `writes=True` takes the write lock at its begin, since a lock that is asked
    for halfway through fails at once when another writer was faster.

    Args:
        address: The database.
        access: How it may be used.
        busy_timeout: Seconds to wait for a lock that another process holds.
    """
    if address.path is not None:
        return _sqlite_engine(address.path, access, busy_timeout)
    return _postgresql_engine(address, access, busy_timeout)


def _postgresql_engine(address: Address, access: Access, busy_timeout: float) -> Engine:
    timeout = {"connect_timeout": str(CONNECT_TIMEOUT_S)} | dict(address.url.query)
    try:
        engine = create_engine(address.url.set(query=timeout), pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise StoreError(
            f"{address} needs the package {error.name}: pip install 'research-eval[postgres]'"
        ) from error

    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("writes", False):
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(busy_timeout * 1000)}")
        else:
            # All queries of one reading see one state, as they do on SQLite.
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")

    event.listen(engine, "begin", begin)
    return engine.execution_options(postgresql_readonly=True) if access == "ro" else engine


def _sqlite_engine(path: Path, access: Access, busy_timeout: float) -> Engine:
    uri = f"{path.as_uri()}?mode={access}"
    if access == "ro" and _lies_in_frozen_folder(path):
        uri += "&immutable=1"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            uri, uri=True, timeout=busy_timeout, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA foreign_keys = ON")
        # In WAL mode this survives the death of the process. A power cut may take the last
        # commits but never damages the file. FULL costs 20 ms at the 99th percentile.
        connection.execute("PRAGMA synchronous = NORMAL")
        if access == "ro":
            connection.execute("PRAGMA query_only = ON")
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _lies_in_frozen_folder(path: Path) -> bool:
    """Return whether SQLite could not make the shared-memory file that reading WAL needs."""
    log = path.with_name(f"{path.name}-wal")
    ids = {"effective_ids": os.access in os.supports_effective_ids}
    return path.is_file() and not os.access(path.parent, os.W_OK, **ids) and not log.exists()


def use_write_ahead_log(address: Address, busy_timeout: float) -> None:
    """Let readers and one writer of a SQLite file work at the same time; the file remembers it.

    SQLite does not wait for locks when it changes this mode, so waiting is done here.

    Raises:
        BusyError: If others keep the file locked for `busy_timeout` seconds.
    """
    if address.path is None:
        return
    warn_of_network(address.path.parent)
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            with store_errors(address), closing(sqlite3.connect(address.path)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
            return
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


_LOCKED = ("40001", "40P01", "55P03")
"""What PostgreSQL calls a conflict of transactions, a deadlock, and a lock that took too long."""

_NO_PRIVILEGE = "42501"

_MEANINGS = {
    "SQLITE_NOTADB": "is not a database; choose another file",
    "SQLITE_CORRUPT": "is damaged; copy it away, and see what `sqlite3 FILE .recover` saves",
    "SQLITE_FULL": "cannot grow: the disk is full; free some space and try again",
    "SQLITE_READONLY": "cannot be written: the file or its folder is read-only",
    "SQLITE_CANTOPEN": "cannot be opened; look at its permissions and those of its folder",
    "SQLITE_PERM": "cannot be opened; look at its permissions and those of its folder",
    "SQLITE_IOERR": "cannot be read or written: the disk reports an error, or is full",
}


@contextmanager
def store_errors(address: Address) -> Iterator[None]:
    """Turn what a database reports into a `StoreError`; defects of this program pass through.

    Raises:
        BusyError: If it is locked.
        StoreError: If it cannot be used for another reason.
    """
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, sqlite3.Error) as error:
        reported = error.orig if isinstance(error, DBAPIError) else error
        name = getattr(reported, "sqlite_errorname", "") or getattr(reported, "sqlstate", "") or ""
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", *_LOCKED)):
            raise BusyError(
                f"{address} is locked by another program; close it and try again"
            ) from error
        if address.path is None and _is_lost(error):
            raise BusyError(f"{address} cannot be reached: {_one_line(reported)}") from error
        if isinstance(error, ProgrammingError) and name != _NO_PRIVILEGE:
            raise
        meaning = next((m for key, m in _MEANINGS.items() if name.startswith(key)), None)
        raise StoreError(f"{address} {meaning or f'reports: {_one_line(reported)}'}") from error


def _is_lost(error: BaseException) -> bool:
    """Return whether there is no connection to a server, or none any more."""
    return isinstance(error, OperationalError) and (
        error.connection_invalidated or not getattr(error.orig, "sqlstate", None)
    )


def _one_line(reported: object) -> str:
    return " ".join(str(reported).split())

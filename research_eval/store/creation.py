"""The first and the next opening of a database: is it ours, is it current, shall it be made?"""

from __future__ import annotations

import secrets
import sqlite3
from typing import cast

from sqlalchemy import Connection, Engine, func, insert, inspect, select

from research_eval.errors import StoreError
from research_eval.store.engine import Address, store_errors
from research_eval.store.schema import REVISIONS, VERSION_TABLE, identity, metadata, version

LATEST = REVISIONS[-1]

_CREATION = 0x7265_7365_6172_6368
"""Lock of a PostgreSQL database while its tables are made; any number that nobody else takes."""


def ensure_current(engine: Engine, address: Address, *, create: bool) -> None:
    """Check that the database is a store of this version; make its tables if it is empty.

    The tables and the version are written in one transaction, so of several processes that
    start at once one makes them and the others find them.

    Args:
        engine: Opened for what is asked.
        address: For messages.
        create: Whether tables may be made in an empty database.

    Raises:
        StoreError: If it is empty and `create` is False, belongs to another program, or was
            written by an older or a newer version.
    """
    _refuse_cut_off(address)
    with store_errors(address), engine.connect() as connection:
        tables = _tables(connection)
    if create and not tables:
        with (
            store_errors(address),
            engine.connect().execution_options(writes=True) as connection,
        ):
            if address.path is not None:
                # Lets `db gc` give space back; SQLite takes it only before the first table, and
                # outside a transaction.
                raw = connection.connection.driver_connection
                cast("sqlite3.Connection", raw).execute("PRAGMA auto_vacuum = INCREMENTAL")
            with connection.begin():
                if address.path is None:
                    connection.execute(select(func.pg_advisory_xact_lock(_CREATION)))
                if not _tables(connection):
                    metadata.create_all(connection)
                    connection.execute(insert(version).values(version_num=LATEST))
                    connection.execute(insert(identity).values(id=secrets.token_hex(8)))
    with store_errors(address), engine.connect() as connection:
        _check_version(connection, address)


def stored_version(connection: Connection, address: Address) -> str:
    """Return the schema version of a store, older and newer ones included.

    Raises:
        StoreError: If the database is not a store.
    """
    tables = _tables(connection)
    if not tables:
        raise StoreError(
            f"{address} is empty: no run was ever recorded there; "
            "`research-eval db init` makes a store of it"
        )
    if VERSION_TABLE not in tables:
        shown = ", ".join(sorted(tables)[:4])
        raise StoreError(
            f"{address} is a database of another program (it has the tables {shown}); "
            "choose another file"
        )
    found: str = connection.execute(select(version.c.version_num)).scalar_one()
    return found


def _check_version(connection: Connection, address: Address) -> None:
    found = stored_version(connection, address)
    if found not in REVISIONS:
        raise StoreError(
            f"{address} was written by a newer version of research-eval (its schema is {found}, "
            f"this version knows up to {LATEST}); pip install --upgrade research-eval"
        )
    if found != LATEST:
        raise StoreError(
            f"{address} has schema {found}, but this version needs {LATEST}; "
            f"upgrade it, a copy is kept: research-eval db upgrade --db {address}"
        )


def _refuse_cut_off(address: Address) -> None:
    """Notice a file that has lost its end: SQLite would read zeros there, and find no rows."""
    path = address.path
    if path is None or not path.is_file():
        return
    beside = (path.with_name(f"{path.name}-{kind}") for kind in ("wal", "journal"))
    if any(file.exists() for file in beside):
        return  # somebody may be just writing the end
    with store_errors(address), path.open("rb") as file:
        header = file.read(100)
    if not header.startswith(b"SQLite format 3\0") or header[24:28] != header[92:96]:
        return  # SQLite does not trust the number of pages either
    page_size = int.from_bytes(header[16:18])
    meant = int.from_bytes(header[28:32]) * (65_536 if page_size == 1 else page_size)
    found = path.stat().st_size
    if found < meant:
        raise StoreError(
            f"{address} is cut off: {found} of {meant} bytes are there; take another copy of it, "
            "or see what `sqlite3 FILE .recover` saves"
        )


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())

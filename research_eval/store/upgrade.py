"""Brings a store of an older version to this one. Only `db upgrade` loads it: Alembic is slow."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from research_eval.errors import StoreError
from research_eval.store.creation import LATEST, stored_version
from research_eval.store.engine import Address, open_engine, parse_address, store_errors
from research_eval.store.schema import REVISIONS

BUSY_TIMEOUT_S = 30.0
MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade_store(url: str | Path) -> Path | None:
    """Upgrade a store in one transaction, after copying a SQLite file beside itself.

    Returns:
        The copy; None if the store was current already, or lies on a server.

    Raises:
        StoreError: If it is not a store, is newer than this version, or cannot be written. It is
            then unchanged.
    """
    address = parse_address(url)
    engine = open_engine(address, "rw", BUSY_TIMEOUT_S)
    try:
        with store_errors(address), engine.connect() as connection:
            before = stored_version(connection, address)
        if before == LATEST:
            return None
        if before not in REVISIONS:
            raise StoreError(f"{address} was written by a newer version of research-eval")
        copy = _copied(address, before)
        with (
            store_errors(address),
            engine.connect().execution_options(writes=True) as connection,
            connection.begin(),
        ):
            migrate(connection, LATEST)
        return copy
    finally:
        engine.dispose()


def migrate(connection: Connection, revision: str) -> None:
    """Run the missing migrations up to a revision in the caller's transaction."""
    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, revision)


def _copied(address: Address, before: str) -> Path | None:
    if address.path is None:
        return None
    copy = address.path.with_name(f"{address.path.name}.before-{before}")
    with (
        store_errors(address),
        closing(sqlite3.connect(address.path)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
    return copy

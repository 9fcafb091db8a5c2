"""Where the store is when nobody says so."""

from __future__ import annotations

import os
from pathlib import Path

from research_eval.errors import StoreError

DEFAULT_NAME = "experiment_results.db"
VARIABLE = "RESEARCH_EVAL_DB"
SPOOL_VARIABLE = "RESEARCH_EVAL_SPOOL"
"""Folder for the spools of a machine that cannot reach the database."""
ARTIFACTS = "artifacts"
"""Folder in it for the files of the runs."""


def locate(*, create: bool) -> str | Path:
    """Return the default store: a path, or the URL that the environment names.

    `RESEARCH_EVAL_DB` decides. Without it, `experiment_results.db` is looked for in the working
    directory and upward from it, as git looks for its folder.

    Args:
        create: Whether the caller may make a new store; then a missing one is placed in the
            working directory.

    Raises:
        StoreError: If there is none and `create` is False.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return named
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / DEFAULT_NAME).is_file():
            return folder / DEFAULT_NAME
    if create:
        return here / DEFAULT_NAME
    raise StoreError(
        f"there is no {DEFAULT_NAME} in {here} or any folder above it; record a run first "
        f"(research-eval run cfg.json), or name a store with --db or {VARIABLE}"
    )


def sqlite_file(db: str | Path) -> Path | None:
    """Return the absolute path of the SQLite file that a path or URL names; None for a server.

    Raises:
        StoreError: If it names a database in memory, or gives options.
    """
    name = str(db)
    if not isinstance(db, Path) and "://" in name:
        kind, _, name = name.partition("://")
        if kind.partition("+")[0] != "sqlite":
            return None
        if "?" in name:
            raise StoreError("a SQLite URL takes no options here; write sqlite:///path/to/file.db")
        name = name.removeprefix("/")
    if name in ("", ":memory:"):
        raise StoreError("a store needs a file: one in memory would vanish with its process")
    return Path(name).expanduser().resolve()


def spools_beside(file: Path) -> Path:
    """Return the folder of the spools of a SQLite file."""
    return file.with_name(f"{file.name}.spool")


def artifacts_beside(file: Path) -> Path:
    """Return the folder of the files of the runs in a database, one folder for each run."""
    return file.with_name(f"{file.name}.artifacts")

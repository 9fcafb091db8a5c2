"""A private PostgreSQL server for tests, from the binaries that this machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Literal

import psycopg

DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian puts the programs of each version, outside of PATH."""

ACCOUNT = "postgres"
"""Who runs the server where the tests run as root, which PostgreSQL refuses."""

SETTINGS = {
    "listen_addresses": "",  # no network, only a socket in the server's folder
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "16MB",
}


def find_programs() -> Path | None:
    """Return the folder of the newest server's programs, or None if none is installed."""
    if DEBIAN.is_dir():
        versions = [folder for folder in DEBIAN.iterdir() if (folder / "bin" / "initdb").exists()]
        if versions:
            return max(versions, key=lambda folder: float(folder.name)) / "bin"
    found = shutil.which("initdb")
    return None if found is None else Path(found).resolve().parent


class PostgresServer:
    """A server with its data and its socket in one folder.

    Args:
        programs: Folder of `initdb` and `pg_ctl`.
        folder: Empty, and short: the path of a socket has at most 107 characters.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._numbers = count(1)
        if os.geteuid() == 0:
            shutil.chown(folder, ACCOUNT, ACCOUNT)
        how = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale"]
        self._call("initdb", *how, "--no-sync")
        lines = [f"{name} = '{value}'" for name, value in SETTINGS.items()]
        lines.append(f"unix_socket_directories = '{folder}'")
        with (folder / "data" / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write("\n".join(lines))

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._call("pg_ctl", "start", "--wait", f"--log={self._folder / 'log'}")

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it; "immediate" is like a crash: nothing is written, clients are cut off."""
        self._call("pg_ctl", "stop", "--wait", f"--mode={mode}")

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"runs_{next(self._numbers)}"
        with psycopg.connect(host=str(self._folder), user="postgres", autocommit=True) as server:
            server.execute(f"CREATE DATABASE {name}")
        return f"postgresql://postgres@/{name}?host={self._folder}"

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments, f"--pgdata={self._folder / 'data'}"]
        account = ACCOUNT if os.geteuid() == 0 else None
        # Not to a pipe: the server inherits it, and reading to its end would wait for the server.
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(
                command,
                cwd=self._folder,
                stdout=said,
                stderr=said,
                user=account,
                group=account,
                check=False,
            )
            said.seek(0)
            if done.returncode:
                raise RuntimeError(f"{command[0]} failed: {said.read().decode()}")


@contextmanager
def private_server(programs: Path) -> Iterator[PostgresServer]:
    """Start a server in a temporary folder; stop it and remove the folder at the end."""
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:
        server = PostgresServer(programs, Path(name))
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")

"""Stores to write into, on SQLite and PostgreSQL, and processes that start together."""

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from research_eval.store import Store
from research_eval.testing.postgres import find_programs, private_server

NOBODY = 65534


@pytest.fixture(autouse=True)
def state_folder(tmp_path, monkeypatch):
    """Spools of a server's database lie here, not in the home of whoever runs the tests."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@pytest.fixture
def store(path):
    with Store.open(path, create=True) as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server of our own, started when the first test asks for it."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (on Debian: apt-get install postgresql)")
    with private_server(programs) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """The address of an empty database, of either kind."""
    if request.param == "sqlite":
        return tmp_path / "runs.db"
    return request.getfixturevalue("postgres").new_database()


@pytest.fixture
def public_folder():
    """A folder that an unprivileged user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@contextmanager
def unprivileged():
    """Obey file permissions, also where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def run_together(script, number):
    """Run a script in so many processes that leave the same line at the same time.

    The script calls `wait()` when it is ready. Its processes are told apart by `index`.
    """
    preamble = "import sys\nindex = int(sys.argv[1])\ndef wait():\n    print(flush=True); input()\n"
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", preamble + script, str(index)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(number)
    ]
    for process in processes:
        assert process.stdout.readline() == "\n", process.communicate()[1]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * number, "\n".join(errors)

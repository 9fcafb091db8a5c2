"""A store that a script would find, and scripts that end in every way."""

import subprocess
import sys

import pytest

from research_eval.store import Store


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@pytest.fixture
def recorded(path):
    """Read a run back, by default the last one."""

    def read(name="last"):
        with Store.open(path, mode="ro") as store:
            return store.run(name)

    return read


@pytest.fixture
def history(path):
    """Read (steps, values) of a metric of the last run."""

    def read(metric, name="last"):
        with Store.open(path, mode="ro") as store:
            found = store.history(store.run(name).experiment_id, metric)
            return found.steps.tolist(), found.values.tolist()

    return read


@pytest.fixture
def script(path):
    """Start a script in a process of its own; `db` names the store."""

    def start(code, *arguments):
        preamble = f"import research_eval\nfrom research_eval import track\ndb = {str(path)!r}\n"
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", preamble + code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start

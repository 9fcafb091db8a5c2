"""What every test stands on: a fixed seed, one thread, no network, and a home of its own."""

import os
import random
import socket
import sys
import tempfile
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Real data beside the checkout; never part of it."""

OFFLINE = {
    "OMP_NUM_THREADS": "1",  # the same sums in the same order, and no fight for the cores
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MPLBACKEND": "Agg",
    "TERM": "dumb",
    "COLUMNS": "200",
    "NO_COLOR": "1",
}
UNWANTED = ("CI", "FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "XDG_RUNTIME_DIR")


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before any test module is imported; libraries read it on import."""
    home = tempfile.TemporaryDirectory(prefix="research-eval-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(home.cleanup)
    folders = {
        f"XDG_{kind}_HOME": str(Path(home.name, kind.lower()))
        for kind in ("CACHE", "CONFIG", "DATA", "STATE")
    }
    ours = [name for name in os.environ if name.startswith("RESEARCH_EVAL_")]
    for name in (*UNWANTED, *ours):
        os.environ.pop(name, None)
    os.environ.update(OFFLINE, HOME=home.name, **folders)


@pytest.fixture(autouse=True)
def _seed() -> None:
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture(autouse=True, scope="session")
def _no_network():
    """Refuse every connection that would leave this machine."""

    def guard(original):
        def connect(self, address):
            host = address[0] if isinstance(address, tuple) else address
            local = isinstance(host, str) and (host.startswith("127.") or host in LOOPBACK)
            if self.family != socket.AF_UNIX and not local:
                raise RuntimeError(f"a test tried to reach {host}; tests have no network")
            return original(self, address)

        return connect

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guard(getattr(socket.socket, name)))
        yield


LOOPBACK = {"::1", "localhost"}


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data beside the checkout, or skip where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder of real data, ../shared/data, is not there")
    return SHARED_DATA

"""Where a number came from: source, command, packages, machine. Only the standard library."""

from __future__ import annotations

import ast
import getpass
import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from research_eval.redaction import redact, without_password

PACKAGES = ("research-eval", "torch", "transformers", "datasets", "numpy", "safetensors")
DIFF_LIMIT_BYTES = 64 * 1024

DIFF_VARIABLE = "RESEARCH_EVAL_GIT_DIFF"
"""`off` leaves uncommitted changes out of every record."""


def git_state(folder: Path, *, with_diff: bool = True) -> tuple[str | None, str | None]:
    """Return the commit and the uncommitted diff (at most 64 KiB) of the checkout around `folder`.

    Both are None outside a checkout or without git; the diff is None if there is none, or if it
    is not wanted here or by RESEARCH_EVAL_GIT_DIFF=off.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None, None
    if not with_diff or os.environ.get(DIFF_VARIABLE) == "off":
        return commit.strip(), None
    diff = without_password(_git(folder, "diff", "HEAD", "--no-ext-diff", "--no-color") or "")
    encoded = diff.encode()
    if len(encoded) > DIFF_LIMIT_BYTES:
        kept = encoded[:DIFF_LIMIT_BYTES].decode(errors="ignore")
        diff = f"{kept}\n[cut: {len(encoded)} bytes in all]"
    return commit.strip(), diff or None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


@cache
def cpu_model() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def environment() -> dict[str, object]:
    """Return what a reader must know about the machine and the packages, as JSON values."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "installed": installed(),
        "user": _user(),
    }


def installed() -> dict[str, str]:
    """Return the version of every package that this process could import, by name.

    Names are read off the folders that installers leave: reading the metadata inside would take
    0.3 ms for each of hundreds.
    """
    found: dict[str, str] = {}
    for entry in reversed(sys.path):  # the first entry wins, as in an import
        for folder in Path(entry or ".").glob("*.dist-info"):
            name, _, number = folder.stem.partition("-")
            found[name.replace("_", "-").lower()] = number
    return dict(sorted(found.items()))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user in a container
        return None


def host() -> str:
    """Return the name of this machine."""
    return socket.gethostname()


def command() -> str:
    """Return the command that started this process, as JSON, without secrets."""
    return json.dumps(redact(sys.argv))


def code_hash(files: Iterable[Path]) -> str:
    """Return the identity of source files and of everything in this package that they import.

    Args:
        files: The modules that a run starts from: model, data set, router, training.

    Returns:
        sha256 over the contents, independent of where the files lie.
    """
    contents = sorted(hashlib.sha256(f.read_bytes()).hexdigest() for f in _closure(files))
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()


def _closure(files: Iterable[Path]) -> set[Path]:
    found: set[Path] = set()
    waiting = [file.resolve() for file in files]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _imports(file)
    return found


@cache
def _imports(file: Path) -> tuple[Path, ...]:
    """Return the files of this package that a file imports, wherever in it the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    package = __name__.partition(".")[0]
    ours = (_file_of(name) for name in sorted(names) if name.split(".")[0] == package)
    return tuple(path for path in ours if path is not None)


def _file_of(module: str) -> Path | None:
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # the last part is a name inside a module
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)

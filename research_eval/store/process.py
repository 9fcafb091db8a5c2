"""Whether the process that wrote a run still lives, told apart from a later one of its number."""

from __future__ import annotations

import os
import sys
import time
from functools import cache
from pathlib import Path

from research_eval.store.segments import Owner


def process_key(pid: int) -> str:
    """Return what identifies a living process on its machine beside its number.

    The key is "<machine> <start>". On Linux the machine is a boot and a process namespace, since
    a container may carry its host's name but not its process numbers.
    """
    return f"{_machine()} {_start(pid) or ''}"


def owner_here(experiment_id: str, attempt: int = 1, host: str | None = None) -> Owner:
    """Return this process as the owner of a run's records, from now on.

    Args:
        experiment_id: The run.
        attempt: Of the run.
        host: Name of this machine; None asks the system.
    """
    pid = os.getpid()
    return Owner(
        experiment_id, attempt, host or os.uname().nodename, pid, process_key(pid), time.time()
    )


def is_gone(pid: int, key: str) -> bool:
    """Return whether the process is certainly dead; False if it cannot be told from here.

    Args:
        pid: Its number.
        key: Its `process_key`, taken while it lived.
    """
    machine, _, start = key.rpartition(" ")
    if os.name != "posix" or machine != _machine():
        return False
    now = _start(pid)
    return now is None or ("" not in (now, start) and now != start)


@cache
def _machine() -> str:
    if sys.platform == "linux":
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    return os.uname().nodename


def _start(pid: int) -> str | None:
    """Return when a process started, "" if that is hidden, None if there is no such process."""
    if os.name != "posix":
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # it lives, under another user
    if sys.platform == "linux":
        return _start_from_proc(pid)
    import subprocess  # noqa: PLC0415 - the start of a script need not wait for it elsewhere

    shown = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return "_".join(shown.stdout.split())


def _start_from_proc(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # /proc may be mounted with hidepid
    state, *fields = stat.rpartition(")")[2].split()
    # A killed child that its parent has not waited for stays as a zombie: Z, or X for a moment.
    return None if state in "ZX" else fields[18]  # fields[18] is starttime, in clock ticks

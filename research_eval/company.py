"""The first of several processes that train one run: it starts, tells and minds the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch.distributed as dist

from research_eval import ranks
from research_eval.errors import LostProcessError, ResearchEvalError, RunError
from research_eval.following import ARRIVED, Training
from research_eval.prepare import Prepared
from research_eval.processes import Process
from research_eval.training.progress import Watcher

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

NOTICE_S = 10.0
"""How long the death of a process may take to be noticed, by the system or by this process."""

LEAVE_S = 30.0
"""How long the others may take to leave when all is done."""

_others_wait = False


@contextmanager
def leading(here: Process) -> Iterator[None]:
    """Be the first of the processes that a launcher started, and let the others go at the end."""
    global _others_wait
    with ranks.joined(here, ranks.meeting_place(here)):
        _others_wait = True
        try:
            yield
        finally:
            if _others_wait:
                ranks.firsts(None)


@contextmanager
def together(prepared: Prepared, training: Training, watcher: Watcher) -> Iterator[None]:
    """Let the other processes of a run, if it has any, take part in its training.

    They were started by a launcher and wait, or they are started here.

    Raises:
        LostProcessError: If one of them is killed.
        RunError: If one of them fails.
    """
    global _others_wait
    if prepared.processes == 1:
        yield
        return
    watcher.say(_in_words(prepared))
    with ExitStack() as stack:
        followers = None
        if ranks.size() == 1:
            followers = stack.enter_context(_started(prepared.processes, training.folder))
            stack.enter_context(ranks.joined(Process(0, prepared.processes), followers.met()))
        _others_wait = False
        try:
            ranks.firsts(training)
            yield
        except ResearchEvalError:
            raise
        except Exception as error:
            if not _is_parting(error):
                raise
            if followers is None:
                told = "another process of this run ended"
                raise LostProcessError(told, _continuation(training.folder)) from error
            followers.raise_if_ended(wait_s=NOTICE_S)
            raise


def _in_words(prepared: Prepared) -> str:
    config = prepared.experiment.config
    threads = config.training_params.num_threads
    each = f"{config.batch_size // prepared.processes} of its {config.batch_size} rows"
    with_threads = "" if threads is None else f" and {threads} CPU threads"
    return f"{prepared.processes} processes share each batch: {each}{with_threads} for each"


def _is_parting(error: Exception) -> bool:
    """Return whether an exception may come of the end of another process."""
    words = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)


def _continuation(folder: Path) -> str:
    has_point = any(folder.glob("resume.safetensors"))
    return "continues from its last resume point" if has_point else "runs it anew"


@contextmanager
def _started(size: int, folder: Path) -> Iterator[_Followers]:
    """Start all processes but the first, and see that none stays."""
    followers = _Followers(size, folder)
    over = threading.Event()
    try:
        for rank in range(1, size):
            followers.start(rank)
        threading.Thread(target=followers.guard, args=(over,), daemon=True).start()
        yield followers
        followers.wait()
    finally:
        over.set()
        followers.kill()


class _Followers:
    """The processes of a run but the first, each with a log in the folder of the run."""

    def __init__(self, size: int, folder: Path) -> None:
        self._size, self._folder = size, folder
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]  # torch's stubs lack it
        if sys.platform == "linux":  # gloo would look for an address that others can reach
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")

    def start(self, rank: int) -> None:
        """Start a process; it ends when this one does, because its input then does."""
        environment = os.environ | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(self._size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self._store.port),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        with self._log(rank).open("wb") as log:
            self._processes[rank] = subprocess.Popen(
                [sys.executable, "-P", "-m", "research_eval.following"],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C at a terminal is for the first process alone
            )

    def _log(self, rank: int) -> Path:
        return self._folder / f"process{rank}.log"

    def met(self) -> Store:
        """Return where the processes meet, when all are there.

        Raises:
            RunError: If one of them ends before.
        """
        place = ranks.apart(self._store)
        while place.add(ARRIVED, 0) < len(self._processes):
            self.raise_if_ended()
            time.sleep(0.05)
        return place

    def raise_if_ended(self, wait_s: float = 0.0) -> None:
        """Say what happened to a process that should still be there.

        Raises:
            LostProcessError: If one was killed.
            RunError: If one failed.
        """
        deadline = time.monotonic() + wait_s
        while not (ended := self._ended()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for rank, code in sorted(ended.items(), key=lambda each: each[1]):  # the killed first
            name = f"process {rank} of {self._size}"
            if code < 0:
                told = f"{name} was killed by signal {-code}"
                raise LostProcessError(told, _continuation(self._folder))
            said = self._log(rank).read_text(encoding="utf-8", errors="replace").splitlines()
            last = said[-1].removeprefix(f"[rank{rank}]: ") if said else f"exit code {code}"
            raise RunError(f"{name} failed: {last}; {self._log(rank)} has all that it said")

    def _ended(self) -> dict[int, int]:
        """Return the exit codes of the processes that did not end well."""
        codes = {rank: process.poll() for rank, process in self._processes.items()}
        return {rank: code for rank, code in codes.items() if code}

    def guard(self, over: threading.Event) -> None:
        """End this process if it does not notice that another died: NCCL may wait for ever."""
        while not over.wait(1.0):
            if self._ended() and not over.wait(2 * NOTICE_S):
                try:
                    self.raise_if_ended()
                except RunError as error:
                    sys.stderr.write(f"error: {error}\n")
                    sys.stderr.flush()
                    os._exit(error.exit_code)

    def wait(self) -> None:
        """Let the processes leave, whose work is done."""
        deadline = time.monotonic() + LEAVE_S
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                return

    def kill(self) -> None:
        """End what still runs, and remove the logs of those that had nothing to say."""
        for rank, process in self._processes.items():
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
            if process.returncode in (0, -signal.SIGKILL):
                self._log(rank).unlink(missing_ok=True)

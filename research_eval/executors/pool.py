"""Tasks in several processes.

A worker that dies takes one task with it, and another worker takes its place.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

import torch

from research_eval.errors import ConfigError
from research_eval.executors.protocol import Listener
from research_eval.executors.room import check_gpus, check_room
from research_eval.jobs import Bench, Result, Task
from research_eval.system import VISIBLE, free_gpu_memory, visible_gpus
from research_eval.training.progress import Progress


@dataclass(frozen=True, slots=True)
class _Seat:
    """What a worker is told before its first task; `gpu` is the only one that it sees."""

    url: str | Path
    num_threads: int
    gpu: str | None
    is_for_one: bool


@dataclass(slots=True)
class _Worker:
    """A worker process, as its parent sees it; `handle` is its task, None while it is idle."""

    process: BaseProcess
    pipe: Connection
    seat: _Seat
    handle: int | None = None


class Pool:
    """An `Executor` of several processes.

    Processes are forked from a server that has loaded torch (in 0.1 s instead of 4 s), or
    started anew for GPUs, whose driver does not survive a fork.

    Args:
        url: The store.
        workers: How many tasks run at once; each process gets an even share of the CPU.
        gpus: Instead, one worker for each of these GPUs, which sees no other. They are counted
            among those that this process sees (`CUDA_VISIBLE_DEVICES`).
        fresh: Whether each task gets a process of its own, so that none inherits memory. Else a
            worker goes from task to task and keeps the data.

    Raises:
        ConfigError: If the machine has no room for them, or no such GPU.
    """

    def __init__(
        self,
        url: str | Path,
        *,
        workers: int = 1,
        gpus: Sequence[int] = (),
        fresh: bool = False,
    ) -> None:
        seen: Sequence[str | None] = _names_of(gpus) or [None] * workers
        check_room(len(seen))
        share = threads_each(len(seen))
        self._seats = [_Seat(url, share, gpu, fresh) for gpu in seen]
        self._workers: list[_Worker] = []
        self._context = _context("spawn" if torch.cuda.is_available() else "forkserver")

    @property
    def free(self) -> int:
        """Workers without a task, and those that are not hired yet."""
        return len(self._seats) + sum(worker.handle is None for worker in self._workers)

    def start(self, handle: int, task: Task) -> None:
        """Give the task to an idle worker, or to a new one."""
        while True:
            idle = [worker for worker in self._workers if worker.handle is None]
            worker = idle[0] if idle else self._hire()
            try:
                worker.pipe.send(task)
            except OSError:  # it died while it was idle
                self._dismiss(worker)
                continue
            worker.handle = handle
            return

    def _hire(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        seat = self._seats.pop(0)
        process = self._context.Process(target=_serve, args=(theirs, seat), daemon=True)
        process.start()
        theirs.close()
        worker = _Worker(process, ours, seat)
        self._workers.append(worker)
        return worker

    def _dismiss(self, worker: _Worker) -> int:
        """Let a worker go whose process ends, and return its exit code."""
        worker.pipe.close()
        worker.process.join()
        self._workers.remove(worker)
        self._seats.append(worker.seat)
        exit_code = worker.process.exitcode
        worker.process.close()
        return exit_code or 0

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.handle is not None]

    def wait(self, listener: Listener, timeout: float) -> None:
        """Wait for news of the workers for a moment, and pass it on."""
        busy = self._busy()
        ready = wait([worker.pipe for worker in busy], timeout)
        for worker in busy:
            try:
                while worker.pipe in ready and worker.handle is not None and worker.pipe.poll():
                    self._receive(worker, worker.handle, worker.pipe.recv(), listener)
            except (EOFError, OSError):
                handle = worker.handle
                exit_code = self._dismiss(worker)
                if handle is not None:
                    listener.died(handle, exit_code)

    def _receive(self, worker: _Worker, handle: int, message: _Message, listener: Listener) -> None:
        if isinstance(message, Progress):
            listener.progress(handle, message)
        elif isinstance(message, _Report):
            worker.pipe.send(listener.report(handle, message.step, message.values))
        elif isinstance(message, Result):
            worker.handle = None
            if worker.seat.is_for_one:
                self._dismiss(worker)
            listener.done(handle, message)
        else:
            listener.say(message)

    def pass_on(self, number: int) -> None:
        """Send a signal to the workers that have a task."""
        for worker in self._busy():
            if worker.process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(worker.process.pid, number)

    def close(self) -> None:
        """Let idle workers go and stop the others."""
        for worker in self._busy():
            worker.process.terminate()
        for worker in list(self._workers):
            self._dismiss(worker)


def _context(method: Literal["forkserver", "spawn"]) -> ForkServerContext | SpawnContext:
    if method == "spawn" or not hasattr(os, "fork"):
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["research_eval.executors.preload"])
    return context


def _names_of(gpus: Sequence[int]) -> list[str]:
    """Return what CUDA calls these GPUs: an index of the machine, or a UUID."""
    if not gpus:
        return []
    found = torch.cuda.device_count()
    try:
        free_bytes = free_gpu_memory()
    except OSError as error:
        raise ConfigError(f"the GPUs cannot be asked for their memory: {error}") from error
    check_gpus(gpus, found, free_bytes)
    names = visible_gpus(found)
    return [names[gpu] for gpu in gpus]


def threads_each(workers: int) -> int:
    """Return the CPU threads of each of several workers, at least one."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    available = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, available // workers)


@dataclass(frozen=True, slots=True)
class _Report:
    """Scores at a step; the worker waits for the answer."""

    step: int
    values: Mapping[str, float]


_Message = str | Progress | _Report | Result


def _serve(pipe: Connection, seat: _Seat) -> None:
    """Carry out the tasks that come through a pipe, until it is closed."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C at the terminal reaches the parent alone, which passes it on once
    if seat.gpu is not None:
        os.environ[VISIBLE] = seat.gpu  # read when CUDA is first used
    torch.set_num_threads(seat.num_threads)
    watcher = _ToParent(pipe)
    with closing(Bench(seat.url)) as bench, suppress(EOFError, KeyboardInterrupt):
        while True:
            task = pipe.recv()
            result = task.carry_out(bench, watcher)
            watcher.send(_slim(result))
            if seat.is_for_one:
                break


def _slim(result: Result) -> Result:
    """Return the result without what nobody asks for and is large."""
    if result.record is None:
        return result
    record = replace(result.record, git_diff=None, config_schema_json=None)
    return replace(result, record=record)


@dataclass(slots=True)
class _ToParent:
    """The `TaskWatcher` at the other end of a pipe."""

    pipe: Connection

    def say(self, line: str) -> None:
        self.send(line)

    def progress(self, now: Progress) -> None:
        self.send(now)

    def report(self, step: int, values: Mapping[str, float]) -> bool:
        self.send(_Report(step, values))
        try:
            return bool(self.pipe.recv())
        except (EOFError, OSError):
            self._stop()
            return False

    def send(self, message: _Message) -> None:
        try:
            self.pipe.send(message)
        except OSError:
            self._stop()

    def _stop(self) -> None:
        """The parent is gone: stop as if asked to, with a resume point."""
        signal.raise_signal(signal.SIGTERM)

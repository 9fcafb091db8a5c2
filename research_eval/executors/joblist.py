"""A list of jobs, carried out until all are done."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from research_eval import ranks
from research_eval.errors import RunError, StoppedError, StoreError
from research_eval.executors.here import Here
from research_eval.executors.pool import Pool, threads_each
from research_eval.executors.protocol import Executor
from research_eval.interrupt import stop_on_signals
from research_eval.jobs import Job, Result
from research_eval.training.progress import Progress, StopSignal

SIGNAL_LATENCY_S = 0.2
"""How long a signal may wait until it is passed on to the workers."""


class Audience(Protocol):
    """Who is told about jobs; each is known by its place in the list."""

    def say(self, line: str) -> None:
        """Take a line about what is going on."""

    def progress(self, index: int, now: Progress) -> None:
        """Take the state of a job's training."""

    def done(self, index: int, result: Result) -> None:
        """Take what became of a job."""


@dataclass(slots=True)
class _ForJobs:
    """The `Listener` of a list of jobs."""

    jobs: Sequence[Job]
    audience: Audience
    running: set[int] = field(default_factory=set)
    failure: StoreError | StoppedError | None = None
    is_stopping: bool = False

    def say(self, line: str) -> None:
        self.audience.say(line)

    def progress(self, handle: int, now: Progress) -> None:
        self.audience.progress(handle, now)

    def report(self, handle: int, step: int, values: Mapping[str, float]) -> bool:  # noqa: ARG002 - nobody prunes
        return False

    def done(self, handle: int, result: Result) -> None:
        self.running.discard(handle)
        if isinstance(result.error, StoreError | StoppedError):
            self.failure = self.failure or result.error
        self.audience.done(handle, result)

    def died(self, handle: int, exit_code: int) -> None:
        self.running.discard(handle)
        if not self.is_stopping:  # then it is what it was asked for
            error = RunError(
                f"a worker process died (exit code {exit_code}); if its run had "
                "begun, it is recorded as LOST and the same command continues it"
            )
            self.audience.done(handle, Result(self.jobs[handle], "failed", None, error))


def run_here(
    jobs: Sequence[Job], url: str | Path, audience: Audience, *, processes: int = 1
) -> None:
    """Carry out jobs one after another in this process; a failed one does not stop the others.

    Args:
        jobs: What to do.
        url: The store.
        audience: Told how it goes.
        processes: How many share each job, this one included. If no launcher started the
            others, each gets an even share of the CPU where the configuration names no threads.

    Raises:
        StoppedError: If a signal stopped one; those behind it are not started.
        StoreError: If the store failed one; the others would fare no better.
    """
    if processes > 1:
        share = threads_each(processes) if ranks.size() == 1 else None
        jobs = [replace(job, processes=processes, num_threads=share) for job in jobs]
    listener = _ForJobs(jobs, audience)
    with closing(Here(url)) as executor:
        for index, job in enumerate(jobs):
            executor.start(index, job)
            executor.wait(listener, SIGNAL_LATENCY_S)
            if listener.failure is not None:
                raise listener.failure


def run_in_workers(
    jobs: Sequence[Job],
    url: str | Path,
    audience: Audience,
    *,
    workers: int,
    gpus: Sequence[int] = (),
) -> None:
    """Carry out jobs in several processes; a failed one does not stop the others.

    A configuration that names no number of CPU threads gets an even share of the machine.

    Args:
        jobs: What to do.
        url: The store.
        audience: Told how it goes.
        workers: How many processes.
        gpus: Instead, one process for each of these GPUs.

    Raises:
        StoppedError: If a signal came: it was passed on, and what ran has a resume point.
        StoreError: If the store failed one; the others would fare no better.
    """
    share = threads_each(len(gpus) or workers)
    jobs = [replace(job, num_threads=share) for job in jobs]
    listener = _ForJobs(jobs, audience)
    pool = Pool(url, workers=workers, gpus=gpus)
    with stop_on_signals() as stop, closing(pool) as executor:
        _work(executor, listener, stop)
    if stop.number is not None:
        raise StoppedError(stop.number)
    if isinstance(listener.failure, StoreError):
        raise listener.failure


def _work(executor: Executor, listener: _ForJobs, stop: StopSignal) -> None:
    """Hand out jobs until all are done, a signal has come, or the store fails."""
    waiting = deque(range(len(listener.jobs)))
    while True:
        if stop.number is not None and not listener.is_stopping:
            listener.is_stopping = True
            executor.pass_on(stop.number)
            listener.say(f"stopping; waiting for {len(listener.running)} resume points")
        is_ending = listener.is_stopping or isinstance(listener.failure, StoreError)
        while waiting and executor.free and not is_ending:
            index = waiting.popleft()
            listener.running.add(index)
            executor.start(index, listener.jobs[index])
        if not listener.running:
            return
        executor.wait(listener, SIGNAL_LATENCY_S)

"""Many runs: a job is what one process needs to carry out one configuration with one seed.

Jobs are carried out one after another in this process, or by several worker processes. Each
worker writes its own records to the store; what travels between processes is jobs, progress and
results. A worker that dies takes one job with it, and another takes its place.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from research_eval import execute
from research_eval.config import Experiment, load_text
from research_eval.errors import ResearchEvalError, RunError, StoppedError, StoreError
from research_eval.interrupt import stop_on_signals
from research_eval.prepare import Prepared, prepare
from research_eval.records import RunRecord
from research_eval.store import Store
from research_eval.training.progress import Progress, StopSignal, Watcher

SIGNAL_LATENCY_S = 0.2
"""How long a signal may wait until it is passed on to the workers."""


@dataclass(frozen=True, slots=True)
class Job:
    """One configuration with one seed, as a process can receive it.

    Attributes:
        config_json: Text of a configuration that validates.
        base_dir: Folder that relative paths in it start from.
        source: Where the configuration came from, for the record.
        again: Whether to run what is recorded already.
        num_threads: CPU threads for a configuration that names none; None leaves torch's choice.
    """

    config_json: str
    base_dir: Path
    seed: int
    source: str = ""
    again: bool = False
    num_threads: int | None = None

    @classmethod
    def of(cls, experiment: Experiment, seed: int, *, source: str, again: bool) -> Job:
        """Return the job that carries out an experiment with a seed."""
        text = experiment.config.model_dump_json(by_alias=True, exclude_unset=True)
        return cls(text, experiment.base_dir, seed, source, again)

    def experiment(self) -> Experiment:
        """Return the experiment, with its seed and its number of threads."""
        loaded = load_text(self.config_json, base_dir=self.base_dir)
        changes: dict[str, int] = {"seed": self.seed}
        if self.num_threads and loaded.config.training_params.num_threads is None:
            changes["training_params.num_threads"] = self.num_threads
        return loaded.with_fields(changes)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a job.

    Attributes:
        action: What was done; "skipped" if it is recorded already, "failed" with an `error`.
        record: The run as recorded; None if nothing was.
    """

    job: Job
    action: Literal["ran", "resumed", "skipped", "failed"]
    record: RunRecord | None = None
    error: ResearchEvalError | None = None


class Audience(Protocol):
    """Who is told about jobs; each is known by its place in the list."""

    def say(self, line: str) -> None:
        """Take a line about what is going on."""

    def progress(self, index: int, now: Progress) -> None:
        """Take the state of a job's training."""

    def done(self, index: int, result: Result) -> None:
        """Take what became of a job."""


@dataclass(slots=True)
class _OneJob:
    """The `Watcher` of one job of an audience."""

    audience: Audience
    index: int

    def say(self, line: str) -> None:
        self.audience.say(line)

    def progress(self, now: Progress) -> None:
        self.audience.progress(self.index, now)


class Executor:
    """Carries out jobs one after another, for as long as its context is open.

    The data of the latest configuration is kept, so jobs that differ only in their seed share
    it. The store is opened, and made if need be, when the first job has its data.

    Args:
        url: The store.
    """

    def __init__(self, url: str | Path) -> None:
        self._url = url
        self._store: Store | None = None
        self._latest: tuple[Job, Prepared | ResearchEvalError] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._store is not None:
            self._store.close()

    def carry_out(self, job: Job, watcher: Watcher) -> Result:
        """Carry out a job; an error of ours is in the result, not raised."""
        prepared = None
        try:
            prepared = self._prepare(job, watcher).with_seed(job.seed)
            store = self._open_store()
            outcome = execute.run(prepared, store, watcher, again=job.again, source=job.source)
        except StoreError as error:
            return Result(job, "failed", None, error)
        except ResearchEvalError as error:
            return Result(job, "failed", self._record_of(prepared, error), error)
        return Result(job, outcome.action, outcome.record)

    def _open_store(self) -> Store:
        if self._store is None:
            self._store = Store.open(self._url, create=True)
        return self._store

    def _prepare(self, job: Job, watcher: Watcher) -> Prepared:
        key = replace(job, seed=0)
        if self._latest is None or self._latest[0] != key:
            self._latest = None  # frees the data before the next is loaded
            try:
                self._latest = key, prepare(job.experiment(), watcher)
            except ResearchEvalError as error:
                self._latest = key, error
        prepared = self._latest[1]
        if isinstance(prepared, ResearchEvalError):
            raise prepared
        return prepared

    def _record_of(self, prepared: Prepared | None, error: ResearchEvalError) -> RunRecord | None:
        """Return the record of a run that ended with an error while it ran."""
        if prepared is None or not isinstance(error, RunError | StoppedError):
            return None
        with suppress(StoreError):  # the error that is being reported says more
            return next(iter(execute.recorded(prepared, self._open_store())), None)
        return None


def run_here(jobs: Sequence[Job], url: str | Path, audience: Audience) -> None:
    """Carry out jobs one after another in this process; a failed one does not stop the others.

    Raises:
        StoppedError: If a signal stopped one; those behind it are not started.
        StoreError: If the store failed one; the others would fare no better.
    """
    with Executor(url) as executor:
        for index, job in enumerate(jobs):
            result = executor.carry_out(job, _OneJob(audience, index))
            audience.done(index, result)
            if isinstance(result.error, StoppedError | StoreError):
                raise result.error


# ---------------------------------------------------------------------------- several processes


@dataclass(slots=True)
class _Worker:
    """A worker process, as its parent sees it; `index` is its job, None while it is idle."""

    process: BaseProcess
    pipe: Connection
    index: int | None = None


@dataclass(slots=True)
class _Crew:
    """The workers, and which jobs they have."""

    url: str | Path
    jobs: Sequence[Job]
    audience: Audience
    size: int
    waiting: deque[int]
    workers: list[_Worker] = field(default_factory=list)
    fatal: StoreError | None = None

    def busy(self) -> list[_Worker]:
        """Return the workers that have a job."""
        return [worker for worker in self.workers if worker.index is not None]

    def hand_out(self) -> None:
        """Give each idle worker a job, and hire as long as there are jobs and places."""
        idle = [worker for worker in self.workers if worker.index is None]
        while self.waiting and (idle or len(self.workers) < self.size):
            worker = idle.pop() if idle else self._hire()
            index = self.waiting[0]
            try:
                worker.pipe.send((index, self.jobs[index]))
            except OSError:  # it died while it was idle
                self.workers.remove(worker)
                continue
            worker.index = self.waiting.popleft()

    def _hire(self) -> _Worker:
        context = get_context("spawn")  # a fork would copy torch's threads' locks
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.url), daemon=True)
        process.start()
        theirs.close()
        self.workers.append(_Worker(process, ours))
        return self.workers[-1]

    def listen(self, *, stopping: bool) -> None:
        """Wait for news of the workers for a moment, and pass it on."""
        wait([w.pipe for w in self.busy()], timeout=SIGNAL_LATENCY_S)
        for worker in self.busy():
            try:
                while worker.index is not None and worker.pipe.poll():
                    self._receive(worker, worker.pipe.recv())
            except (EOFError, OSError):
                self._bury(worker, stopping=stopping)

    def _receive(self, worker: _Worker, message: str | Progress | Result) -> None:
        index = worker.index
        if index is None:
            return
        if isinstance(message, Progress):
            self.audience.progress(index, message)
        elif isinstance(message, Result):
            worker.index = None
            if isinstance(message.error, StoreError):
                self.fatal = message.error
            self.audience.done(index, message)
        else:
            self.audience.say(message)

    def _bury(self, worker: _Worker, *, stopping: bool) -> None:
        """Take note that a worker has died; while stopping this is what it was asked for."""
        worker.process.join()
        self.workers.remove(worker)
        if worker.index is not None and not stopping:
            error = RunError(
                f"a worker process died (exit code {worker.process.exitcode}); if its run had "
                "begun, it is recorded as LOST and the same command continues it"
            )
            job = self.jobs[worker.index]
            self.audience.done(worker.index, Result(job, "failed", None, error))

    def pass_on(self, number: int) -> None:
        """Send a signal to the workers that have a job."""
        for worker in self.busy():
            if worker.process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(worker.process.pid, number)

    def dismiss(self) -> None:
        """Let idle workers go and stop the others."""
        for worker in self.workers:
            worker.pipe.close()
            if worker.index is not None:
                worker.process.terminate()
        for worker in self.workers:
            worker.process.join()


def run_in_workers(
    jobs: Sequence[Job], url: str | Path, audience: Audience, *, workers: int
) -> None:
    """Carry out jobs in several processes; a failed one does not stop the others.

    A configuration that names no number of CPU threads gets an even share of the machine.

    Raises:
        StoppedError: If a signal came: it was passed on, and what ran has a resume point.
        StoreError: If the store failed one; the others would fare no better.
    """
    share = threads_each(workers)
    jobs = [replace(job, num_threads=share) for job in jobs]
    crew = _Crew(url, jobs, audience, workers, deque(range(len(jobs))))
    with stop_on_signals() as stop:
        try:
            _work(crew, stop)
        finally:
            crew.dismiss()
    if stop.number is not None:
        raise StoppedError(stop.number)
    if crew.fatal is not None:
        raise crew.fatal


def _work(crew: _Crew, stop: StopSignal) -> None:
    """Hand out jobs until all are done, a signal has come, or the store fails."""
    was_passed_on = False
    while True:
        stopping = stop.number is not None or crew.fatal is not None
        if not stopping:
            crew.hand_out()
        if not crew.busy():
            return
        if stop.number is not None and not was_passed_on:
            crew.pass_on(stop.number)
            was_passed_on = True
            crew.audience.say(f"stopping; waiting for {len(crew.busy())} resume points")
        crew.listen(stopping=stop.number is not None)


def threads_each(workers: int) -> int:
    """Return the CPU threads of each of several workers, at least one."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    available = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, available // workers)


def _serve(pipe: Connection, url: str | Path) -> None:
    """Carry out the jobs that come through a pipe, until it is closed."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C at the terminal reaches the parent alone, which passes it on once
    with Executor(url) as executor, suppress(EOFError, KeyboardInterrupt):
        while True:
            index, job = pipe.recv()
            audience = _ToParent(pipe)
            audience.done(index, executor.carry_out(job, _OneJob(audience, index)))


@dataclass(slots=True)
class _ToParent:
    """An `Audience` at the other end of a pipe."""

    pipe: Connection

    def say(self, line: str) -> None:
        self._send(line)

    def progress(self, index: int, now: Progress) -> None:  # noqa: ARG002  # the parent knows it
        self._send(now)

    def done(self, index: int, result: Result) -> None:  # noqa: ARG002  # the parent knows it
        self._send(result)

    def _send(self, message: str | Progress | Result) -> None:
        try:
            self.pipe.send(message)
        except OSError:  # the parent is gone: stop as if asked to, with a resume point
            signal.raise_signal(signal.SIGTERM)

"""A job is what one process needs to carry out one configuration with one seed.

Jobs and other tasks are carried out at a bench, which keeps what one task leaves for the next:
the open store, and the data. What travels between processes is tasks, progress and results; each
process writes its own records to the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from research_eval import execute
from research_eval.config import Experiment, load_text
from research_eval.errors import ResearchEvalError, RunError, StoppedError, StoreError
from research_eval.prepare import Prepared, prepare
from research_eval.records import Place, RunRecord
from research_eval.store import Store
from research_eval.training.progress import Watcher


class TaskWatcher(Watcher, Protocol):
    """Someone who waits for a task, and may end it."""

    def report(self, step: int, values: Mapping[str, float]) -> bool:
        """Take the scores at a step, and say whether the task is to end as PRUNED."""


class Task(Protocol):
    """Something to be carried out and recorded, by this process or by another one."""

    @property
    def seed(self) -> int:
        """Of its run."""

    def carry_out(self, bench: Bench, watcher: TaskWatcher) -> Result:
        """Do it; an error of ours is in the result, not raised."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a task.

    Attributes:
        action: What was done; "skipped" if it is recorded already, "failed" with an `error`.
        record: The run as recorded; None if nothing was.
    """

    job: Task
    action: Literal["ran", "resumed", "skipped", "failed"]
    record: RunRecord | None = None
    error: ResearchEvalError | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One configuration with one seed, as a process can receive it.

    Attributes:
        config_json: Text of a configuration that validates.
        base_dir: Folder that relative paths in it start from.
        source: Where the configuration came from, for the record.
        again: Whether to run what is recorded already.
        num_threads: CPU threads for a configuration that names none; None leaves torch's choice.
        place: What the run belongs to.
        continued: Id of the run that this is another attempt of.
        reports: Metrics whose points are reported, since the run may be ended because of them.
        processes: How many share each batch.
    """

    config_json: str
    base_dir: Path
    seed: int
    source: str = ""
    again: bool = False
    num_threads: int | None = None
    place: Place = field(default_factory=Place)
    continued: str | None = None
    reports: tuple[str, ...] = ()
    processes: int = 1

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

    def carry_out(self, bench: Bench, watcher: TaskWatcher) -> Result:
        """Train the configuration and record it."""
        prepared = None
        try:
            prepared = bench.prepare(self, watcher)
            outcome = self._run(prepared, bench.store(), watcher)
        except StoreError as error:
            return Result(self, "failed", None, error)
        except ResearchEvalError as error:
            return Result(self, "failed", bench.record_of(prepared, error), error)
        return Result(self, outcome.action, outcome.record)

    def _run(self, prepared: Prepared, store: Store, watcher: TaskWatcher) -> execute.Outcome:
        def judge(step: int, values: Mapping[str, float]) -> bool:
            scores = {name: values[name] for name in self.reports if name in values}
            return bool(scores) and watcher.report(step, scores)

        asked = judge if self.reports else None
        outcome = None
        if self.continued is not None:
            outcome = execute.continue_run(self.continued, prepared, store, watcher, asked)
        return outcome or execute.run(
            prepared,
            store,
            watcher,
            again=self.again,
            source=self.source,
            place=self.place,
            judge=asked,
        )


class Bench:
    """What a process keeps from task to task, until it is closed.

    The data of the latest configuration is kept, so jobs that differ only in their seed share
    it. The store is opened, and made if need be, when the first task needs it.

    Args:
        url: The store.
    """

    def __init__(self, url: str | Path) -> None:
        self._url = url
        self._store: Store | None = None
        self._latest: tuple[Job, Prepared | ResearchEvalError] | None = None

    def close(self) -> None:
        """Close the store if it is open."""
        if self._store is not None:
            self._store.close()

    def store(self) -> Store:
        """Return the store.

        Raises:
            StoreError: If it cannot be opened.
        """
        if self._store is None:
            self._store = Store.open(self._url, create=True)
        return self._store

    def prepare(self, job: Job, watcher: Watcher) -> Prepared:
        """Return a job's configuration with its data and its seed.

        Raises:
            ResearchEvalError: As `prepare.prepare` does, for each seed anew.
        """
        key = replace(job, seed=0, place=Place(), continued=None)
        if self._latest is None or self._latest[0] != key:
            self._latest = None  # frees the data before the next is loaded
            try:
                self._latest = key, prepare(job.experiment(), watcher, processes=job.processes)
            except ResearchEvalError as error:
                self._latest = key, error
        prepared = self._latest[1]
        if isinstance(prepared, ResearchEvalError):
            raise prepared
        return prepared.with_seed(job.seed)

    def record_of(self, prepared: Prepared | None, error: ResearchEvalError) -> RunRecord | None:
        """Return the record of a run that ended with an error while it ran."""
        if prepared is None or not isinstance(error, RunError | StoppedError):
            return None
        with suppress(StoreError):  # the error that is being reported says more
            return next(iter(execute.recorded(prepared, self.store())), None)
        return None

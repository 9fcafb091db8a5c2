"""A study from Python: `optimize`, and what it stands on."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research_eval.config import read_tree
from research_eval.errors import ConfigError, StoreError
from research_eval.executors import Executor, Here, Pool
from research_eval.hpo.book import Book
from research_eval.hpo.configurations import Configurations
from research_eval.hpo.coordinator import Coordinator
from research_eval.hpo.functions import Function, Functions
from research_eval.hpo.mirror import Mirror
from research_eval.hpo.problem import Problem
from research_eval.hpo.remembering import remember
from research_eval.hpo.results import Table, write_best
from research_eval.hpo.spec import StudySpec
from research_eval.hpo.trials import NobodyListens, Standing, StudyAudience, Trial
from research_eval.interrupt import stop_on_signals
from research_eval.knobs import Knob
from research_eval.store import Store
from research_eval.store.location import locate
from research_eval.training.progress import StopSignal


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What a study found.

    Attributes:
        trials: All of them, by number.
        best: Best completed, feasible trial of each arm by the first objective.
        front: Trials that no other one beats in all objectives.
        closed: Why an arm got no more trials, if it got fewer than its share.
        table: The CSV with one row for each trial.
        files: Best configuration of each arm, as files that `run` accepts.
    """

    name: str
    trials: tuple[Trial, ...]
    best: Mapping[str, Trial]
    front: tuple[Trial, ...]
    standing: Standing
    closed: Mapping[str, str]
    table: Path
    files: Mapping[str, Path]


class Study:
    """A study that is ready to be carried out. Making one reads, checks, and writes nothing.

    Args:
        spec: What is asked.
        db: The store, by path or URL; by default the one that the commands would use.
        problem: What is searched; by default configurations, as the spec says.

    Attributes:
        spec: What is asked, with an objective if it named none.
        arms: Names of the arms in the order in which trials are dealt out.
        spaces: What is searched in each arm: the knob of every dotted path.

    Raises:
        ConfigError: With every mistake that is in it.
    """

    def __init__(
        self, spec: StudySpec, db: str | Path | None = None, *, problem: Problem | None = None
    ) -> None:
        self.problem: Problem = problem or Configurations(spec)
        self.spec = self.problem.spec
        self.arms = tuple(self.problem.spaces)
        self.spaces: Mapping[str, Mapping[str, Knob]] = {
            arm: space.knobs for arm, space in self.problem.spaces.items()
        }
        self._db = db

    @property
    def table_name(self) -> str:
        """Name of the CSV."""
        kind, name = self.problem.data
        name = name.replace("/", "_").replace(":", "_")
        return f"optuna_study_{self.spec.name}_{kind}_{name}_full_results.csv"

    def run(
        self,
        *,
        workers: int | None = None,
        gpus: Sequence[int] = (),
        timeout: float | None = None,
        audience: StudyAudience | None = None,
        folder: Path | None = None,
        storage: str | None = None,
    ) -> StudyResult:
        """Carry out what is left of the study and return all of it.

        Args:
            workers: Processes that carry out trials, a fresh one for each; None does so in this
                process.
            gpus: One worker for each of these GPUs instead.
            timeout: Seconds after which no new run begins.
            audience: Told how it goes.
            folder: Where the table and the best configurations are written; beside the store by
                default.
            storage: URL of an Optuna storage that gets a copy of all finished trials at the end,
                whatever the end is.

        Raises:
            ConfigError: If the study cannot be continued as it is asked, or no trial records the
                objective.
            DataError: If the data cannot be had.
            StoreError: If the store cannot be written, or another process carries out the study.
            StoppedError: If a signal came; the same call continues.
        """
        told = audience or NobodyListens()
        url = self._db or locate(create=True)
        in_processes = bool(workers or gpus)
        executor: Executor = (
            Pool(url, workers=workers or 1, gpus=gpus, fresh=True) if in_processes else Here(url)
        )
        mirror = Mirror(storage, self.spec) if storage else None
        with Store.open(url, create=True) as store, _alone(store, self.spec.name):
            place = folder or store.artifact_dir.parent
            coordinator = self._coordinator(store, told, place, timeout)
            signals = stop_on_signals() if in_processes else nullcontext(StopSignal())
            try:
                with store.kept_open(), closing(executor), signals as stop:
                    coordinator.run(executor, stop)
            finally:
                if mirror is not None:
                    mirror.update(coordinator.book.trials.values(), self.spaces)
            return self._result(coordinator, place)

    def _coordinator(
        self, store: Store, audience: StudyAudience, folder: Path, timeout: float | None
    ) -> Coordinator:
        """Return who carries out what the store does not have yet."""
        deadline = None if timeout is None else time.monotonic() + timeout
        book = Book(self.spec)
        book.read(store.study_runs(self.spec.name))
        known = remember(store, self.spec, self.problem, book, audience.say)
        table = Table(folder / self.table_name, book.objectives)
        return Coordinator(self.spec, self.problem, book, store, audience, table, known, deadline)

    def _result(self, coordinator: Coordinator, folder: Path) -> StudyResult:
        book = coordinator.book
        best = book.best()
        coordinator.table.put_in_order()
        return StudyResult(
            name=self.spec.name,
            trials=tuple(book.trials[number] for number in sorted(book.trials)),
            best=best,
            front=book.front(),
            standing=coordinator.standing(),
            closed=dict(coordinator.deal.closed),
            table=coordinator.table.path,
            files=write_best(folder, self.spec.name, best.values()),
        )


@contextmanager
def _alone(store: Store, study: str) -> Iterator[None]:
    """Hold the lock of a study, so that two commands do not number the same trials.

    Raises:
        StoreError: If another process of this machine holds it.
    """
    folder = store.artifact_dir.parent
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{store.artifact_dir.name}.{study}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"study {study} is being carried out by another process; wait for it, or choose "
                "another --study-name"
            ) from None
        yield


def optimize(
    base: str | Path | Mapping[str, Any] | None = None,
    *,
    objective: Function | None = None,
    space: Mapping[str, Knob] | None = None,
    db: str | Path | None = None,
    workers: int | None = None,
    gpus: Sequence[int] = (),
    timeout: float | None = None,
    audience: StudyAudience | None = None,
    folder: Path | None = None,
    storage: str | None = None,
    **asked: Any,
) -> StudyResult:
    """Search for the best configuration, or for the best arguments of a function.

        research_eval.optimize("base.json", n_trials=40, search=["optimizer_params.lr=1e-4:1e-2"])
        research_eval.optimize(objective=f, space={"x": Uniform(-1.0, 1.0)}, n_trials=100)

    Called again, it continues to the total; several studies may follow each other in a process.

    Args:
        base: A file or JSON values: the fixed part of every configuration.
        objective: Instead, a function that is called with a `FunctionTrial` and returns one value
            for each objective, or metrics by name. With `workers` it must be importable.
        space: The range of every argument of the function.
        db: See `Study`.
        workers: See `Study.run`; likewise `gpus`, `timeout`, `audience`, `folder`.
        gpus: See `Study.run`.
        timeout: See `Study.run`.
        audience: See `Study.run`.
        folder: See `Study.run`.
        storage: See `Study.run`.
        **asked: The fields of `StudySpec`: `name`, `n_trials`, `arms`, `search`, `objectives`, ...

    Raises:
        ConfigError: With every mistake in what is asked.
        ResearchEvalError: As `Study.run` does.
    """
    study = _study(base, objective, space, db, asked)
    return study.run(
        workers=workers,
        gpus=gpus,
        timeout=timeout,
        audience=audience,
        folder=folder,
        storage=storage,
    )


def _study(
    base: str | Path | Mapping[str, Any] | None,
    objective: Function | None,
    space: Mapping[str, Knob] | None,
    db: str | Path | None,
    asked: Mapping[str, Any],
) -> Study:
    fields: dict[str, Any] = {
        name: tuple(each) if isinstance(each, list) else each for name, each in asked.items()
    }
    if objective is None:
        return Study(StudySpec(**_fixed_part(base) | fields), db)
    if base is not None or not space:
        raise ConfigError("a function is searched over `space`, without a base")
    spec = StudySpec(**fields)
    return Study(spec, db, problem=Functions(spec, objective, space))


def _fixed_part(base: str | Path | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the fields of a spec that a base stands for."""
    if base is None or isinstance(base, Mapping):
        return {"base": base or {}}
    path = Path(base)
    return {"base": read_tree(path), "base_dir": path.resolve().parent}

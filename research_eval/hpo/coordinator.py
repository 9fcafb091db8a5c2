"""The coordinator: the only one who talks to Optuna, to executors by events, and to the store.

Workers write the records of their runs; the coordinator learns from events what became of them,
and from the store only what happened before it began, or behind its back.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from research_eval.errors import ConfigError, DataError, ResearchEvalError, StoppedError, StoreError
from research_eval.executors import Executor
from research_eval.hpo.book import MAX_LOST, OPEN, Book
from research_eval.hpo.deal import Deal
from research_eval.hpo.judging import Judges
from research_eval.hpo.problem import Problem, Work
from research_eval.hpo.remembering import remember_history
from research_eval.hpo.results import Table
from research_eval.hpo.spec import StudySpec
from research_eval.hpo.trials import Standing, StudyAudience, Trial, TrialState
from research_eval.hpo.warm_start import Known
from research_eval.jobs import Result
from research_eval.records import Place, RunRecord, RunStatus
from research_eval.store import Store
from research_eval.training.progress import Progress, StopSignal

LATENCY_S = 0.2
"""How long a signal, or a run of another process, may wait to be looked at."""

MAX_FIRST_FAILURES = 3
"""An arm whose first trials all fail gets no more."""


@dataclass(slots=True)
class _Running:
    """A run that an executor carries out."""

    number: int
    work: Work
    reports: int = 0


class Coordinator:
    """Carries out what is left of a study; a `Listener` of its executor.

    Args:
        spec: Of the study.
        problem: What is searched.
        book: Its trials so far.
        store: Open for writing.
        audience: Told how it goes.
        table: Brought up to date after every trial.
        known: What earlier runs tried.
        deadline: Time of the monotonic clock after which no new run begins.
    """

    def __init__(
        self,
        spec: StudySpec,
        problem: Problem,
        book: Book,
        store: Store,
        audience: StudyAudience,
        table: Table,
        known: Sequence[Known] = (),
        deadline: float | None = None,
    ) -> None:
        self.spec = spec
        self.problem = problem
        self.book = book
        self.store = store
        self.audience = audience
        self.table = table
        self.deal = Deal(spec, problem, book, known)
        self.judges = Judges(spec, problem, book, store)
        self._deadline = deadline
        self._queue: deque[tuple[int, Work]] = deque()
        self._running: dict[int, _Running] = {}
        self._elsewhere: dict[str, tuple[int, Work]] = {}
        self._looked_at = 0.0
        self._lost: dict[tuple[int, int, str | None], int] = {}
        self._handles = 0
        self._finished_here = 0
        self._began = time.monotonic()
        self._failure: ResearchEvalError | None = None
        self._is_stopping = False
        self._is_confirming = False

    # --------------------------------------------------------------------------------- the loop

    def run(self, executor: Executor, stop: StopSignal) -> None:
        """Go on until the total is reached, time is over, or nothing more can be tried.

        Raises:
            StoppedError: If a signal came; the same call continues.
            ResearchEvalError: What makes it pointless to go on: the store or the data cannot be
                had, or no trial records the objective.
        """
        self._take_up()
        remember_history(self.store, self.book)
        while True:
            if stop.number is not None and not self._is_stopping:
                self._is_stopping = True
                executor.pass_on(stop.number)
                self.audience.say(f"stopping; waiting for {len(self._running)} runs")
            while executor.free and not self._is_ending():
                following = self._next()
                if following is None:
                    break
                self._start(executor, *following)
            self._look_elsewhere()
            if not self._running and (self._is_ending() or not self._elsewhere):
                break
            if self._running:
                executor.wait(self, LATENCY_S)
            else:
                time.sleep(LATENCY_S)
        if stop.number is not None:
            raise StoppedError(stop.number)
        if self._failure is not None:
            raise self._failure

    def _is_ending(self) -> bool:
        is_late = self._deadline is not None and time.monotonic() > self._deadline
        return is_late or self._is_stopping or self._failure is not None

    def _take_up(self) -> None:
        """Rebuild samplers and pruners, in the order of numbers, and queue what is unfinished."""
        for number in sorted(self.book.entries):
            trial = self.book.trials[number]
            self.judges.replay(trial)
            if trial.is_finished:
                self._learn(trial)
            else:
                self.deal.known(self.book.entries[number].candidate, trial)
                self._queue_missing(number)
        if self.book.trials:
            self.table.update(self.book.trials.values())

    def _next(self) -> tuple[int, Work] | None:
        """Return the next run: of a trial that has begun, of a new one, or of the confirmation."""
        if not self._queue and len(self.book.entries) < self.spec.n_trials:
            number = self.book.next_number
            try:
                candidate = self.deal.next(number)
            except ConfigError as error:
                self._failure = error
                return None
            if candidate is not None:
                self.book.add(number, candidate)
                self._queue_missing(number)
        if not self._queue and not self._running and not self._elsewhere:
            self._queue_confirmation()
        return self._queue.popleft() if self._queue else None

    def _queue_missing(self, number: int) -> None:
        """Queue the runs that a trial lacks."""
        entry = self.book.entries[number]
        first = self.problem.first_seed
        for seed in sorted({*range(first, first + self.spec.seeds), *entry.runs}):
            place = Place(study=self.spec.name, trial=number, phase="search")
            reports = self.judges.curves(entry.candidate.arm, seed)
            work = Work(entry.candidate, seed, place, None, reports)
            self._queue_run(number, work, entry.runs.get(seed))

    def _queue_confirmation(self) -> None:
        """Queue each arm's winner on seeds that the search has not seen."""
        self._is_confirming = True
        first = self.problem.first_seed + self.spec.seeds
        for trial in self.book.best().values() if self.spec.confirm else ():
            entry = self.book.entries[trial.number]
            parent = trial.runs[0].experiment_id
            place = Place(study=self.spec.name, trial=trial.number, phase="confirm", parent=parent)
            for seed in range(first, first + self.spec.confirm):
                work = Work(entry.candidate, seed, place)
                self._queue_run(trial.number, work, entry.confirmed.get(seed))

    def _queue_run(self, number: int, work: Work, record: RunRecord | None) -> None:
        if record is None:
            self._queue.append((number, work))
        elif record.status is RunStatus.RUNNING:
            self._elsewhere[record.experiment_id] = number, work
        elif record.status in OPEN:
            self._retry(number, work, record, is_last=True)

    def _start(self, executor: Executor, number: int, work: Work) -> None:
        self._handles += 1
        self._running[self._handles] = _Running(number, work)
        self.audience.started(self.book.trials[number], work.seed)
        executor.start(self._handles, self.problem.task(work))

    def _look_elsewhere(self) -> None:
        """See what became of runs that processes of an earlier session still carry out."""
        if not self._elsewhere or time.monotonic() - self._looked_at < LATENCY_S:
            return
        self._looked_at = time.monotonic()
        for run_id, (number, work) in list(self._elsewhere.items()):
            record = self.store.run(run_id)
            if record.status is RunStatus.RUNNING:
                continue
            del self._elsewhere[run_id]
            if record.status in OPEN:
                self._retry(number, work, record)
            else:
                self._ended(number, work, record)

    # ---------------------------------------------------------------------------------- events

    def say(self, line: str) -> None:
        """Pass the line on."""
        self.audience.say(line)

    def progress(self, handle: int, now: Progress) -> None:
        """Pass on where a run is."""
        running = self._running[handle]
        self.audience.progress(self.book.trials[running.number], running.work.seed, now)

    def report(self, handle: int, step: int, values: Mapping[str, float]) -> bool:
        """Take a point of a run's curve, and say whether the run is to end."""
        running = self._running[handle]
        trial = self.book.trials[running.number]
        running.reports += 1
        history = self.book.objectives[0].history or ""
        if history in values:
            self.audience.reported(trial, running.work.seed, step, values[history])
        return self.judges.report(trial, running.reports, values)

    def done(self, handle: int, result: Result) -> None:
        """Take what became of a run."""
        running = self._running.pop(handle)
        number, work, error = running.number, running.work, result.error
        if isinstance(error, StoreError | DataError):  # the others would fare no better
            self._failure = self._failure or error
        elif isinstance(error, StoppedError):
            if not self._is_stopping and result.record is None:
                self._failure = error
            elif result.record is not None:
                self._stopped(number, work, result.record, error)
        elif result.record is None:
            self._never_began(number, work, RunStatus.FAILED, str(error))
        else:
            self._ended(number, work, result.record)

    def died(self, handle: int, exit_code: int) -> None:
        """Try again what the process that died was doing, unless that killed it too often."""
        running = self._running.pop(handle)
        number, work = running.number, running.work
        if self._is_stopping:  # it is what it was asked for
            return
        place = work.place
        self.store.take_in(self.store.spool_root)
        found = [
            record
            for record in self.store.study_runs(self.spec.name, trial=number)
            if (record.seed, record.phase) == (work.seed, place.phase)
        ]
        last = found[-1] if found else None
        if last is not None and last.status not in OPEN:
            self._ended(number, work, last)  # it died after the end of its run
            return
        self.audience.say(f"trial {number}: its process died (exit code {exit_code})")
        self._retry(number, work, last)

    def _retry(
        self, number: int, work: Work, record: RunRecord | None, *, is_last: bool = False
    ) -> None:
        """Queue another attempt of a run, or give it up.

        Args:
            number: Of the trial.
            work: The run.
            record: What there is of it.
            is_last: Whether it is taken up where nothing has died just now.
        """
        key = (number, work.seed, work.place.phase)
        times = self._lost.get(key, 0) + (not is_last)
        self._lost[key] = times
        if record is not None:  # a process that dies before it resumes leaves no attempt
            lost = self.store.attempts(record.experiment_id).count(RunStatus.LOST)
            times = max(times, lost)
            self._keep(number, work, record)
        if times > MAX_LOST:
            self.book.entries[number].given_up = work.place.phase != "confirm"
            if record is None:
                told = f"its process died {times} times before the run began"
                self._never_began(number, work, RunStatus.LOST, told)
            else:
                self._settle(number)
            return
        again = replace(work, continued=record.experiment_id if record else None)
        (self._queue.append if is_last else self._queue.appendleft)((number, again))

    def _stopped(self, number: int, work: Work, record: RunRecord, error: StoppedError) -> None:
        """Take note of a run that was interrupted: by us, by a signal, or by `runs stop`."""
        self._keep(number, work, record)
        if not self._is_stopping and self._is_here(record):
            self._failure = error
        self.book.settle(number)

    def _is_here(self, record: RunRecord) -> bool:
        """Return whether the signal came to this process."""
        return record.stop_requested is None

    def _never_began(self, number: int, work: Work, status: RunStatus, error: str) -> None:
        """Record a run whose process could not even begin it, so that its trial counts."""
        try:
            writer = self.store.start(self.problem.unstarted(work))
            writer.finish(status, error=error)
        except StoreError as failure:
            self._failure = self._failure or failure
            return
        self._ended(number, work, self.store.run(writer.experiment_id))

    # ----------------------------------------------------------------------------- what follows

    def _keep(self, number: int, work: Work, record: RunRecord) -> None:
        entry = self.book.entries[number]
        kept = entry.confirmed if work.place.phase == "confirm" else entry.runs
        kept[work.seed] = record

    def _ended(self, number: int, work: Work, record: RunRecord) -> None:
        self._keep(number, work, record)
        if record.status is RunStatus.COMPLETED and work.place.phase != "confirm":
            if not self._is_recorded(record):
                return
            self._keep(number, work, self.judges.seed_ended(number, record))
        self._settle(number)

    def _settle(self, number: int) -> None:
        """Work out what a trial has become; if it has ended, tell everybody."""
        was_finished = self.book.trials[number].is_finished
        trial = self.book.settle(number)
        if trial.is_finished and not was_finished:
            self._queue = deque(each for each in self._queue if each[0] != number)
            self._finished_here += 1
            self._learn(trial)
            self._close_if_hopeless(trial)
        if trial.is_finished:
            self._write([trial])
            self.audience.ended(trial, self.standing())

    def _write(self, trials: list[Trial]) -> None:
        try:
            self.table.update(trials)
        except StoreError as error:
            self._failure = self._failure or error

    def _learn(self, trial: Trial) -> None:
        self.deal.learn(trial)
        self.judges.end(trial)

    def _is_recorded(self, record: RunRecord) -> bool:
        """Return whether a run has the objectives; if no run of the study has, that is an error."""
        missing = [o.name for o in self.book.objectives if record.value(o.name) is None]
        if not missing or any(trial.values for trial in self._scored()):
            return True
        known = ", ".join(sorted(record.metrics))
        self._failure = self._failure or ConfigError(
            f"run {record.experiment_id} is completed but records no '{missing[0]}', so no trial "
            f"can be compared; it records {known}. Name one of them with --objective: what was "
            "recorded is kept"
        )
        return False

    def _scored(self) -> list[Trial]:
        scored = []
        for trial in self.book.trials.values():
            values = [run.value(o.name) for run in trial.runs for o in self.book.objectives]
            if values and None not in values:
                scored.append(trial)
        return scored

    def _close_if_hopeless(self, trial: Trial) -> None:
        """Give an arm no more trials when its first ones have all failed."""
        bad = (TrialState.FAILED, TrialState.LOST)
        if trial.state not in bad:
            return
        trials = [t for t in self.book.trials.values() if t.arm == trial.arm and t.is_finished]
        if len(trials) == MAX_FIRST_FAILURES and all(trial.state in bad for trial in trials):
            cause = (trials[-1].error or "its process died").strip().rpartition("\n")[2]
            self.deal.closed[trial.arm] = f"its first {MAX_FIRST_FAILURES} trials failed: {cause}"

    def standing(self) -> Standing:
        """Return where the study is."""
        now = self.book.standing(confirming=self._is_confirming)
        if not self._finished_here or now.confirming:
            return now
        pace = (time.monotonic() - self._began) / self._finished_here
        return replace(now, seconds_left=pace * (now.total - now.finished))

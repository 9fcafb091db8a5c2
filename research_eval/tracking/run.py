"""A run that a script records."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from research_eval.errors import ResearchEvalError
from research_eval.records import ArtifactKind, RunStatus
from research_eval.tracking.leaving import LEAVING

if TYPE_CHECKING:
    from research_eval.store.headstart import Recording
    from research_eval.system import SystemSampler

FINISH_S = 10.0
MAX_PROBLEMS = 20
"""Different problems of one run that are shown and kept; more would say nothing new."""


class TrackedRun:
    """A run that a script records; `research_eval.track` starts it. A context manager.

    When a method returns, what it was given survives the death of this process. After the start
    nothing raises: a problem is shown once on stderr and kept as a flag of the run, and training
    goes on; with `strict` it raises. Methods may be called from several threads.

    Attributes:
        id: Names the run in every command.
        name: What it was called.
        problems: What went wrong, in the order of the first time.

    Args:
        recording: Takes the records.
        name: Of the run.
        next_step: Step of a first `log` that gives none.
        strict: Whether problems raise.
    """

    def __init__(self, recording: Recording, name: str, *, next_step: int, strict: bool) -> None:
        self.id = recording.writer.experiment_id
        self.name = name
        self.problems: list[str] = []
        self._recording = recording
        self._writer = recording.writer
        self._next_step = next_step
        self._strict = strict
        self._has_ended = False
        self._exit_status: RunStatus | None = None
        self._describer: threading.Thread | None = None
        self._sampler: SystemSampler | None = None
        LEAVING.watch(self)

    # ------------------------------------------------------------------------------ recording

    def log(self, values: Mapping[str, float], *, step: int | None = None) -> None:
        """Record metrics; about 4 microseconds for ten.

        Args:
            values: Numbers by name, also of numpy or torch; NaN and infinities are kept. A name
                is any text of 1 to 512 characters; `train/loss` and `val/loss` share a chart.
            step: A 64-bit integer; by default one more than the highest one so far. Steps may
                repeat or go backwards.
        """
        if step is None:
            step = self._next_step
        try:
            self._record(values, step)
        except Exception as error:
            self._log_one_by_one(values, step, error)

    def log_array(self, name: str, values: Any, *, layer: int = 0, step: int | None = None) -> None:
        """Record an array of statistics, for example the load of every expert of a layer.

        Args:
            name: As in `log`; a repeated name, layer and step replaces the array.
            values: Numbers of any shape: an array of numpy, a tensor on any device, a list.
            layer: Which layer of the model it belongs to.
            step: As in `log`, but by default the step of the last `log`.
        """
        with self._survived():
            import numpy as np

            if hasattr(values, "detach"):
                values = values.detach().cpu()
            array = np.asarray(values)
            self._writer.log_array(
                name, array, layer=layer, step=self.last_step if step is None else step
            )

    def log_table(
        self,
        name: str,
        columns: Mapping[str, Sequence[float]],
        *,
        layer: int = 0,
        step: int | None = None,
    ) -> None:
        """Record columns of one length as arrays named `NAME.COLUMN`, as `log_array` does."""
        with self._survived():
            lengths = {column: len(values) for column, values in columns.items()}
            if len(set(lengths.values())) > 1:
                raise ValueError(f"the columns of table '{name}' differ in length: {lengths}")
        for column, values in columns.items():
            self.log_array(f"{name}.{column}", values, layer=layer, step=step)

    def summary(self, values: Mapping[str, float]) -> None:
        """Record final values: metrics at the step of the last `log`."""
        self.log(values, step=self.last_step)

    def set(self, config: Any) -> None:
        """Add to the configuration, or replace what it has under the same names.

        Args:
            config: A mapping, a dataclass or an `argparse.Namespace`.
        """
        with self._survived():
            from research_eval.tracking.values import as_config

            self._writer.set(as_config(config))

    def tag(self, *tags: str) -> None:
        """Label the run."""
        for tag in tags:
            with self._survived():
                self._writer.tag(tag)

    def note(self, note: str) -> None:
        """Add a remark to the run."""
        with self._survived():
            self._writer.note(note)

    def artifact(self, path: str | Path, *, kind: ArtifactKind = "file") -> None:
        """Keep a copy of a file, with its sha256, in the folder of the run.

        Args:
            path: The file; one of the same name that the run has already is replaced.
            kind: What it is.
        """
        with self._survived():
            import shutil

            source, folder = Path(path), self._writer.folder
            kept = folder / source.name
            if not kept.exists() or not kept.samefile(source):
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, kept)
            self._writer.artifact(kind, kept)

    @property
    def last_step(self) -> int:
        """The highest step so far; 0 before the first `log`."""
        return max(0, self._next_step - 1)

    @property
    def stop_requested(self) -> bool:
        """Whether somebody asked the run to stop (`research-eval runs stop`); known within 10 s."""
        return self._writer.stop_requested

    # --------------------------------------------------------------------------------- ending

    def flush(self, *, timeout: float = FINISH_S) -> None:
        """Return when all that was recorded is in the database.

        Args:
            timeout: Seconds after which the rest stays in the spool, and that is said.
        """
        with self._survived():
            self._writer.flush(timeout=timeout)

    def finish(
        self,
        status: RunStatus | str = RunStatus.COMPLETED,
        *,
        error: str | None = None,
        timeout: float = FINISH_S,
    ) -> None:
        """End the run; return when all is in the database. A second call does nothing.

        Args:
            status: What became of it.
            error: Message, or traceback.
            timeout: Seconds after which the rest stays in the spool, and that is said; the next
                command that writes to the database takes it in.
        """
        if self._has_ended:
            return
        with self._survived():
            self._end(RunStatus(status), error, timeout)

    def _end(self, status: RunStatus, error: str | None, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        if self._sampler is not None:
            self._sampler.stop()
        if self._describer is not None:
            self._describer.join(timeout)
        self._has_ended = True
        LEAVING.forget(self)
        left = max(0.0, deadline - time.monotonic())
        self._writer.finish(status, error=error, timeout=left)
        self._recording.close()

    def leave(self, error: BaseException) -> None:
        """End the run as an exception says that left it behind.

        Args:
            error: KeyboardInterrupt and signals make it INTERRUPTED, `optuna.TrialPruned` PRUNED,
                anything else FAILED with the traceback.
        """
        from research_eval.ending import ending

        status, text = ending(error)
        if isinstance(error, SystemExit) and not error.code and self._exit_status is not None:
            self.finish(self._exit_status)
        else:
            self.finish(status, error=text)

    def complete_on_exit(self) -> None:
        """Let the run be COMPLETED if the process ends without `finish` and without an error."""
        self._exit_status = RunStatus.COMPLETED

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.finish()
        else:
            self.leave(error)

    # ------------------------------------------------------------------------------- problems

    def complain(self, problem: str) -> None:
        """Show a problem once on stderr and keep it with the run; training goes on."""
        if problem in self.problems or len(self.problems) == MAX_PROBLEMS:
            return
        self.problems.append(problem)
        rest = "; no more problems are shown" if len(self.problems) == MAX_PROBLEMS else ""
        with suppress(OSError, ValueError):  # stderr may be closed
            print(f"research-eval: run {self.id}: {problem}{rest}", file=sys.stderr)  # noqa: T201
        if not self._has_ended:
            with suppress(ResearchEvalError):  # it has been shown, whatever takes no records
                self._writer.flag("tracking", "; ".join(self.problems))

    @contextmanager
    def _survived(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if self._strict:
                raise
            self.complain(in_words(error))

    def _log_one_by_one(self, values: Mapping[str, float], step: int, error: Exception) -> None:
        """Record what can be recorded of a `log` that failed, and say what cannot."""
        if self._strict:
            raise error
        if not isinstance(values, Mapping):
            self.complain(f"log takes numbers by name, not {type(values).__name__}")
        elif len(values) < 2:
            self.complain(in_words(error))
        else:
            for name, value in values.items():
                with self._survived():
                    self._record({name: value}, step)

    def _record(self, values: Mapping[str, float], step: int) -> None:
        self._writer.log(values, step=step)
        if step >= self._next_step:
            self._next_step = step + 1

    # ------------------------------------------------------------------------- beside the work

    def wait_until_known(self) -> None:
        """Return when the database knows the run, so that others may name it as their parent.

        Raises:
            StoreError: If that takes more than 10 s.
        """
        self._writer.flush(timeout=FINISH_S)

    def describe_beside(self, folder: Path, *, git_diff: bool) -> None:
        """Collect facts about the run in a thread, and record them."""

        def describe() -> None:
            try:
                from research_eval.tracking.facts import facts

                self._writer.describe(facts(folder, git_diff=git_diff))
            except Exception as error:  # nobody waits for this thread, so it cannot be strict
                self.complain(in_words(error))

        self._describer = threading.Thread(target=describe, name="provenance", daemon=True)
        self._describer.start()

    def sample_beside(self, interval_s: float) -> None:
        """Record system metrics in a thread, at the step of the last `log`."""
        from research_eval.system import SystemSampler

        self._sampler = SystemSampler(self.summary, interval_s=interval_s, complain=self.complain)
        self._sampler.start()


def in_words(error: Exception) -> str:
    """Return an error as one line."""
    text = str(error)
    if isinstance(error, ResearchEvalError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

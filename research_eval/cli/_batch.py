"""Several runs as someone at a terminal follows them, and what is said of them at the end."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from research_eval.cli import _records
from research_eval.cli._progress import Display, Lines
from research_eval.cli._render import Column, Format, note, number, print_rows, printable
from research_eval.errors import IncompleteError, RunError
from research_eval.records import RunRecord, RunStatus
from research_eval.runlog import duration

if TYPE_CHECKING:
    from research_eval.jobs import Job, Result
    from research_eval.training.progress import Progress

SCORES = (
    "final_val_f1",
    "final_test_f1",
    "final_val_loss",
    "final_val_perplexity",
    "final_test_perplexity",
    "final_val_bits_per_byte",
)
"""What a table of results shows, as far as the runs have it."""

TROUBLE = (RunStatus.FAILED, RunStatus.DIVERGED, RunStatus.COLLAPSED)


class OneRun:
    """A `Watcher` that shows one run under a label."""

    def __init__(self, label: str, shown: Display) -> None:
        self._label = label
        self._display = shown

    def say(self, line: str) -> None:
        """Show the line."""
        self._display.say(line)

    def progress(self, now: Progress) -> None:
        """Show where the run is."""
        self._display.progress(self._label, now)


class Batch:
    """Several runs: an `Audience` of jobs.

    Args:
        jobs: What is carried out.
        varied: Columns of the parameters in which they differ, by dotted path.
        group: What the runs belong to.

    Attributes:
        display: Where progress is shown.
        results: What became of the jobs so far, by place.
    """

    def __init__(
        self, jobs: Sequence[Job], varied: Sequence[Column] = (), group: str | None = None
    ) -> None:
        self.display: Display = Lines()
        self.results: dict[int, Result] = {}
        self._num_jobs = len(jobs)
        self._varied = varied
        self._group = group
        names = [
            f"{json.loads(job.config_json)['experiment_name']} seed {job.seed}" for job in jobs
        ]
        files = [f"{job.source} seed {job.seed}" for job in jobs]
        self._labels = names if len(set(names)) == len(names) else files

    def say(self, line: str) -> None:
        """Show the line."""
        self.display.say(line)

    def progress(self, index: int, now: Progress) -> None:
        """Show where a run is."""
        self.display.progress(self._labels[index], now)

    def done(self, index: int, result: Result) -> None:
        """Keep the result and say in a line what it is."""
        self.results[index] = result
        self.display.ended(self._labels[index])
        if result.error is None or self._num_jobs > 1:  # the error of a single job is raised
            self.say(f"{self._labels[index]}: {_in_words(result)}")

    def show_results(self, form: Format) -> None:
        """Print a row for each job that came to an end."""
        ordered = [self.results[index] for index in sorted(self.results)]
        if not any(result.record for result in ordered) and form is Format.TABLE:
            return
        rows = [self._row(self._labels[i], each) for i, each in sorted(self.results.items())]
        _print(rows, form, self._varied)
        records = [result.record for result in ordered if result.record is not None]
        if self._group is None:
            _say_next(records)
        else:
            self._say_next_of_group(self._group, records)

    def _row(self, label: str, result: Result) -> dict[str, Any]:
        params = {} if result.record is None else result.record.params
        return _row(label, result) | {column.key: params.get(column.key) for column in self._varied}

    def _say_next_of_group(self, group: str, records: Sequence[RunRecord]) -> None:
        others = sum(record.group != group for record in records)
        if others:
            note(
                f"{others} of {len(records)} runs were recorded before, outside of group "
                f"{printable(group)}; --again runs them anew in it"
            )
        fields = [*(column.key for column in self._varied), "seed"]
        command = ["research-eval", "runs", "list", "--filter", f'group == "{group}"']
        note(f"next: {printable(shlex.join([*command, '--columns', ','.join(fields)]))}")

    def raise_if_incomplete(self) -> None:
        """Raise what describes best why jobs were not completed, if any were not.

        Raises:
            RunError: If a run failed or diverged.
            ResearchEvalError: The only cause, if nothing was completed for one cause.
            IncompleteError: Otherwise.
        """
        missing = [r for r in self.results.values() if not _is_completed(r)]
        if not missing:
            return
        if self._num_jobs == 1 and missing[0].error is not None:
            raise missing[0].error
        num_failed = sum(isinstance(result.error, RunError) for result in missing)
        if num_failed:
            raise RunError(f"{num_failed} of {self._num_jobs} runs failed or diverged")
        causes = {str(result.error) for result in missing}
        if len(missing) == self._num_jobs and len(causes) == 1 and missing[0].error is not None:
            raise missing[0].error
        num_completed = self._num_jobs - len(missing)
        raise IncompleteError(f"{num_completed} of {self._num_jobs} runs are completed")


def show_records(records: Sequence[RunRecord], form: Format) -> None:
    """Print runs with their scores, and what to do next."""
    _print([_records.row(record) | _scores(record) for record in records], form)
    _say_next(records)


def _print(rows: Sequence[dict[str, Any]], form: Format, varied: Sequence[Column] = ()) -> None:
    scores = [name for name in SCORES if any(name in row for row in rows)]
    columns = [
        _records.ID,
        _records.NAME,
        _records.MODEL,
        _records.DATA,
        *varied,
        _records.SEED,
        _records.STATUS,
        *(
            Column(name, name, number, is_number=True, is_optional=name != scores[0])
            for name in scores
        ),
        *_records.notes(row.get("flags", {}) for row in rows),
        _records.PARAMETERS,
        _records.FLOPS,
        _records.TIME,
    ]
    print_rows(rows, columns, form)


def _say_next(records: Sequence[RunRecord]) -> None:
    troubled = [r for r in records if r.status in TROUBLE]
    if troubled or len(records) == 1:
        note(f"next: research-eval runs show {(troubled or records)[0].experiment_id}")
    elif records:
        note("next: research-eval runs list")


def _row(label: str, result: Result) -> dict[str, Any]:
    told = {"action": result.action, "error": None if result.error is None else str(result.error)}
    if result.record is not None:
        return _records.row(result.record) | _scores(result.record) | told
    return {"experiment_name": label, "seed": result.job.seed, "status": "not recorded"} | told


def _scores(record: RunRecord) -> dict[str, float]:
    return {
        name: summary.value
        for name, summary in record.metrics.items()
        if name.startswith(("final_", "best_", "last_"))
    }


def _is_completed(result: Result) -> bool:
    return result.record is not None and result.record.status is RunStatus.COMPLETED


def _in_words(result: Result) -> str:
    record = result.record
    if result.error is not None:
        name = "" if record is None else f" as {record.experiment_id}"
        return f"{'failed' if record is None else record.status.lower()}{name}: {result.error}"
    if record is None:
        return result.action
    if result.action == "skipped" and record.status is RunStatus.RUNNING:
        return (
            f"is being run as {record.experiment_id} by process {record.pid} on {record.host}; "
            "--again runs it anew"
        )
    if result.action == "skipped":
        return f"already recorded as {record.experiment_id}, --again runs it anew"
    seconds = record.value("total_training_time_seconds")
    took = "" if seconds is None else f" in {duration(seconds)}"
    verb = "resumed and completed" if result.action == "resumed" else "completed"
    return f"{verb}{took} as {record.experiment_id}"

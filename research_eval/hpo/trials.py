"""What is known of a trial: one configuration, and the runs that tried it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from research_eval.records import RunRecord
from research_eval.training.progress import Progress


class TrialState(StrEnum):
    """What became of a trial."""

    RUNNING = "RUNNING"
    """Begun, and to be continued if nothing runs it now."""
    COMPLETED = "COMPLETED"
    PRUNED = "PRUNED"
    """Ended because others did better at the same step; its metrics so far are kept."""
    DIVERGED = "DIVERGED"
    """Its loss or its objective was not finite."""
    COLLAPSED = "COLLAPSED"
    FAILED = "FAILED"
    """Ended by an error; its run keeps the traceback."""
    LOST = "LOST"
    """Its process died, four times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A trial of a study.

    Attributes:
        number: From 0, in the order of sampling, over all arms.
        arm: The model type.
        params: What was sampled, repaired, by dotted path.
        repairs: What was changed to make it legal, as path=value.
        state: Of the search; runs of the confirmation do not count.
        values: One mean over the runs for each objective, NaN where it is not finite; empty while
            nothing is known.
        excess: By how much each constraint is broken; zero or less if it is kept.
        runs: Of the search, by seed; `confirmed` are those on fresh seeds.
        error: Why it failed.
    """

    number: int
    arm: str
    params: Mapping[str, Any]
    repairs: tuple[str, ...] = ()
    state: TrialState = TrialState.RUNNING
    values: tuple[float, ...] = ()
    excess: tuple[float, ...] = ()
    runs: tuple[RunRecord, ...] = ()
    confirmed: tuple[RunRecord, ...] = ()
    error: str | None = None

    @property
    def is_finished(self) -> bool:
        """Whether it counts towards the total."""
        return self.state is not TrialState.RUNNING

    @property
    def is_feasible(self) -> bool:
        """Whether it keeps all constraints, as far as is known."""
        return all(excess <= 0 for excess in self.excess)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a study is.

    Attributes:
        total: Trials asked for.
        counts: Trials by state; those of earlier sessions included.
        best: Best finished trial of each arm by the first objective; arms without one are left
            out.
        seconds_left: Estimate from the pace of this session; None before its first trial ended,
            and while winners are confirmed.
        confirming: Whether the search is over and winners are run on fresh seeds.
    """

    study: str
    total: int
    counts: Mapping[TrialState, int]
    best: Mapping[str, Trial] = field(default_factory=dict)
    seconds_left: float | None = None
    confirming: bool = False

    @property
    def finished(self) -> int:
        """How many trials count towards the total."""
        return sum(n for state, n in self.counts.items() if state is not TrialState.RUNNING)


class StudyAudience(Protocol):
    """Who is told how a study goes: a live view, lines of a log, or nobody."""

    def say(self, line: str) -> None:
        """Take a line about what is going on."""

    def started(self, trial: Trial, seed: int) -> None:
        """Take note that a run of a trial begins."""

    def progress(self, trial: Trial, seed: int, now: Progress) -> None:
        """Take the state of a run's training."""

    def reported(self, trial: Trial, seed: int, step: int, value: float) -> None:
        """Take a point of the curve of the first objective."""

    def ended(self, trial: Trial, standing: Standing) -> None:
        """Take what became of a trial, and where the study is now."""


class NobodyListens:
    """A `StudyAudience` that ignores everything."""

    def say(self, line: str) -> None:
        """Ignore the line."""

    def started(self, trial: Trial, seed: int) -> None:
        """Ignore the start."""

    def progress(self, trial: Trial, seed: int, now: Progress) -> None:
        """Ignore the state."""

    def reported(self, trial: Trial, seed: int, step: int, value: float) -> None:
        """Ignore the point."""

    def ended(self, trial: Trial, standing: Standing) -> None:
        """Ignore the end."""

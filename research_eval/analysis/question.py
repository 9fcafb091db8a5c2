"""What is asked: which runs, which metric decides, and between whom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from research_eval.metrics import Direction, find_metric, parse_goal
from research_eval.records import RunRecord

FailedAs = Literal["drop", "worst"]

DEFAULT_METRICS = ("final_val_f1", "final_val_loss")
"""What decides if nobody says so: the first that any run has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asks for.

    Attributes:
        datasets: Names; empty for those of the study if one is named, else of the latest project.
        arms: Architectures to look at; empty for all.
        goal: The metric that decides, as `name` or `name:max`; None takes that of the task.
        filter: A condition in the language of `research_eval.filters`.
        project: Only runs of this project; likewise `study`.
        any_code: Pool runs of one configuration whatever code they were made by.
        candidate: See `Question`; likewise `baselines`, `margin`, `failed_as`, `ablation`.
    """

    datasets: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    goal: str | None = None
    filter: str | None = None
    project: str | None = None
    study: str | None = None
    any_code: bool = False
    candidate: str | None = None
    baselines: tuple[str, ...] = ()
    margin: float | None = None
    failed_as: FailedAs = "drop"
    ablation: str | None = None

    def question(self, runs: Iterable[RunRecord]) -> Question:
        """Return the question about these runs.

        Raises:
            ConfigError: If it is unknown which way the metric is better.
        """
        recorded = {name for run in runs for name in run.metrics}
        default = next((name for name in DEFAULT_METRICS if name in recorded), DEFAULT_METRICS[0])
        metric, direction = parse_goal(self.goal or default)
        return Question(
            metric=metric,
            direction=direction,
            candidate=self.candidate,
            baselines=self.baselines,
            margin=self.margin,
            failed_as=self.failed_as,
            ablation=self.ablation,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which metric decides, between whom, and how large a difference matters.

    Attributes:
        metric: Name of the value that summarises a run.
        direction: Which way is better.
        candidate: The arm that is compared with the baselines; None compares all pairs, which is
            exploratory.
        baselines: Arms; empty for all others.
        margin: Differences smaller than this, in units of the metric, do not matter.
        failed_as: Whether a failed run counts as the worst observed value or not at all.
        ablation: Group whose runs are compared with their base.
    """

    metric: str
    direction: Direction
    candidate: str | None = None
    baselines: tuple[str, ...] = ()
    margin: float | None = None
    failed_as: FailedAs = "drop"
    ablation: str | None = None

    @property
    def is_max(self) -> bool:
        """Whether higher is better."""
        return self.direction == "max"

    @property
    def sign(self) -> int:
        """1 if higher is better, else -1: `sign * value` grows with quality."""
        return 1 if self.is_max else -1

    @property
    def test_metric(self) -> str | None:
        """The same score on the test split, None for a metric that has none."""
        name = self.metric.replace("final_val_", "final_test_")
        return name if name != self.metric and find_metric(name) else None

    @property
    def history(self) -> str | None:
        """Name of the metric's curve during training; None if it has none."""
        known = find_metric(self.metric)
        return known.history if known else self.metric

    @property
    def is_share(self) -> bool:
        """Whether it is a share between 0 and 1, so that differences are told in points."""
        known = find_metric(self.metric)
        return known is not None and known.is_share

    @property
    def label(self) -> str:
        """The metric with its unit, for an axis."""
        known = find_metric(self.metric)
        return f"{self.metric} ({known.unit})" if known and known.unit else self.metric

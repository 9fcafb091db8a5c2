"""In which costs two arms are equal, in which they are not, and which runs were made to be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import log, log1p
from statistics import median

import numpy as np

from research_eval.analysis import words
from research_eval.analysis.arms import Chosen
from research_eval.analysis.evidence import Evidence, arm_of, configuration_of
from research_eval.metrics import EQUAL_COST, EQUAL_TIME
from research_eval.quantities import amount, number
from research_eval.records import RunRecord


@dataclass(frozen=True, slots=True)
class Axis:
    """A cost in which two arms can be equal.

    Attributes:
        name: As `match --on` has it.
        label: In words.
        metric: The recorded value; of a rate, more costs less.
        tolerance: Relative difference up to which costs are called equal.
        is_timing: Whether it is a rate that was measured: compared only on one kind of machine
            that nothing else used, and at one batch size.
    """

    name: str
    label: str
    metric: str
    tolerance: float = EQUAL_COST
    is_timing: bool = False

    @property
    def column(self) -> str:
        """Name of the ratio in tables."""
        return f"{self.name}_ratio"

    def ratio(self, evidence: Evidence, first: Chosen, second: Chosen) -> float:
        """Return the median cost of the first over that of the second; NaN if unknown."""
        runs = [[evidence.runs[run] for run in chosen.runs] for chosen in (first, second)]
        if self.is_timing:
            runs = [[run for run in each if not run.contended] for each in runs]
            if len({(run.hardware, run.batch_size) for each in runs for run in each}) != 1:
                return np.nan
        one, other = (_median(each, self.metric) for each in runs)
        if self.is_timing:
            one, other = other, one
        return one / other if other else np.nan

    def is_equal(self, ratio: float) -> bool:
        """Return whether costs of this ratio are called equal."""
        return ratio > 0 and abs(log(ratio)) <= log1p(self.tolerance)


AXES = (
    Axis("params", "parameters", "param_count"),
    Axis("active_params", "active parameters", "active_param_count"),
    Axis("flops", "FLOPs per token", "flops_per_token"),
    Axis("step_time", "time of a step", "train_tokens_per_second", EQUAL_TIME, is_timing=True),
)


def _median(runs: Iterable[RunRecord], metric: str) -> float:
    values = [value for run in runs if (value := run.value(metric)) is not None]
    known = [value for value in values if np.isfinite(value)]
    return median(known) if known else np.nan


def ratios(evidence: Evidence, first: Chosen, second: Chosen) -> dict[str, float]:
    """Return the ratio on each axis, by the name of its column."""
    return {axis.column: axis.ratio(evidence, first, second) for axis in AXES}


def split(ratio: Mapping[str, float]) -> tuple[list[Axis], list[Axis], list[Axis]]:
    """Return the axes that are equal, those that are not, and those that are unknown."""
    known = [axis for axis in AXES if 0 < ratio[axis.column] < np.inf]
    equal = [axis for axis in known if axis.is_equal(ratio[axis.column])]
    return (
        equal,
        [axis for axis in known if axis not in equal],
        [axis for axis in AXES if axis not in known],
    )


def in_words(ratio: Mapping[str, float]) -> str:
    """Return `equal in A (1.002); not equal in B (3.35 times); not known: C`."""
    equal, unequal, unknown = split(ratio)
    told = []
    if equal:
        named = (f"{axis.label} ({ratio[axis.column]:.3f})" for axis in equal)
        told.append(f"equal in {words.listed(named)}")
    if unequal:
        named = (f"{axis.label} ({number(ratio[axis.column])} times)" for axis in unequal)
        told.append(f"not equal in {words.listed(named)}")
    if unknown:
        told.append(f"not known: {words.listed(axis.label for axis in unknown)}")
    return "; ".join(told)


# --------------------------------------------------------------------- what was made to be equal


@dataclass(frozen=True, slots=True)
class Tie:
    """What a run was made to cost, as its `origin.match` says.

    Attributes:
        axis: Name of it.
        target: The cost that was asked for.
        parent: Hash of the configuration that costs so much; empty if a study was given a number.
    """

    axis: str
    target: float
    parent: str

    @property
    def key(self) -> tuple[str, float | str]:
        """What runs of one comparison share; times differ at each measurement of one parent."""
        return self.axis, self.parent if self.axis == "step_time" else self.target


def tie_of(run: RunRecord) -> Tie | None:
    """Return what a run was made to cost; None if it was not, or the record is not understood."""
    told = run.params
    axis, target = (told.get(f"origin.match.{name}") for name in ("axis", "target"))
    parent = told.get("origin.parent") if told.get("origin.kind") == "match" else ""
    if not isinstance(axis, str) or not isinstance(target, int | float):
        return None
    return Tie(axis, float(target), str(parent or ""))


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """The runs that were made to cost the same, those of the given configuration included.

    Attributes:
        axis: On which.
        target: How much; of measured times that of the first match.
        evidence: About these runs alone.
    """

    axis: str
    target: float
    evidence: Evidence

    def __str__(self) -> str:
        label = next((axis.label for axis in AXES if axis.name == self.axis), self.axis)
        if self.axis == "step_time":
            return f"{label} of {number(1000 * self.target)} ms"
        return f"{amount(self.target)} {label}"


def matched(evidence: Evidence) -> Iterator[Matched]:
    """Yield each group of runs of two or more arms that were made to cost the same.

    A group is what was matched on one axis to one target, with the runs of the configurations that
    it was matched to; of step times, what was matched to one configuration.
    """
    groups: dict[tuple[str, float | str], dict[str, Tie]] = {}
    for name, run in evidence.runs.items():
        tie = tie_of(run)
        if tie is not None:
            groups.setdefault(tie.key, {})[name] = tie
    for ties in groups.values():
        parents = {tie.parent for tie in ties.values()} - {""}
        runs = {
            name: run
            for name, run in evidence.runs.items()
            if name in ties or configuration_of(run) in parents
        }
        arms = {arm_of(run) for run in runs.values()}
        first = next(iter(ties.values()))
        if len(arms) > 1 and (about := _about(evidence, runs, arms)) is not None:
            yield Matched(first.axis, first.target, about)


def _about(evidence: Evidence, runs: Mapping[str, RunRecord], arms: set[str]) -> Evidence | None:
    """Return the evidence about some runs; None if none of the contrasts asked for is in them."""
    question = evidence.question
    baselines = tuple(arm for arm in question.baselines if arm in arms)
    if question.baselines and not baselines:
        return None
    if question.candidate is not None and question.candidate not in arms:
        return None
    if question.candidate is None and len(baselines) == 1:
        return None
    return replace(evidence, runs=runs, question=replace(question, baselines=baselines))

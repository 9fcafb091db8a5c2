"""What a comparison is asked."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from research_eval.comparing.names import DEFAULT_AXIS, DEFAULT_SEEDS, DEFAULT_TRIALS
from research_eval.errors import ConfigError, Issue

LEAST_SEEDS = 2
"""Of fewer, nothing is known about their spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked.

    Attributes:
        candidate: The configuration file of the idea.
        baselines: Models, `./file.py:Name`, or configuration files.
        match: The cost that every trial of every arm has: that of the candidate as its file has
            it, on this axis.
        n_trials: In total, over all arms, which get equally many.
        seeds: Fresh ones, on which each arm's winner is confirmed.
        name: Of the comparison; by default it follows from the candidate's file.
        search: Ranges, as `StudySpec.search` has them.
        objective: What is best; by default that of the task.
        margin: Differences smaller than this do not matter.
        sampling_seed: Of the search.
    """

    candidate: Path
    baselines: tuple[str, ...]
    match: str = DEFAULT_AXIS
    n_trials: int = DEFAULT_TRIALS
    seeds: int = DEFAULT_SEEDS
    name: str | None = None
    search: tuple[str, ...] = ()
    objective: str | None = None
    margin: float | None = None
    sampling_seed: int = 0

    @property
    def command(self) -> str:
        """What asks it again."""
        words = ["research-eval", "compare", str(self.candidate)]
        words += ["--baselines", ",".join(self.baselines), "--match", self.match]
        words += ["--n-trials", str(self.n_trials), "--seeds", str(self.seeds)]
        words += [word for each in self.search for word in ("--search", each)]
        words += [] if self.objective is None else ["--objective", self.objective]
        words += [] if self.margin is None else ["--margin", str(self.margin)]
        words += [] if self.name is None else ["--study-name", self.name]
        words += ["--seed", str(self.sampling_seed)] if self.sampling_seed else []
        return shlex.join(words)


def require_enough(asked: Question, arms: int) -> None:
    """Check the numbers that are asked for.

    Raises:
        ConfigError: If trials cannot be dealt out equally, or too few seeds are asked for.
    """
    issues = []
    if asked.seeds < LEAST_SEEDS:
        told = f"a contrast needs the spread of {LEAST_SEEDS} seeds or more, not of {asked.seeds}"
        issues.append(Issue("seeds", told))
    if asked.n_trials < arms or asked.n_trials % arms:
        fitting = arms * max(1, -(-asked.n_trials // arms))
        told = f"{asked.n_trials} cannot be dealt out equally to {arms} arms; {fitting} can"
        issues.append(Issue("n_trials", told))
    if asked.margin is not None and not asked.margin > 0:
        issues.append(Issue("margin", "must be more than 0"))
    if issues:
        raise ConfigError("the comparison cannot be carried out", issues)

"""A study from Python: `optimize`, and what it stands on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research_eval.hpo.spec import DEFAULT_NAME, StudySpec
from research_eval.hpo.trials import NobodyListens, Standing, StudyAudience, Trial
from research_eval.knobs import Knob


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What a study found.

    Attributes:
        trials: All of them, by number.
        best: Best finished trial of each arm by the first objective.
        front: Trials that no other one beats in all objectives.
        table: The CSV with one row for each trial.
        files: Best configuration of each arm, as files that `run` accepts.
    """

    name: str
    trials: tuple[Trial, ...]
    best: Mapping[str, Trial]
    front: tuple[Trial, ...]
    standing: Standing
    table: Path | None
    files: Mapping[str, Path]


class Study:
    """A study that is ready to be carried out. Making one reads, checks, and writes nothing.

    Args:
        spec: What is asked.
        db: The store, by path or URL; by default the one that the commands would use.

    Attributes:
        arms: Names of the arms in the order in which trials are dealt out.
        spaces: What is searched in each arm: the knob of every dotted path.

    Raises:
        ConfigError: With every mistake that is in it.
    """

    spec: StudySpec
    arms: tuple[str, ...]
    spaces: Mapping[str, Mapping[str, Knob]]

    def __init__(self, spec: StudySpec, db: str | Path | None = None) -> None:
        raise NotImplementedError

    def run(
        self,
        *,
        workers: int | None = None,
        gpus: Sequence[int] = (),
        timeout: float | None = None,
        audience: StudyAudience | None = None,
        folder: Path | None = None,
    ) -> StudyResult:
        """Carry out what is left of the study and return all of it.

        Args:
            workers: Processes that carry out trials; None does so in this one.
            gpus: One worker for each of these GPUs instead.
            timeout: Seconds after which no new trial begins.
            audience: Told how it goes.
            folder: Where the table and the best configurations are written; beside the store by
                default.
        """
        raise NotImplementedError


def optimize(
    base: str | Path | Mapping[str, Any] | None = None,
    *,
    objective: Callable[..., Any] | None = None,
    space: Mapping[str, Knob] | None = None,
    name: str = DEFAULT_NAME,
    n_trials: int = 100,
    arms: Sequence[str] = (),
    search: Sequence[str] = (),
    objectives: Sequence[str] = (),
    constraints: Sequence[str] = (),
    sampler: str = "auto",
    pruner: str = "auto",
    seed: int = 0,
    seeds: int = 1,
    share_budget: bool = False,
    confirm: int = 0,
    db: str | Path | None = None,
    workers: int | None = None,
    gpus: Sequence[int] = (),
    timeout: float | None = None,
    audience: StudyAudience | None = None,
) -> StudyResult:
    """Search for the best configuration, or for the best arguments of a function."""
    raise NotImplementedError


_ = NobodyListens

"""What earlier runs tell the samplers of a study before its first trial."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from research_eval.config import canonical_json
from research_eval.errors import ConfigError, did_you_mean
from research_eval.hpo.book import excess_of, mean_score
from research_eval.hpo.problem import Candidate, Problem
from research_eval.hpo.spec import StudySpec
from research_eval.records import RunRecord, RunStatus
from research_eval.store import Store


@dataclass(frozen=True, slots=True)
class Known:
    """A configuration of the study's space that was run before, outside of the study.

    Attributes:
        params: Values of what is searched, by dotted path.
        values: Mean over its runs for each objective; likewise `excess` for each constraint.
    """

    arm: str
    params: Mapping[str, Any]
    values: tuple[float, ...]
    excess: tuple[float, ...]


def find_known(store: Store, spec: StudySpec, problem: Problem) -> list[Known]:
    """Return what `spec.warm_start` names, as far as the study could have run it itself.

    That is each completed run of an arm, with the arm's present code, the same fixed part, data
    and objectives, and values that lie in its space.

    Raises:
        ConfigError: If there is no such study, or nothing is of use.
        FilterError: If it is a condition that cannot be read.
    """
    source = spec.warm_start or ""
    studies = [study.name for study in store.studies()]
    is_study = source in studies
    if not is_study and re.fullmatch(r"[\w.-]+", source):
        raise ConfigError(
            f"there is no study '{source}' to start from; {did_you_mean(source, studies)}"
        )
    runs = store.study_runs(source) if is_study else store.runs(filter=source, sort="timestamp")
    others = [run for run in runs if run.study != spec.name]
    tried: dict[str, tuple[Candidate, list[RunRecord]]] = {}
    data_hash = None
    for run in others:
        candidate = problem.tried_by(run) if run.status is RunStatus.COMPLETED else None
        if candidate is not None:
            data_hash = run.data_hash  # that of the latest is the present one
            key = canonical_json([data_hash, candidate.arm, candidate.params])
            tried.setdefault(key, (candidate, []))[1].append(run)
    known = [
        Known(
            candidate.arm,
            candidate.params,
            tuple(mean_score(runs, objective) for objective in spec.parsed_objectives),
            excess_of(spec.bounds, runs),
        )
        for candidate, runs in tried.values()
        if runs[0].data_hash == data_hash
    ]
    known = [each for each in known if all(map(math.isfinite, each.values))]
    if not known:
        raise ConfigError(
            f"--warm-start '{source}': of {len(others)} runs none is a completed one of this "
            "space with the same code, fixed part, data and objectives"
        )
    return known

"""What a study searches: configurations to be trained, or the arguments of a function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from research_eval.hpo.space import Space
from research_eval.records import NewRun, Place, RunRecord

if TYPE_CHECKING:
    from research_eval.hpo.spec import StudySpec
    from research_eval.jobs import Task


@dataclass(frozen=True, slots=True)
class Candidate:
    """A point of the space, made legal.

    Attributes:
        params: Values of what is searched, by dotted path, after repair.
        repairs: What was changed to make it legal, as path=value.
        config_json: The whole configuration.
    """

    arm: str
    params: Mapping[str, Any]
    repairs: tuple[str, ...]
    config_json: str


@dataclass(frozen=True, slots=True)
class Work:
    """One run of a trial.

    Attributes:
        continued: Id of the run that this is another attempt of.
        reports: Metrics whose curve may end it.
    """

    candidate: Candidate
    seed: int
    place: Place
    continued: str | None = None
    reports: tuple[str, ...] = ()


class Problem(Protocol):
    """What the coordinator must know of a search.

    Attributes:
        spec: Of the study, with an objective if it named none.
        spaces: What is searched, by arm, in the order in which trials are dealt out.
        data: Type and name of the data, for the name of the table.
        first_seed: Of the runs.
    """

    spec: StudySpec
    data: tuple[str, str]
    spaces: dict[str, Space]
    first_seed: int

    def fixed_part(self, arm: str) -> Mapping[str, Any]:
        """Return what is the same in all trials of an arm."""

    def code_hash(self, arm: str) -> str | None:
        """Return the identity of the arm's source, None if it is not known."""

    def complete(self, arm: str, sampled: Mapping[str, Any], name: str) -> Candidate | None:
        """Return the legal configuration of a proposal; None if only a fixed value could mend it.

        Args:
            arm: Which one.
            sampled: Values by path.
            name: Of the configuration.
        """

    def tried_by(self, run: RunRecord) -> Candidate | None:
        """Return what a run of another study tried, if this one could have tried it as well."""

    def task(self, work: Work) -> Task:
        """Return what carries out a run."""

    def unstarted(self, work: Work) -> NewRun:
        """Return the record of a run that could not even begin."""

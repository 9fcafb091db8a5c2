"""What studies were asked, and what their runs became."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from research_eval.records import RunStatus
from research_eval.store.queries import parse_time, status_columns, status_now
from research_eval.store.schema import attempts, experiments, studies, utc_now


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """A study as the store remembers it.

    Attributes:
        timestamp: When it began, UTC.
        spec_json: What it was asked, as its maker writes it.
    """

    name: str
    timestamp: datetime
    spec_json: str


def read_studies(connection: Connection, name: str | None) -> list[StudyRecord]:
    """Return the studies, newest first; only the one of this name if it is given."""
    query = select(studies).order_by(studies.c.timestamp.desc(), studies.c.name)
    if name is not None:
        query = query.where(studies.c.name == name)
    rows = connection.execute(query)
    return [StudyRecord(row.name, parse_time(row.timestamp), row.spec_json) for row in rows]


def write_study(connection: Connection, name: str, spec_json: str) -> None:
    """Record a study, or replace what it was asked."""
    changed = studies.update().where(studies.c.name == name).values(spec_json=spec_json)
    if connection.execute(changed).rowcount == 0:
        new = studies.insert().values(name=name, timestamp=utc_now(), spec_json=spec_json)
        connection.execute(new)


def read_attempts(connection: Connection, experiment_id: str) -> list[RunStatus]:
    """Return what became of each attempt of a run, in their order."""
    of_run = experiments.c.experiment_id == experiment_id
    run = connection.execute(select(experiments.c.id, *status_columns()).where(of_run)).one()
    ended = connection.scalars(
        select(attempts.c.status).where(attempts.c.run_id == run.id).order_by(attempts.c.attempt)
    )
    return [*map(RunStatus, list(ended)[:-1]), status_now(run)]

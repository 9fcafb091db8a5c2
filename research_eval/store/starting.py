"""How a run enters the store, and how it is continued."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from research_eval.errors import StoreError
from research_eval.records import NewRun, RunStatus
from research_eval.store.batch import RunKey, write_summaries
from research_eval.store.checks import storable
from research_eval.store.params import write_params
from research_eval.store.process import owner_here
from research_eval.store.queries import status_columns, status_now, summarize
from research_eval.store.schema import (
    attempts,
    experiments,
    metrics,
    schemas,
    tags,
    utc_now,
)
from research_eval.store.segments import Owner
from research_eval.store.statements import transition, write_rows

RESERVED_NAMES = ("last", "best")
_ID = re.compile(r"\w[\w.-]{0,199}")
_COLUMNS = [f.name for f in fields(NewRun) if f.name in experiments.c]


def insert_run(
    connection: Connection, new: NewRun, owner: Owner, started: str | None = None
) -> RunKey:
    """Write the rows of a run.

    Args:
        connection: In a transaction that writes.
        new: The run.
        owner: The process that records it.
        started: When, for a run that did not start now.

    Raises:
        StoreError: If its id is taken or cannot be one, or its parent is not in the store.
    """
    _check_id(connection, new)
    described = {name: _storable(getattr(new, name)) for name in _COLUMNS}
    moment = utc_now() if started is None else started
    # What is given apart from the statement takes a third of the time: there are 40 values.
    begun = insert(experiments).values(timestamp=moment, heartbeat=moment)
    values = {
        **described,
        **_process(owner),
        "group_name": new.group,
        "schema_hash": _insert_schema(connection, new.config_schema_json),
        "status": RunStatus.RUNNING,
        "attempt": 1,
        "contended": False,
    }
    run_id = connection.execute(begun.returning(experiments.c.id), values).scalar_one()
    key = RunKey(run_id, new.experiment_id, 1)
    _insert_attempt(connection, key, owner, None, moment)
    write_params(connection, new.experiment_id, json.loads(new.full_config_json))
    labels = [(new.experiment_id, storable(tag)) for tag in new.tags]
    write_rows(connection, tags, ("experiment_id", "tag"), labels, existing="keep")
    return key


def continue_run(connection: Connection, experiment_id: str, step: int) -> Owner:
    """Write the rows of a new attempt in this process; it begins with what stays valid.

    Args:
        connection: In a transaction that writes.
        experiment_id: The run.
        step: Step of the resume point; what was recorded after it is superseded.

    Raises:
        StoreError: If there is no such run, or it is neither INTERRUPTED, LOST nor FAILED.
    """
    found = connection.execute(
        select(experiments.c.id, experiments.c.attempt, experiments.c.host, *status_columns())
        .where(experiments.c.experiment_id == experiment_id)
        .with_for_update()
    ).one_or_none()
    if found is None:
        raise StoreError(f"there is no run {experiment_id} to resume")
    status = status_now(found)
    if status is RunStatus.LOST:
        transition(connection, found.id, RunStatus.LOST)
    elif status not in (RunStatus.INTERRUPTED, RunStatus.FAILED):
        where = f" on {found.host} as process {found.pid}" if status is RunStatus.RUNNING else ""
        raise StoreError(
            f"run {experiment_id} is {status}{where}; only an INTERRUPTED, LOST or FAILED run is "
            "resumed"
        )
    _close_attempts(connection, found.id, status, step)
    key = RunKey(found.id, experiment_id, found.attempt + 1)
    owner = owner_here(experiment_id, key.attempt)
    transition(
        connection,
        found.id,
        RunStatus.RUNNING,
        **_process(owner),
        attempt=key.attempt,
        heartbeat=utc_now(),
        ended=None,
        stop_requested=None,
        error=None,
    )
    _insert_attempt(connection, key, owner, step, utc_now())
    _summarize_again(connection, key)
    return owner


def is_run_id(text: str) -> bool:
    """Return whether a text can be the id of a run, and so the name of its folder."""
    return _ID.fullmatch(text) is not None and text not in RESERVED_NAMES


def _check_id(connection: Connection, new: NewRun) -> None:
    if not is_run_id(new.experiment_id):
        raise StoreError(
            f"'{new.experiment_id}' cannot be the id of a run: an id is made of up to 200 letters, "
            f"digits, '_', '-' and '.', and is none of {', '.join(RESERVED_NAMES)}"
        )
    ids = select(experiments.c.experiment_id)
    if connection.execute(ids.where(experiments.c.experiment_id == new.experiment_id)).first():
        raise StoreError(f"there is a run {new.experiment_id} already; an id is used once")
    if new.parent is not None and not (
        connection.execute(ids.where(experiments.c.experiment_id == new.parent)).first()
    ):
        raise StoreError(
            f"the parent of run {new.experiment_id}, {new.parent}, is not in this store"
        )


def _storable(value: Any) -> Any:
    return storable(value) if isinstance(value, str) else value


def _process(owner: Owner) -> dict[str, Any]:
    return {"host": owner.host, "pid": owner.pid, "process": owner.process}


def _insert_schema(connection: Connection, schema_json: str | None) -> str | None:
    if schema_json is None:
        return None
    digest = hashlib.sha256(schema_json.encode()).hexdigest()
    row = (digest, schema_json)
    write_rows(connection, schemas, ("hash", "schema_json"), [row], existing="keep")
    return digest


def _insert_attempt(
    connection: Connection,
    key: RunKey,
    owner: Owner,
    resumed_step: int | None,
    started: str | utc_now,
) -> None:
    connection.execute(
        insert(attempts).values(
            run_id=key.run_id,
            attempt=key.attempt,
            status=RunStatus.RUNNING,
            started=started,
            host=owner.host,
            pid=owner.pid,
            resumed_step=resumed_step,
        )
    )


def _close_attempts(connection: Connection, run_id: int, status: RunStatus, step: int) -> None:
    """Mark what earlier attempts recorded after the resume point as superseded."""
    of_run = update(attempts).where(attempts.c.run_id == run_id)
    limit = func.coalesce(attempts.c.valid_to_step, step)
    connection.execute(of_run.where(limit >= step).values(valid_to_step=step))
    connection.execute(of_run.where(attempts.c.status == RunStatus.RUNNING).values(status=status))


def _summarize_again(connection: Connection, key: RunKey) -> None:
    summaries = summarize(connection, key.run_id)
    connection.execute(metrics.delete().where(metrics.c.experiment_id == key.experiment_id))
    write_summaries(connection, key.experiment_id, summaries)

"""What people change about recorded runs: labels, names, the trash, requests to stop."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import Connection, delete, insert, select, update

from research_eval.errors import StoreError
from research_eval.records import RunStatus
from research_eval.store.checks import storable
from research_eval.store.engine import Address
from research_eval.store.queries import status_columns, status_now
from research_eval.store.schema import experiments, notes, tags, utc_now
from research_eval.store.statements import write_rows


def change_tags(
    connection: Connection, experiment_id: str, add: Iterable[str], remove: Collection[str]
) -> None:
    """Add tags and remove others; what is there already, or is not there, stays so.

    Raises:
        StoreError: If a tag is empty.
    """
    rows = [(experiment_id, storable(tag)) for tag in add]
    if not all(tag.strip() for _, tag in rows):
        raise StoreError("a tag has at least one character")
    write_rows(connection, tags, ("experiment_id", "tag"), rows, existing="keep")
    unwanted = tags.c.tag.in_([storable(tag) for tag in remove])
    connection.execute(delete(tags).where(tags.c.experiment_id == experiment_id, unwanted))


def add_note(connection: Connection, experiment_id: str, text: str) -> None:
    """Write a remark beside a run.

    Raises:
        StoreError: If it is empty.
    """
    if not text.strip():
        raise StoreError("a note has at least one character")
    connection.execute(
        insert(notes).values(experiment_id=experiment_id, timestamp=utc_now(), note=storable(text))
    )


def rename(connection: Connection, experiment_id: str, name: str) -> None:
    """Give a run another name; its id stays.

    Raises:
        StoreError: If the name is empty.
    """
    if not name.strip():
        raise StoreError("a name has at least one character")
    _set(connection, [experiment_id], experiment_name=storable(name))


def move_to_trash(connection: Connection, address: Address, ids: Collection[str]) -> None:
    """Put runs into the trash, all of them or none.

    Raises:
        StoreError: If one of them is RUNNING, or there is none of this id.
    """
    statuses = _statuses(connection, address, ids)
    running = sorted(each for each, status in statuses.items() if status is RunStatus.RUNNING)
    if running:
        raise StoreError(
            f"{'run' if len(running) == 1 else 'runs'} {', '.join(running)} still "
            f"{'runs' if len(running) == 1 else 'run'}; nothing was deleted. "
            f"`research-eval runs stop {running[0]}` ends it first"
        )
    _set(connection, ids, deleted=utc_now())


def take_from_trash(connection: Connection, address: Address, ids: Collection[str]) -> None:
    """Take runs out of the trash, all of them or none.

    Raises:
        StoreError: If there is no run of one of the ids.
    """
    _statuses(connection, address, ids)
    _set(connection, ids, deleted=None)


def ask_to_stop(connection: Connection, address: Address, experiment_id: str) -> None:
    """Leave a running run the request to stop.

    Raises:
        StoreError: If it does not run.
    """
    status = _statuses(connection, address, [experiment_id])[experiment_id]
    if status is not RunStatus.RUNNING:
        raise StoreError(f"run {experiment_id} is {status}; only a RUNNING one can be stopped")
    _set(connection, [experiment_id], stop_requested=utc_now())


def _statuses(
    connection: Connection, address: Address, ids: Collection[str]
) -> Mapping[str, RunStatus]:
    query = select(experiments.c.experiment_id, *status_columns())
    rows = connection.execute(query.where(experiments.c.experiment_id.in_(ids)).with_for_update())
    found = {row.experiment_id: status_now(row) for row in rows}
    missing = sorted(set(ids) - set(found))
    if missing:
        raise StoreError(f"there is no run {', '.join(missing)} in {address}")
    return found


def _set(connection: Connection, ids: Collection[str], **values: object) -> None:
    of_runs = experiments.c.experiment_id.in_(ids)
    connection.execute(update(experiments).where(of_runs).values(**values))

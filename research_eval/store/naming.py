"""Which run a person means."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, func, or_, select

from research_eval.errors import StoreError
from research_eval.records import RunStatus
from research_eval.store.engine import Address
from research_eval.store.schema import experiments, metrics

_SHOWN_MATCHES = 5


def _is_kept() -> ColumnElement[bool]:
    return experiments.c.deleted.is_(None)


def run_key(connection: Connection, address: Address, experiment_id: str) -> int:
    """Return the integer key of a run.

    Raises:
        StoreError: If there is no such run.
    """
    query = select(experiments.c.id).where(experiments.c.experiment_id == experiment_id)
    found: int | None = connection.scalar(query)
    if found is None:
        raise StoreError(f"there is no run {experiment_id} in {address}")
    return found


def last_run(connection: Connection, address: Address) -> str:
    """Return the id of the run that was started last; an evaluation is not what is meant.

    Raises:
        StoreError: If there are no runs.
    """
    newest = (experiments.c.timestamp.desc(), experiments.c.id.desc())
    is_meant = experiments.c.run_type != "evaluation"
    query = select(experiments.c.experiment_id).where(_is_kept(), is_meant)
    found: str | None = connection.scalar(query.order_by(*newest).limit(1))
    if found is None:
        raise StoreError(f"{address} holds no runs yet")
    return found


def best_run(connection: Connection, address: Address, by: str | None) -> str:
    """Return the id of the COMPLETED run with the best finite last value; of equals the first.

    Args:
        connection: To read with.
        address: For messages.
        by: Metric and direction, as in "final_val_f1:max".

    Raises:
        StoreError: If `by` does not say what is best, or no run has such a value.
    """
    metric, _, direction = (by or "").rpartition(":")
    if not metric or direction not in ("min", "max"):
        raise StoreError(
            f"'best' needs a metric and a direction, for example final_val_f1:max, not {by!r}"
        )
    value = metrics.c.metric_value
    found: str | None = connection.scalar(
        select(metrics.c.experiment_id)
        .join(experiments, experiments.c.experiment_id == metrics.c.experiment_id)
        .where(
            metrics.c.metric_name == metric,
            experiments.c.status == RunStatus.COMPLETED,
            _is_kept(),
            value.between(-sys.float_info.max, sys.float_info.max),
        )
        .order_by(value.desc() if direction == "max" else value, experiments.c.id)
        .limit(1)
    )
    if found is None:
        raise StoreError(f"no completed run in {address} has a finite '{metric}'")
    return found


def named_run(connection: Connection, address: Address, name: str, *, deleted: bool = False) -> str:
    """Return the id of the run with this id, this beginning of an id, or this name.

    Args:
        connection: To read with.
        address: For messages.
        name: What somebody calls it.
        deleted: Look in the trash, and nowhere else.

    Raises:
        StoreError: If there is none, or more than one.
    """
    column = experiments.c.experiment_id
    place = ~_is_kept() if deleted else _is_kept()
    found = connection.execute(
        select(column, place.label("is_there")).where(column == name)
    ).one_or_none()
    if found is not None and found.is_there:
        return name
    if found is not None:
        raise StoreError(
            f"run {name} is not in the trash"
            if deleted
            else f"run {name} is in the trash; `research-eval runs restore {name}` brings it back"
        )
    # substr, not LIKE: LIKE ignores case on SQLite, and names may hold its wildcards.
    is_prefix = func.substr(column, 1, len(name)) == name
    matches: Sequence[str] = connection.scalars(
        select(column)
        .where(or_(is_prefix, experiments.c.experiment_name == name), place)
        .order_by(experiments.c.id.desc())
        .limit(_SHOWN_MATCHES + 1)
    ).all()
    if not name or not matches:
        where = f"the trash of {address}" if deleted else str(address)
        raise StoreError(
            f"no run is called '{name}' in {where}; "
            f"`research-eval runs list{' --deleted' if deleted else ''}` shows those there are"
        )
    if len(matches) > 1:
        shown = ", ".join(matches[:_SHOWN_MATCHES])
        more = ", ..." if len(matches) > _SHOWN_MATCHES else ""
        raise StoreError(f"'{name}' may mean several runs: {shown}{more}; give an id")
    return matches[0]

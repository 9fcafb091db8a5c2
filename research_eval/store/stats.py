"""How big things are in a store."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import OperationalError

from research_eval.store.database import Store
from research_eval.store.schema import experiments, metadata, metrics


@dataclass(frozen=True, slots=True)
class TableSize:
    """One table.

    Attributes:
        bytes: With its indexes; None where this build of SQLite cannot tell.
    """

    table: str
    rows: int
    bytes: int | None


@dataclass(frozen=True, slots=True)
class RunSize:
    """One run; points that a resume superseded are not counted."""

    experiment_id: str
    experiment_name: str
    metrics: int
    points: int


def table_sizes(store: Store) -> list[TableSize]:
    """Return the size of every table, the biggest first; it counts all rows."""
    with store._reading() as connection:
        sizes = _bytes_by_table(connection)
        found = [
            TableSize(name, connection.scalar(select(func.count()).select_from(table)) or 0,
                      sizes.get(name))
            for name, table in metadata.tables.items()
        ]  # fmt: skip  # three values of a table
    return sorted(found, key=lambda each: (-(each.bytes or 0), -each.rows, each.table))


def largest_runs(store: Store, limit: int) -> list[RunSize]:
    """Return the runs with the most points, from their summaries."""
    points = func.sum(metrics.c.num_points)
    query = (
        select(experiments.c.experiment_id, experiments.c.experiment_name, func.count(), points)
        .join(metrics, metrics.c.experiment_id == experiments.c.experiment_id)
        .group_by(experiments.c.id, experiments.c.experiment_id, experiments.c.experiment_name)
        .order_by(points.desc(), experiments.c.id)
        .limit(limit)
    )
    with store._reading() as connection:
        return [
            RunSize(run, name, kinds, int(n)) for run, name, kinds, n in connection.execute(query)
        ]


def _bytes_by_table(connection: Connection) -> dict[str, int]:
    if connection.dialect.name == "postgresql":
        query = "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r'"
    else:
        query = (
            "SELECT t.tbl_name, sum(s.pgsize) FROM dbstat s JOIN sqlite_master t "
            "ON t.name = s.name GROUP BY t.tbl_name"
        )
    try:
        return {name: int(size) for name, size in connection.execute(text(query))}
    except OperationalError:  # SQLite without the module `dbstat`
        return {}

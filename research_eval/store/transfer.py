"""Runs on their way from one database to another.

Integer keys mean nothing elsewhere, so rows travel in a portable form: the id of the run and the
name of the metric stand where a table has keys of them, and keys that only count rows are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, func, select

from research_eval.errors import StoreError
from research_eval.store.schema import (
    artifacts,
    attempts,
    experiments,
    expert_stats,
    flags,
    metric_points,
    metrics,
    names,
    notes,
    params,
    schemas,
    studies,
    tags,
)
from research_eval.store.statements import intern, write_rows

OF_RUNS = (
    experiments,
    attempts,
    params,
    metrics,
    metric_points,
    expert_stats,
    artifacts,
    flags,
    tags,
    notes,
)
"""Every table whose rows belong to a run, in an order in which they can be written."""

RUNS_AT_ONCE = 500
ROWS_AT_ONCE = 10_000
_DIGEST = 2**64

PortableRow = tuple[Any, ...]
_Item = TypeVar("_Item")


@dataclass(slots=True)
class Content:
    """Rows in any order, boiled down; equal for equal rows within one process.

    Attributes:
        digest: Sum of the rows' hashes, for it does not depend on their order.
    """

    rows: int = 0
    digest: int = 0

    def add(self, row: PortableRow) -> None:
        """Take in a row."""
        self.rows += 1
        self.digest = (self.digest + hash(row)) % _DIGEST


@dataclass(frozen=True, slots=True)
class NewIds:
    """Other ids for some runs."""

    ids: Mapping[str, str]

    def apply(self, table: Table, row: PortableRow) -> PortableRow:
        """Return a portable row under the new id of its run."""
        old = row[0]
        changed = (self.ids.get(old, old), *row[1:])
        if table is experiments:
            parent = _columns(table).index("parent")
            new_parent = self.ids.get(row[parent], row[parent])
            return (*changed[:parent], new_parent, *changed[parent + 1 :])
        if table is artifacts and old in self.ids:
            return (changed[0], changed[0] + row[1].removeprefix(old), *row[2:])
        return changed


KEEP = NewIds({})


def transfer(
    source: Connection,
    target: Connection,
    ids: Sequence[str],
    *,
    renamed: NewIds = KEEP,
    on_rows: Callable[[int], None] = lambda _number: None,
) -> dict[str, int]:
    """Write runs of one database into another, read them back there, and compare.

    Args:
        source: In a transaction, so that it shows one state.
        target: In a transaction that writes; the caller commits it.
        ids: The runs, parents before children; none of them is in the target.
        renamed: Ids that they get there.
        on_rows: Called with the number of rows written since the last call.

    Returns:
        Number of rows by table.

    Raises:
        StoreError: If what arrived differs from what was sent, or a study is another one there.
    """
    counts = dict.fromkeys((table.name for table in OF_RUNS), 0)
    for group in in_chunks(ids, RUNS_AT_ONCE):
        _transfer_schemas(source, target, group)
        there = [renamed.ids.get(each, each) for each in group]
        for table in OF_RUNS:
            sent = Content()
            rows = (renamed.apply(table, row) for row in portable_rows(source, table, group))
            for chunk in in_chunks(rows, ROWS_AT_ONCE):
                _write(target, table, chunk, there)
                for row in chunk:
                    sent.add(row)
                on_rows(len(chunk))
            if (arrived := content(target, table, there)) != sent:
                raise StoreError(
                    f"{arrived.rows} of {sent.rows} rows of {table.name} arrived, or arrived "
                    "changed; nothing was kept"
                )
            counts[table.name] += sent.rows
    return counts


def transfer_studies(source: Connection, target: Connection, wanted: Collection[str]) -> None:
    """Write studies that the target does not have.

    Raises:
        StoreError: If the target has another study of one of these names.
    """
    sent = select(studies).where(studies.c.name.in_(wanted)).order_by(studies.c.name)
    for study in source.execute(sent).all():
        known = target.execute(select(studies).where(studies.c.name == study.name)).first()
        if known is not None and known.spec_json != study.spec_json:
            raise StoreError(f"there is another study of the name '{study.name}' already")
        write_rows(target, studies, _columns(studies), [tuple(study)], existing="keep")


def portable_rows(
    connection: Connection, table: Table, ids: Sequence[str]
) -> Iterator[PortableRow]:
    """Yield the rows of up to 500 runs; the first value is always the id of the run."""
    keys = {}
    columns = _columns(table)
    if "run_id" in columns:
        keys["run_id"] = {key: run for run, key in run_keys(connection, ids).items()}
    if "name_id" in columns:
        keys["name_id"] = {row.id: row.name for row in connection.execute(select(names))}
    told = list(keys.values())  # the keys, where a table has them, are its first columns
    chosen: ColumnElement[bool] = (
        table.c.run_id.in_(keys["run_id"]) if keys else table.c.experiment_id.in_(ids)
    )
    query = select(*(table.c[name] for name in columns)).where(chosen).order_by(*table.primary_key)
    for row in connection.execute(query.execution_options(yield_per=ROWS_AT_ONCE)):
        yield (*(of[key] for of, key in zip(told, row, strict=False)), *row[len(told) :])


def content(connection: Connection, table: Table, ids: Sequence[str]) -> Content:
    """Return what a table holds of up to 500 runs."""
    found = Content()
    for row in portable_rows(connection, table, ids):
        found.add(row)
    return found


def run_keys(connection: Connection, ids: Collection[str]) -> dict[str, int]:
    """Return the integer keys of those of up to 500 runs that are in the database."""
    query = select(experiments.c.experiment_id, experiments.c.id)
    found = connection.execute(query.where(experiments.c.experiment_id.in_(ids)))
    return {row.experiment_id: row.id for row in found}


def all_ids(connection: Connection) -> list[str]:
    """Return the ids of all runs, those in the trash included, parents before children."""
    query = select(experiments.c.experiment_id).order_by(experiments.c.id)
    return list(connection.scalars(query))


def present(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Return those of these ids that the database has."""
    return [run for group in in_chunks(ids, RUNS_AT_ONCE) for run in run_keys(connection, group)]


def count_rows(connection: Connection, ids: Sequence[str]) -> int:
    """Return how many rows `transfer` would write."""
    total = 0
    for group in in_chunks(ids, RUNS_AT_ONCE):
        keys = list(run_keys(connection, group).values())
        for table in OF_RUNS:
            is_of_runs = (
                table.c.run_id.in_(keys)
                if "run_id" in table.c
                else table.c.experiment_id.in_(group)
            )
            counted = select(func.count()).select_from(table)
            total += connection.scalar(counted.where(is_of_runs)) or 0
    return total


def in_chunks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield the items in lists of this size, the last one shorter."""
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk


def _transfer_schemas(source: Connection, target: Connection, ids: Sequence[str]) -> None:
    of_runs = select(experiments.c.schema_hash).where(experiments.c.experiment_id.in_(ids))
    found = source.execute(select(schemas).where(schemas.c.hash.in_(of_runs)))
    rows = [tuple(row) for row in found]
    write_rows(target, schemas, _columns(schemas), rows, existing="keep")


def _write(
    target: Connection, table: Table, rows: Sequence[PortableRow], ids: Sequence[str]
) -> None:
    columns = _columns(table)
    if "run_id" in columns:
        keys: list[Mapping[str, int]] = [run_keys(target, ids)]
        if "name_id" in columns:
            keys.append(intern(target, {row[1] for row in rows}))
        rows = [(*(of[key] for of, key in zip(keys, row, strict=False)), *row[len(keys) :])
                for row in rows]  # fmt: skip  # one line more would hide the pairing
    if target.dialect.name == "postgresql":
        _copy_in(target, table, columns, rows)
    else:
        write_rows(target, table, columns, rows, existing="keep")


def _copy_in(
    target: Connection, table: Table, columns: Sequence[str], rows: Iterable[PortableRow]
) -> None:
    """Write new rows with PostgreSQL's COPY, twice as fast as by inserting them."""
    command = f"COPY {table.name} ({', '.join(columns)}) FROM STDIN"
    driver: Any = target.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(command) as stream:
        for row in rows:
            stream.write_row(row)


def _columns(table: Table) -> tuple[str, ...]:
    """Return the columns that mean the same in every database, the run's id or key first."""
    kept = [column.name for column in table.columns if column.name != "id"]
    return tuple(sorted(kept, key=lambda name: name not in ("experiment_id", "run_id")))

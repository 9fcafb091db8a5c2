"""Filters, sort keys and fields as SQL; every value is a bound parameter."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    Double,
    Integer,
    Select,
    Table,
    Text,
    and_,
    case,
    false,
    not_,
    nulls_last,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from research_eval.errors import closest
from research_eval.filters import (
    All,
    Column,
    Comparison,
    Condition,
    Either,
    Field,
    Label,
    Metric,
    Not,
    Param,
    SortKey,
    Value,
)
from research_eval.records import RunStatus
from research_eval.store.checks import storable
from research_eval.store.schema import experiments, flags, metrics, notes, params, tags

_ORDERS: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_STATISTICS = {
    "last": metrics.c.metric_value,
    "min": metrics.c.min_value,
    "max": metrics.c.max_value,
    "count": metrics.c.num_points,
    "nonfinite": metrics.c.num_nonfinite,
}
_LABELS = {"tag": tags.c.tag, "note": notes.c.note, "flag": flags.c.name}


class _position(FunctionElement[int]):  # noqa: N801 - named like the SQL function that it stands for
    """Where a text stands in another, from 1; 0 if it does not. Case counts, unlike in LIKE."""

    type = Integer()
    inherit_cache = True


@compiles(_position, "sqlite")
def _position_sqlite(element: _position, compiler: Any, **kw: Any) -> str:
    return f"instr({compiler.process(element.clauses, **kw)})"


@compiles(_position, "postgresql")
def _position_postgresql(element: _position, compiler: Any, **kw: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **kw)})"


class _by_code_point(FunctionElement[str]):  # noqa: N801 - like a function of SQL
    """Text that is ordered by its characters' numbers, whatever the language of the server."""

    type = Text()
    inherit_cache = True


@compiles(_by_code_point, "sqlite")
def _by_code_point_sqlite(element: _by_code_point, compiler: Any, **kw: Any) -> str:
    return str(compiler.process(element.clauses, **kw))


@compiles(_by_code_point, "postgresql")
def _by_code_point_postgresql(element: _by_code_point, compiler: Any, **kw: Any) -> str:
    return f'({compiler.process(element.clauses, **kw)}) COLLATE "C"'


def true_status(lost: Iterable[int]) -> ColumnElement[str]:
    """Return the status of a run as an expression.

    Args:
        lost: Keys of the runs that are stored as RUNNING and are LOST (see `status_now`).
    """
    stored = experiments.c.status
    gone = list(lost)
    return case((experiments.c.id.in_(gone), RunStatus.LOST), else_=stored) if gone else stored


def meets(condition: Condition, status: ColumnElement[str]) -> ColumnElement[bool]:
    """Return a condition on the table `experiments`, never NULL.

    Args:
        condition: What is asked.
        status: See `true_status`.
    """
    match condition:
        case Not(inner):
            return not_(meets(inner, status))
        case All(parts):
            return and_(*(meets(part, status) for part in parts))
        case Either(parts):
            return or_(*(meets(part, status) for part in parts))
        case Comparison(Column() as column):
            return _column_meets(_column(column, status), condition)
        case Comparison(_, "null"):
            return experiments.c.experiment_id.not_in(_runs_with(condition.field))
        case Comparison():
            chosen = _runs_with(condition.field).where(_value_meets(condition))
            return experiments.c.experiment_id.in_(chosen)


def ordering(keys: Sequence[SortKey], status: ColumnElement[str]) -> list[ColumnElement[Any]]:
    """Return what to order runs by; runs without a value come last, equals newest first."""
    found: list[ColumnElement[Any]] = []
    for key in keys:
        for value in _sorted_by(key.field, status):
            found.append(nulls_last(value.desc() if key.is_descending else value.asc()))
    return [*found, *newest_first()]


def newest_first() -> list[ColumnElement[Any]]:
    """Return the order of a list that nobody asked to sort."""
    return [experiments.c.timestamp.desc(), experiments.c.id.desc()]


def run_column(name: str) -> ColumnElement[Any]:
    """Return the column that holds a field of `RunRecord`."""
    return experiments.c["group_name" if name == "group" else name]


def _column(column: Column, status: ColumnElement[str]) -> ColumnElement[Any]:
    return status if column.name == "status" else run_column(column.name)


def _sorted_by(
    field: Column | Param | Metric, status: ColumnElement[str]
) -> list[ColumnElement[Any]]:
    if isinstance(field, Column):
        column = _column(field, status)
        return [_by_code_point(column) if isinstance(column.type, Text) else column]
    of_run = _runs_with(field)
    same = of_run.selected_columns[0] == experiments.c.experiment_id
    if isinstance(field, Metric):
        value = of_run.with_only_columns(_STATISTICS[field.statistic])
        return [value.where(same).correlate(experiments).scalar_subquery()]
    numbers = of_run.with_only_columns(params.c.param_number).where(same)
    is_text = params.c.param_number.is_(None)  # 2 and 2.0 are equals
    texts = of_run.with_only_columns(params.c.param_value).where(same, is_text)
    return [
        numbers.correlate(experiments).scalar_subquery(),
        _by_code_point(texts.correlate(experiments).scalar_subquery()),
    ]


# ---------------------------------------------------------------------- values beside the runs


def _runs_with(field: Param | Metric | Label | Column) -> Select[tuple[str]]:
    """Return the ids of the runs that have any value under a field."""
    match field:
        case Param(path):
            is_null = and_(params.c.param_value == "null", params.c.param_number.is_(None))
            named = params.c.param_name == storable(path)
            return select(params.c.experiment_id).where(named, not_(is_null))
        case Metric(name, statistic):
            named = metrics.c.metric_name == storable(name)
            return select(metrics.c.experiment_id).where(named, _STATISTICS[statistic].is_not(None))
        case Label(kind):
            table: Table = _LABELS[kind].table
            return select(table.c.experiment_id)
        case Column():
            raise TypeError("a column is read from the table of runs")


def _value_meets(condition: Comparison) -> ColumnElement[bool]:
    """Return the condition on a row of the field's own table."""
    match condition.field:
        case Param():
            return _param_meets(condition)
        case Metric(_, statistic):
            return _number_meets(_STATISTICS[statistic], condition)
        case Label(kind):
            return _text_meets(_LABELS[kind], condition)
        case Column():
            raise TypeError("a column is compared by itself")


def _param_meets(condition: Comparison) -> ColumnElement[bool]:
    """Return a condition on a parameter: numbers meet numbers, text text, Booleans Booleans."""
    text, number = params.c.param_value, params.c.param_number
    is_boolean = and_(number.is_not(None), text.in_(["true", "false"]))
    texts = [value for value in condition.values if isinstance(value, str)]
    booleans = [value for value in condition.values if isinstance(value, bool)]
    numbers = [v for v in condition.values if type(v) in (int, float)]
    found: list[ColumnElement[bool]] = []
    if texts:
        found.append(and_(number.is_(None), _text_meets(text, condition, texts)))
    if booleans:
        found.append(and_(is_boolean, text.in_(["true" if v else "false" for v in booleans])))
    if numbers:
        found.append(and_(not_(is_boolean), _number_meets(number, condition, numbers)))
    return or_(*found) if found else false()


def _column_meets(column: ColumnElement[Any], condition: Comparison) -> ColumnElement[bool]:
    if condition.operator == "null":
        return column.is_(None)
    if isinstance(column.type, Boolean):
        test: ColumnElement[bool] = column.in_(condition.values)
    elif isinstance(column.type, Integer):
        test = _number_meets(column, condition)
    else:
        test = _text_meets(column, condition)
    return and_(column.is_not(None), test)


def _number_meets(
    column: ColumnElement[Any], condition: Comparison, values: Sequence[Value] | None = None
) -> ColumnElement[bool]:
    asked = cast("Sequence[float]", condition.values if values is None else values)
    # Of the type of the values, since PostgreSQL would round 2.5 to the type of the column.
    is_whole = isinstance(column.type, Integer) and all(isinstance(v, int) for v in asked)
    compared = type_coerce(column, BigInteger() if is_whole else Double())
    wanted = asked if is_whole else [float(value) for value in asked]
    if condition.operator == "in":
        return compared.in_(wanted)
    return _ORDERS[condition.operator](compared, wanted[0])


def _text_meets(
    column: ColumnElement[Any], condition: Comparison, values: Sequence[Value] | None = None
) -> ColumnElement[bool]:
    wanted = [_text(value) for value in (condition.values if values is None else values)]
    match condition.operator:
        case "in":
            return column.in_(wanted)
        case "contains":
            return _position(column, wanted[0]) > 0
    return _ORDERS[condition.operator](_by_code_point(column), wanted[0])


def _text(value: Value) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return storable(str(value))


# ---------------------------------------------------------------------------- names that nobody has


def unknown_names(connection: Connection, fields: Iterable[Field]) -> Iterator[str]:
    """Yield a sentence for each metric or parameter that no run has.

    Args:
        connection: To read with.
        fields: What somebody named, for example in a filter.
    """
    for field in dict.fromkeys(fields):
        match field:
            case Metric(name):
                what, column = "metric", metrics.c.metric_name
            case Param(name):
                what, column = "parameter", params.c.param_name
            case _:
                continue
        if connection.scalar(select(column).where(column == storable(name)).limit(1)) is None:
            known = connection.scalars(select(column).distinct())
            yield f"no run has a {what} '{name}'; {closest(name, known)}"

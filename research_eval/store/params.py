"""The configuration of a run as rows, for queries."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection

from research_eval.records import leaves
from research_eval.store.checks import storable
from research_eval.store.schema import params
from research_eval.store.statements import write_rows


def replace_params(connection: Connection, experiment_id: str, config: Any) -> None:
    """Write the rows of a configuration in the place of those that the run had before."""
    connection.execute(params.delete().where(params.c.experiment_id == experiment_id))
    write_params(connection, experiment_id, config)


def write_params(connection: Connection, experiment_id: str, config: Any) -> None:
    """Write the rows of a new run's configuration."""
    write_rows(
        connection,
        params,
        ("experiment_id", "param_name", "param_value", "param_number"),
        [
            (experiment_id, storable(name), storable(text), number)
            for name, text, number in flattened(config)
        ],
    )


def flattened(config: Mapping[str, Any]) -> Iterator[tuple[str, str, float | None]]:
    """Yield (dotted name, text, number) of every leaf of a configuration; a list is one leaf.

    The text of a string is the string, that of anything else its JSON. The number is None unless
    the leaf is a number or a Boolean; NaN, which nothing can be compared with, has none.
    """
    for path, value in leaves(config):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield path, text, _number(value) if isinstance(value, int | float) else None


def _number(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:  # an integer of more than 308 digits
        return math.inf if value > 0 else -math.inf
    return None if math.isnan(number) else number

"""The configuration of a run as rows, for queries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection

from research_eval.store.checks import storable
from research_eval.store.schema import params
from research_eval.store.statements import write_rows


def write_params(connection: Connection, experiment_id: str, config: Any) -> None:
    """Write the rows of a configuration; those that the run had before are replaced."""
    connection.execute(params.delete().where(params.c.experiment_id == experiment_id))
    write_rows(
        connection,
        params,
        ("experiment_id", "param_name", "param_value", "param_number"),
        [
            (experiment_id, storable(name), storable(text), number)
            for name, text, number in flattened(config)
        ],
    )


def flattened(value: Any, path: str = "") -> Iterator[tuple[str, str, float | None]]:
    """Yield (dotted name, text, number) of every leaf of a configuration; a list is one leaf.

    The text of a string is the string, that of anything else its JSON. The number is None unless
    the leaf is a number or a Boolean.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from flattened(inner, f"{path}.{name}" if path else name)
        return
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    yield path, text, float(value) if isinstance(value, int | float) else None

"""Records as tables of pandas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from research_eval.filters import Field, Metric, Param, columns, value_of
from research_eval.records import RunRecord


def runs_frame(records: Sequence[RunRecord], fields: Sequence[Field] | None) -> pd.DataFrame:
    """Return a row for each run, indexed by `experiment_id`.

    Args:
        records: The runs.
        fields: The columns; None takes every column of a run that is filled, every parameter and
            the last value of every metric.
    """
    if fields is not None:
        rows = [{str(field): value_of(record, field) for field in fields} for record in records]
        names = [str(field) for field in fields]
    else:
        rows = [everything(record) for record in records]
        names = list(dict.fromkeys(name for row in rows for name in row))
    index = pd.Index([record.experiment_id for record in records], name="experiment_id")
    return pd.DataFrame(rows, index=index, columns=names)


def everything(record: RunRecord) -> dict[str, Any]:
    """Return every filled column of a run, every parameter and the last value of every metric."""
    plain = {name: getattr(record, name) for name in columns() if name != "experiment_id"}
    return (
        {name: value for name, value in plain.items() if value is not None}
        | {str(Param(path)): value for path, value in record.params.items()}
        | {str(Metric(name)): summary.value for name, summary in record.metrics.items()}
    )

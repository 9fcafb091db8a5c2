"""Runs as rows: what a list shows of a record, and under which names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from research_eval.cli._render import Column, age, amount, moment, number, printable
from research_eval.filters import Column as FieldOfRun
from research_eval.filters import Field, Metric, columns, value_of
from research_eval.runlog import duration

if TYPE_CHECKING:
    from research_eval.records import RunRecord

SHORTEST_ID = 8

ID = Column("experiment_id", "id", is_fixed=True)
NAME = Column("experiment_name", "name")
MODEL = Column("model_type", "model", is_optional=True)
DATA = Column("dataset_name", "data", is_optional=True)
SEED = Column("seed", "seed", is_number=True)
STATUS = Column("status", "status", lambda value: printable(value).lower(), is_fixed=True)
PARAMETERS = Column("param_count", "parameters", amount, is_number=True, is_optional=True)
FLOPS = Column("flops_per_token", "FLOPs/token", amount, is_number=True, is_optional=True)
TIME = Column("seconds", "time", duration, is_number=True, is_optional=True)

SCORES = ("f1", "acc", "loss", "perplexity", "bits_per_byte")
LIST_METRICS = (
    "param_count",
    "flops_per_token",
    "total_training_time_seconds",
    *(f"final_val_{score}" for score in SCORES),
    *(f"eval_{score}" for score in SCORES),
)
"""All that a list may show of a run; reading no more keeps long lists fast."""


def score_name(record: RunRecord) -> str | None:
    """Return the metric that a list shows of a run, such as `final_val_f1`.

    It is the one by which the run selected its weights. A tracked run has a configuration of its
    own kind, and an evaluation selects nothing: then it is the first score that it has.
    """
    try:
        settings = json.loads(record.full_config_json)["training_params"]
        score = str(settings["monitor"]).partition(":")[0].removeprefix("val_")
    except (ValueError, KeyError, TypeError):
        names = (f"{prefix}_{score}" for prefix in ("final_val", "eval") for score in SCORES)
        return next((name for name in names if name in record.metrics), None)
    return f"final_val_{score}"


def in_words(flags: Mapping[str, str]) -> str:
    """Return the names of flags as words."""
    return printable(", ".join(name.replace("_", " ") for name in flags)) or "-"


def row(record: RunRecord, *, now: datetime | None = None) -> dict[str, Any]:
    """Return a run as one flat row; times in seconds and UTC.

    Args:
        record: The run.
        now: When this is, for the age; the present by default.
    """
    score = score_name(record)
    started = record.timestamp.replace(tzinfo=record.timestamp.tzinfo or UTC)
    seconds = record.value("total_training_time_seconds")
    return {
        "experiment_id": record.experiment_id,
        "experiment_name": record.experiment_name,
        "project": record.project,
        "model_type": record.model_type,
        "dataset_name": record.dataset_name,
        "seed": record.seed,
        "status": str(record.status),
        "score_name": score,
        "score": score and record.value(score),
        "param_count": record.value("param_count"),
        "flops_per_token": record.value("flops_per_token"),
        "seconds": seconds,
        "timestamp": started.isoformat(timespec="seconds"),
        "age_seconds": ((now or datetime.now(UTC)) - started).total_seconds(),
        "flags": dict(record.flags),
        "contended": record.contended,
    }


def listed(
    records: Sequence[RunRecord], fields: Sequence[Field], *, only: bool
) -> tuple[list[dict[str, Any]], list[Column]]:
    """Return runs as rows, and the columns of their table.

    Args:
        records: The runs.
        fields: What to show of each besides its id.
        only: Whether nothing else is shown.
    """
    usual = list_columns(records)
    asked = [
        Column(str(field), str(field), field_text, is_number=_is_number(field)) for field in fields
    ]
    rows = [
        (_only_id(record) if only else row(record))
        | {str(field): value_of(record, field) for field in fields}
        for record in records
    ]
    if only:
        return rows, [*usual[:1], *(c for c in asked if c.key != ID.key)]
    known = {column.key for column in usual}
    return rows, [*usual[:-1], *(c for c in asked if c.key not in known), usual[-1]]


def _only_id(record: RunRecord) -> dict[str, Any]:
    return {"experiment_id": record.experiment_id}


def _is_number(field: Field) -> bool:
    if isinstance(field, FieldOfRun):
        return columns()[field.name] == "number"
    return isinstance(field, Metric)


def field_text(value: object) -> str:
    """Return the value of a field as a cell of a table."""
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, tuple):
        return printable(", ".join(value)) or "-"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value) if isinstance(value, int) else number(value)
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def list_columns(records: Sequence[RunRecord]) -> list[Column]:
    """Return the columns of `runs list`; ids are cut as long as they stay different."""
    length = distinct_length([record.experiment_id for record in records])
    return [
        Column("experiment_id", "id", lambda each: printable(each[:length]), is_fixed=True),
        NAME,
        MODEL,
        DATA,
        SEED,
        STATUS,
        Column("score_name", "metric", is_optional=True),
        Column("score", "score", number, is_number=True),
        *notes(record.flags for record in records),
        PARAMETERS,
        TIME,
        Column("age_seconds", "age", age, is_number=True, is_optional=True),
    ]


def notes(flags: Iterable[Mapping[str, str]]) -> list[Column]:
    """Return the column of flags, unless no run has any."""
    return [Column("flags", "notes", in_words)] if any(flags) else []


def distinct_length(ids: Sequence[str]) -> int:
    """Return the least number of characters, 8 or more, by which all ids differ."""
    longest = max(map(len, ids), default=SHORTEST_ID)
    lengths = range(SHORTEST_ID, longest)
    return next((n for n in lengths if len({i[:n] for i in ids}) == len(ids)), longest)

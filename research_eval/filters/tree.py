"""What a filter is made of, and what it may name."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Literal, get_args, get_type_hints

from research_eval.records import Phase, RunRecord, RunStatus, RunType

Kind = Literal["text", "number", "boolean", "time", "status"]
Statistic = Literal["last", "min", "max", "count", "nonfinite"]
LabelKind = Literal["tag", "note", "flag"]
Operator = Literal["in", "<", "<=", ">", ">=", "contains", "null"]
Value = str | int | float | bool | datetime

STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
_ATTRIBUTES: dict[Statistic, str] = {
    "last": "value",
    "min": "minimum",
    "max": "maximum",
    "count": "count",
    "nonfinite": "nonfinite",
}
LABELS: tuple[LabelKind, ...] = get_args(LabelKind)

_LONG = {"full_config_json", "env_details_json", "config_schema_json", "git_diff"}
_KINDS: dict[object, Kind] = {
    str: "text",
    RunType: "text",
    Phase: "text",
    int: "number",
    bool: "boolean",
    datetime: "time",
    RunStatus: "status",
}


@cache
def columns() -> dict[str, Kind]:
    """Return the columns of a run that a filter may name, with their kinds."""
    found = {}
    for name, hint in get_type_hints(RunRecord).items():
        inner = get_args(hint)
        plain = inner[0] if type(None) in inner else hint
        if name not in _LONG and isinstance(plain, Hashable) and plain in _KINDS:
            found[name] = _KINDS[plain]
    return found


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the run itself."""

    name: str
    position: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Param:
    """A leaf of the configuration, by its dotted path."""

    path: str
    position: int = field(default=0, compare=False)

    def __str__(self) -> str:
        first, dot, _ = self.path.partition(".")
        is_plain = re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", self.path) is not None
        if is_plain and dot and first not in ("metrics", "params"):
            return self.path
        return f"params.{self.path if is_plain else quoted(self.path)}"


@dataclass(frozen=True, slots=True)
class Metric:
    """One number that sums up a metric of the run."""

    name: str
    statistic: Statistic = "last"
    position: int = field(default=0, compare=False)

    def __str__(self) -> str:
        is_plain = re.fullmatch(r"[^\W\d]\w*", self.name) is not None
        name = f"metrics.{self.name if is_plain else quoted(self.name)}"
        return name if self.statistic == "last" else f"{name}.{self.statistic}"


@dataclass(frozen=True, slots=True)
class Label:
    """What was attached to the run; it may have several."""

    kind: LabelKind
    position: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return self.kind


Field = Column | Param | Metric | Label


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field and what it is compared with; `in` means to equal one of the values."""

    field: Field
    operator: Operator
    values: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a condition."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class All:
    """Every one of the conditions."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """At least one of the conditions."""

    conditions: tuple[Condition, ...]


Condition = Comparison | Not | All | Either


@dataclass(frozen=True, slots=True)
class SortKey:
    """A field to sort by."""

    field: Column | Param | Metric
    is_descending: bool


def fields_of(condition: Condition) -> Iterator[Field]:
    """Yield every field that a condition looks at, from left to right."""
    match condition:
        case Comparison():
            yield condition.field
        case Not():
            yield from fields_of(condition.condition)
        case All() | Either():
            for part in condition.conditions:
                yield from fields_of(part)


def value_of(record: RunRecord, wanted: Field) -> object:
    """Return what a run has under a field: None for nothing, for a label a tuple."""
    match wanted:
        case Column():
            return getattr(record, wanted.name)
        case Param():
            return record.params.get(wanted.path)
        case Metric():
            summary = record.metrics.get(wanted.name)
            return None if summary is None else getattr(summary, _ATTRIBUTES[wanted.statistic])
        case Label("tag"):
            return record.tags
        case Label("note"):
            return tuple(note.text for note in record.notes)
        case Label():
            return tuple(record.flags)


def quoted(text: str) -> str:
    """Return text as the language writes it in quotes."""
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'

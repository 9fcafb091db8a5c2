"""Rows to a table, to JSON or to CSV. Nothing that users named is ever markup or an escape."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from research_eval.quantities import amount as amount
from research_eval.quantities import number as number

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Row = Mapping[str, Any]

UNBOUNDED = 10_000
"""Characters in a line when nobody looks: a pipe or a file has no width to wrap at."""


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def printable(value: object) -> str:
    r"""Return text in which everything that a terminal would act on is written out.

    Control characters, direction marks and line ends become escapes such as `\x1b`.
    """
    text = value if isinstance(value, str) else str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def moment(when: datetime) -> str:
    """Return a time in UTC, to the second."""
    return when.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")


@dataclass(frozen=True, slots=True)
class Column:
    """How one key of the rows appears in a table.

    Attributes:
        show: Makes text of a value; None and missing values appear as a dash.
        is_fixed: Never wrapped or cut, whatever the width.
        is_optional: Left out where the terminal is too narrow.
    """

    key: str
    title: str
    show: Callable[[Any], str] = printable
    is_number: bool = False
    is_fixed: bool = False
    is_optional: bool = False

    def text(self, row: Row) -> str:
        """Return the cell of a row."""
        value = row.get(self.key)
        return "-" if value is None else self.show(value)


def console(*, stderr: bool = False) -> Console:
    """Return a console that interprets nothing, as wide as a line may be where it goes."""
    from rich.console import Console

    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=False)
    if not made.is_terminal:
        made.width = UNBOUNDED
    return made


def note(line: str) -> None:
    """Say a line on stderr."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201  # this is the one place that says it


def write(text: str) -> None:
    """Write a line or a document to stdout."""
    sys.stdout.write(f"{text}\n")


def print_rows(
    rows: Sequence[Row],
    columns: Sequence[Column],
    form: Format,
    *,
    title: str = "",
    stderr: bool = False,
) -> None:
    """Print rows in the asked form.

    Args:
        rows: What is printed; JSON and CSV hold every key, a table those of `columns`.
        columns: How keys appear in a table.
        form: Which form.
        title: Stands above a table.
        stderr: Whether a table goes to stderr, before the results on stdout.
    """
    match form:
        case Format.JSON:
            write(to_json([dict(row) for row in rows]))
        case Format.CSV:
            _print_csv(rows, [column.key for column in columns])
        case Format.TABLE:
            out = console(stderr=stderr)
            if title:
                out.print(title, style="bold")
            _show(out, _table(rows, _fitting(rows, columns, out.width)))


def print_sections(
    sections: Mapping[str, Row],
    form: Format,
    *,
    texts: Mapping[str, Callable[[Any], str]] | None = None,
) -> None:
    """Print groups of named values; values may be mappings themselves.

    Args:
        sections: Name of each group to its values. In CSV every value is a line, and empty
            groups are left out of a table.
        form: Which form.
        texts: How the values of some groups appear in a table; by default what lies deeper is
            shown under a dotted path.
    """
    match form:
        case Format.JSON:
            write(to_json(sections))
        case Format.CSV:
            flat = [
                {"section": section, "name": name, "value": value}
                for section, values in sections.items()
                for name, value in flattened(values)
            ]
            _print_csv(flat, ("section", "name", "value"))
        case Format.TABLE:
            out = console()
            for index, (section, values) in enumerate(_filled(sections)):
                out.print(f"\n{section}" if index else section, style="bold")
                show = (texts or {}).get(section, _fact)
                pairs = values.items() if section in (texts or {}) else flattened(values)
                rows = [{"name": name, "value": value} for name, value in pairs]
                columns = [Column("name", ""), Column("value", "", show)]
                _show(out, _table(rows, columns, has_header=False))


def _filled(sections: Mapping[str, Row]) -> list[tuple[str, Row]]:
    return [(section, values) for section, values in sections.items() if values]


def flattened(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted path and value of everything in nested mappings."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def to_json(value: object) -> str:
    """Return JSON text that a terminal may be shown.

    NaN and infinities, which JSON cannot hold, become the strings "NaN", "Infinity" and
    "-Infinity".
    """
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str, allow_nan=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if is_dataclass(value) and not isinstance(value, type):
        return _finite(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _print_csv(rows: Sequence[Row], names_if_empty: Sequence[str]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row)) or names_if_empty
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_csv_cell(row.get(name)) for name in names] for row in rows)


def _csv_cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | Mapping | list | tuple):
        return json.dumps(_finite(value), ensure_ascii=False, default=str)
    return printable(value)


def _fact(value: object) -> str:
    """Return a value as lines of text, its own line ends kept."""
    if value is None or isinstance(value, bool | Mapping | list | tuple):
        return printable(json.dumps(_finite(value), ensure_ascii=False, default=str))
    if isinstance(value, datetime):
        return moment(value)
    shown = number(value) if isinstance(value, float) else str(value)
    return "\n".join(printable(line) for line in shown.splitlines())


def _table(rows: Sequence[Row], columns: Sequence[Column], *, has_header: bool = True) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD if has_header else None,
        show_edge=False,
        show_header=has_header,
        pad_edge=not has_header,
        padding=(0, 1) if has_header else (0, 2),
    )
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.is_number else "left",
            no_wrap=column.is_fixed or column.is_number,
            min_width=_width(rows, column) if column.is_fixed else None,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(column.text(row)) for column in columns))
    return table


def _show(out: Console, table: Table) -> None:
    """Print a table; where nobody looks, without the blanks that fill its last column."""
    if out.is_terminal:
        out.print(table)
        return
    with out.capture() as captured:
        out.print(table)
    text = "\n".join(line.rstrip() for line in captured.get().splitlines())
    (note if out.stderr else write)(text)


def _fitting(rows: Sequence[Row], columns: Sequence[Column], width: int) -> list[Column]:
    """Return the columns without so many optional ones, from the right, that the others fit."""
    kept = list(columns)
    optional = [column for column in columns if column.is_optional]
    while optional and sum(_least_width(rows, column) + 3 for column in kept) > width:
        kept.remove(optional.pop())
    return kept


def _width(rows: Sequence[Row], column: Column) -> int:
    from rich.cells import cell_len

    return max([cell_len(column.title), *(cell_len(column.text(row)) for row in rows)])


def _least_width(rows: Sequence[Row], column: Column) -> int:
    full = _width(rows, column)
    return full if column.is_fixed or column.is_number else min(full, 12)


# ------------------------------------------------------------------------------ values as text


def size(num_bytes: float) -> str:
    """Return a number of bytes with a binary prefix."""
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.3g} {unit}"
    return f"{num_bytes:.0f} B"


def age(seconds: float) -> str:
    """Return how long ago something was, in its largest unit."""
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"

"""What was taken out of a file so that it does not tell who made it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from research_eval.cli._render import Column, Format, note, print_rows, printable

if TYPE_CHECKING:
    from research_eval.anonymity import Anonymizer

_SHOWN_THINGS = 3


def show_removed(anonymizer: Anonymizer) -> None:
    """List on stderr what an anonymizer has removed so far."""
    account = anonymizer.account
    if not account:
        note("nothing that identifies was found")
        return
    rows = []
    for each in account:
        things = sorted(each.things.values(), key=str.casefold)
        more = f", ... {len(things)} in all" if len(things) > _SHOWN_THINGS else ""
        shown = ", ".join(map(printable, things[:_SHOWN_THINGS])) + more
        rows.append(
            {"kind": each.kind, "what": shown, "count": each.count, "example": each.example}
        )
    columns = [
        Column("kind", "removed"),
        Column("what", "what it was"),
        Column("count", "times", is_number=True),
        Column("example", "first in"),
    ]
    print_rows(rows, columns, Format.TABLE, stderr=True)

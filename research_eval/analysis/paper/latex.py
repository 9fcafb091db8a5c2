"""Text and numbers as LaTeX that needs no package but booktabs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": "{`}",  # else ?` would be a question mark upside down
    "[": "{[}",  # at the start of a row it would be an argument of the row before
    "*": "{*}",
    "±": r"\ensuremath{\pm}",
    "…": r"\ldots{}",
}

Row = Sequence[str]


def text(value: str) -> str:
    """Return a text that LaTeX sets as it is, on one line, whatever somebody named.

    Of other characters than ASCII, Latin letters with an accent stay, which LaTeX knows since 2018;
    in place of any other one stands its number, as U+1F989.
    """
    composed = unicodedata.normalize("NFC", " ".join(value.split()))
    return "".join(map(_character, composed)).replace("--", "-{}-")


def _character(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if " " <= character <= "~":
        return character
    plain = unicodedata.normalize("NFD", character)
    if len(plain) == 2 and plain[0].isascii() and plain[0].isalpha() and character < "\u0180":
        return character
    return f"U+{ord(character):04X}"


def comment(value: str) -> str:
    """Return a comment of one line."""
    return f"% {''.join(c if c.isprintable() else ' ' for c in value)}"


def maths(value: str, *, is_bold: bool = False) -> str:
    """Return a number as the report writes it (`0.81 ± 0.02`, `1,234`, `1.2e-05`) in math mode."""
    told = re.sub(r"e([+-])0*(\d+)", lambda m: rf" \times 10^{{{m[1].strip('+')}{m[2]}}}", value)
    told = re.sub(r"(?<=\d),(?=\d)", "{,}", told.replace("±", r"\pm"))
    return rf"$\mathbf{{{told}}}$" if is_bold else f"${told}$"


def tabular(notes: Iterable[str], columns: str, head: Row, body: Iterable[Row]) -> str:
    """Return a table in the style of booktabs; its notes stand above it as comments.

    Args:
        notes: What the caption should say.
        columns: As `lrr`.
        head: Names of the columns, in LaTeX.
        body: Cells in LaTeX; a row of one cell is a line of its own.
    """
    lines = [comment(each) for each in notes]
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _line(head), r"\midrule"]
    for row in body:
        whole = rf"\multicolumn{{{len(columns)}}}{{l}}{{{row[0]}}}"
        lines.append(_line([whole] if len(row) == 1 else row))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _line(cells: Row) -> str:
    return rf"{' & '.join(cells)} \\"

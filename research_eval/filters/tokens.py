"""Text to tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

from research_eval.errors import FilterError

MAX_CHARACTERS = 20_000

TokenKind = Literal["number", "text", "name", "sign", "end"]


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a value or a sign, and where it begins."""

    kind: TokenKind
    text: str
    position: int

    @property
    def word(self) -> str:
        """The keyword that it would be; nothing for what stands in quotes."""
        return self.text.lower() if self.kind in ("name", "sign") else ""

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else f"'{self.text}'"


_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?!\w))
      | (?P<text>"(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*')
      | (?P<name>\w+)
      | (?P<sign>==|!=|<=|>=|&&|\|\||[-<>()\[\],.=!])
      | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)


def tokens(text: str) -> list[Token]:
    """Return the tokens of a text; the last is its end.

    Raises:
        FilterError: If it is too long, or holds what is no token.
    """
    if len(text) > MAX_CHARACTERS:
        raise FilterError(
            f"it has {len(text):,} characters, more than {MAX_CHARACTERS:,}", text, MAX_CHARACTERS
        )
    found: list[Token] = []
    position = 0
    while not found or found[-1].kind != "end":
        match = _TOKEN.match(text, position)
        if match is None:
            position += len(text[position:]) - len(text[position:].lstrip())
            if text[position] in "\"'":
                raise FilterError("the text that begins here has no closing quote", text, position)
            raise FilterError(
                f"cannot read {text[position]!r}; a name with other characters than letters, "
                "digits and '_' stands in quotes",
                text,
                position,
            )
        kind = cast("TokenKind", match.lastgroup)
        found.append(Token(kind, match[kind], match.start(kind)))
        position = match.end()
    return found


def number(text: str) -> int | float:
    """Return an integer if it is one that a database keeps, else a float."""
    if re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return int(text)
    return float(text)


def unquoted(token: Token) -> str:
    """Return a name, or what stands in quotes."""
    if token.kind != "text":
        return token.text
    return re.sub(r"""\\(["'\\])""", r"\1", token.text[1:-1])

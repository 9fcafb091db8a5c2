"""Tokens to a tree, with every name and type checked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, TypeVar, cast

from research_eval.errors import FilterError, did_you_mean
from research_eval.filters.tokens import Token, number, tokens, unquoted
from research_eval.filters.tree import (
    LABELS,
    STATISTICS,
    All,
    Column,
    Comparison,
    Condition,
    Either,
    Field,
    Kind,
    Label,
    Metric,
    Not,
    Operator,
    Param,
    SortKey,
    Value,
    columns,
    quoted,
)
from research_eval.records import RunStatus

MAX_COMPARISONS = 200
MAX_DEPTH = 50
"""Of parentheses. SQLite refuses expressions that are nested 1,000 deep."""

_INSTEAD = {"=": "==", "&&": "and", "||": "or", "!": "not"}
_WANTED: dict[Kind | Literal["any"], str] = {
    "text": 'text in quotes, as in "moe"',
    "any": "a number or text in quotes",
    "number": "a number",
    "boolean": "true or false",
    "time": 'a time in quotes, as in "2026-03-31"',
    "status": 'a status in quotes, as in "COMPLETED"',
}

_Part = TypeVar("_Part")


def parse_filter(text: str) -> Condition:
    """Read a condition.

    Raises:
        FilterError: If it cannot be read, names a column that does not exist, or compares what
            cannot be compared.
    """
    parser = _Parser(text)
    condition = parser.either()
    parser.expect_end("'and', 'or' or the end")
    return condition


def parse_sort(text: str) -> tuple[SortKey, ...]:
    """Read what to sort by: fields with commas between, `-` before one for descending.

    Raises:
        FilterError: If it cannot be read, or names what has no order.
    """
    return tuple(_Parser(text).listed(_Parser.sort_key))


def parse_fields(text: str) -> tuple[Field, ...]:
    """Read a list of fields with commas between.

    Raises:
        FilterError: If it cannot be read, or names a column that does not exist.
    """
    return tuple(_Parser(text).listed(_Parser.field))


class _Parser:
    """Recursive descent; one method for each rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._index = 0
        self._depth = 0
        self._num_comparisons = 0

    @property
    def _next(self) -> Token:
        return self._tokens[self._index]

    def _take(self) -> Token:
        token = self._next
        self._index += token.kind != "end"
        return token

    def _accept(self, *words: str) -> str | None:
        return self._take().word if self._next.word in words else None

    def _expect(self, word: str) -> None:
        if not self._accept(word):
            raise self._unexpected(f"'{word}'")

    def expect_end(self, wanted: str) -> None:
        """Make sure that nothing follows."""
        if self._next.kind != "end":
            raise self._unexpected(wanted)

    def _error(self, message: str, token: Token) -> FilterError:
        return FilterError(message, self._text, token.position)

    def _unexpected(self, wanted: str) -> FilterError:
        token = self._next
        instead = _INSTEAD.get(token.word)
        if instead:
            return self._error(f"write '{instead}', not '{token.text}'", token)
        return self._error(f"expected {wanted}, not {token}", token)

    # ------------------------------------------------------------------------------ conditions

    def either(self) -> Condition:
        """`a or b or ...`, which binds weakest."""
        return self._joined("or", Either, lambda: self._joined("and", All, self._negation))

    def _joined(
        self, word: str, join: type[All] | type[Either], part: Callable[[], Condition]
    ) -> Condition:
        parts = [part()]
        while self._accept(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else join(tuple(parts))

    def _negation(self) -> Condition:
        is_negated = False
        while self._accept("not"):
            is_negated = not is_negated
        condition = self._group() if self._accept("(") else self._comparison()
        return Not(condition) if is_negated else condition

    def _group(self) -> Condition:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"parentheses are nested deeper than {MAX_DEPTH}", self._next)
        condition = self.either()
        self._expect(")")
        self._depth -= 1
        return condition

    def _comparison(self) -> Condition:
        self._num_comparisons += 1
        if self._num_comparisons > MAX_COMPARISONS:
            raise self._error(f"it makes more than {MAX_COMPARISONS} comparisons", self._next)
        compared = self.field()
        sign = self._next
        if self._accept("is"):
            is_negated = self._accept("not") is not None
            self._expect("null")
            found: Condition = Comparison(compared, "null")
            return Not(found) if is_negated else found
        if self._accept("not"):
            self._expect("in")
            return Not(Comparison(compared, "in", self._list(compared)))
        if self._accept("in"):
            return Comparison(compared, "in", self._list(compared))
        if self._accept("==", "!="):
            found = Comparison(compared, "in", (self._value(compared),))
            return Not(found) if sign.word == "!=" else found
        if self._accept("<", "<=", ">", ">=", "contains"):
            operator = cast("Operator", sign.word)
            self._check_operator(compared, operator, sign)
            return Comparison(compared, operator, (self._value(compared, operator),))
        raise self._unexpected("a comparison such as ==, <, in, contains or 'is null'")

    def _check_operator(self, compared: Field, operator: Operator, sign: Token) -> None:
        kind = _kind(compared)
        if operator == "contains" and kind not in ("text", "any"):
            raise self._error(f"{compared} is no text, so it contains nothing", sign)
        if operator != "contains" and (
            isinstance(compared, Label) or kind in ("boolean", "status")
        ):
            raise self._error(f"{compared} has no order; compare it with == or in", sign)

    def _list(self, compared: Field) -> tuple[Value, ...]:
        self._expect("[")
        values: list[Value] = []
        while not self._accept("]"):
            values.append(self._value(compared))
            if self._next.word != "]":
                self._expect(",")
        return tuple(values)

    # ------------------------------------------------------------------------ fields and values

    def field(self) -> Field:
        """A column, a parameter, a metric or a label."""
        first = self._next
        if first.kind != "name":
            raise self._unexpected("a field: a column, a parameter, metrics.NAME, tag, note, flag")
        self._take()
        if self._next.word != ".":
            return self._plain_field(first)
        names = [first.text]
        while self._accept("."):
            part = self._take()
            if part.kind not in ("name", "text"):
                self._index -= part.kind != "end"
                raise self._unexpected("a name behind the dot")
            names.append(unquoted(part))
        match names:
            case "metrics", name:
                return Metric(name, "last", first.position)
            case "metrics", name, statistic if statistic in STATISTICS:
                return Metric(name, statistic, first.position)
            case "metrics", *rest:
                raise self._error(
                    f"a metric has {', '.join(STATISTICS)}; if its name holds a dot, it stands in "
                    f"quotes: metrics.{quoted('.'.join(rest))}",
                    first,
                )
            case "params", *path:
                return Param(".".join(path), first.position)
        return Param(".".join(names), first.position)

    def _plain_field(self, token: Token) -> Field:
        if token.text in LABELS:
            return Label(token.text, token.position)
        if token.text in columns():
            return Column(token.text, token.position)
        known = did_you_mean(token.text, [*columns(), *LABELS])
        raise self._error(
            f"there is no column '{token.text}'; a parameter is written params.{token.text}, a "
            f"metric metrics.{token.text}; {known}",
            token,
        )

    def _value(self, compared: Field, operator: Operator = "in") -> Value:
        token = self._next
        kind = "text" if operator == "contains" else _kind(compared)
        value = self._literal()
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        match kind:
            case "text" | "any" if isinstance(value, str):
                return value
            case "any" if is_number or operator == "in":
                return value
            case "number" if is_number:
                return value
            case "boolean" if isinstance(value, bool):
                return value
            case "time" if isinstance(value, str):
                return self._time(value, token)
            case "status" if isinstance(value, str):
                return self._status(value, token)
        wanted = _WANTED[kind]
        raise self._error(f"{compared} is compared with {wanted}, not with {token}", token)

    def _literal(self) -> Value:
        token = self._next
        if token.kind == "text":
            return unquoted(self._take())
        if token.kind == "number":
            return number(self._take().text)
        if self._accept("true", "false"):
            return token.word == "true"
        if self._accept("inf"):
            return float("inf")
        if self._accept("-"):
            self._expect("inf")
            return float("-inf")
        if token.word == "null":
            raise self._error("nothing equals null; write 'is null' or 'is not null'", token)
        if token.kind == "name":
            raise self._error(f"text stands in quotes: {quoted(token.text)}", token)
        raise self._unexpected("a value")

    def _time(self, text: str, token: Token) -> datetime:
        try:
            time = datetime.fromisoformat(text)
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        except (ValueError, OverflowError):
            raise self._error(
                f"{token} is no time; write it as in 2026-03-31 or 2026-03-31T18:00 (UTC)", token
            ) from None

    def _status(self, text: str, token: Token) -> RunStatus:
        try:
            return RunStatus(text.upper())
        except ValueError:
            raise self._error(
                f"there is no status {token}; {did_you_mean(text, RunStatus)}", token
            ) from None

    # ------------------------------------------------------------------------------------ lists

    def sort_key(self) -> SortKey:
        """A field with an order, and its direction."""
        is_descending = self._accept("-") is not None
        token = self._next
        found = self.field()
        if isinstance(found, Label):
            raise self._error(f"runs cannot be sorted by {found}: a run may have several", token)
        return SortKey(found, is_descending)

    def listed(self, part: Callable[[_Parser], _Part]) -> list[_Part]:
        """One or more parts with commas between, and nothing behind."""
        found = [part(self)]
        while self._accept(","):
            found.append(part(self))
        self.expect_end("',' or the end")
        return found


def _kind(compared: Field) -> Kind | Literal["any"]:
    match compared:
        case Column():
            return columns()[compared.name]
        case Param():
            return "any"
        case Metric():
            return "number"
        case Label():
            return "text"

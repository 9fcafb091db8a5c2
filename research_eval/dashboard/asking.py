"""Parameters of a request: every one has bounds, and one that nobody knows is an error."""

from __future__ import annotations

from starlette.requests import Request

from research_eval.dashboard.answers import ProblemError
from research_eval.errors import did_you_mean

MAX_TEXT = 20_000
"""Characters of a filter; no other parameter may be as long."""


class Ask:
    """What is asked for: the parameters behind `?`, and the parts of the path.

    Args:
        request: As it came.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._known: set[str] = set()

    def part(self, name: str) -> str:
        """Return a part of the path."""
        return str(self._request.path_params[name])

    def text(self, name: str, default: str = "", *, most: int = MAX_TEXT) -> str:
        """Return a text.

        Raises:
            ProblemError: If it is longer than `most` characters, or stands there twice.
        """
        found = self.texts(name, most=1, characters=most)
        return found[0] if found else default

    def texts(self, name: str, *, most: int, characters: int = 1000) -> list[str]:
        """Return the texts of a parameter that may be repeated, each once.

        Raises:
            ProblemError: If there are more than `most`, or one is too long.
        """
        self._known.add(name)
        given = [text for text in self._request.query_params.getlist(name) if text]
        if len(given) > most:
            raise ProblemError(400, f"{name} stands there {len(given)} times; at most {most} fit")
        if any(len(text) > characters for text in given):
            raise ProblemError(400, f"{name} is longer than {characters:,} characters")
        return list(dict.fromkeys(given))

    def whole(self, name: str, default: int | None, *, low: int, high: int) -> int | None:
        """Return a whole number in `low`..`high`.

        Raises:
            ProblemError: If it is something else.
        """
        text = self.text(name, most=20)
        if not text:
            return default
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal() and low <= int(text) <= high):
            raise ProblemError(400, f"{name} is a whole number from {low} to {high}, not '{text}'")
        return int(text)

    def number(self, name: str, default: int, *, low: int, high: int) -> int:
        """Return a whole number that has a default; see `whole`."""
        found = self.whole(name, default, low=low, high=high)
        return default if found is None else found

    def check(self) -> None:
        """Make sure that nothing else was asked.

        Raises:
            ProblemError: If a parameter is there that this address does not know.
        """
        for name in self._request.query_params:
            if name not in self._known:
                known = did_you_mean(name[:100], sorted(self._known))
                raise ProblemError(400, f"there is no parameter '{name[:100]}' here; {known}")

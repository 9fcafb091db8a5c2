"""The text of one continuation while it grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from research_eval.spec import Vocabulary

Ending = Literal["end of text", "stop", "max_new_tokens", "positions"]

INCOMPLETE = "\ufffd"
"""What stands for the bytes of a character of which more may come."""


class Transcript:
    """What is written behind one prompt.

    Args:
        vocabulary: Of the data set.
        prompt: Its ids.
        stops: Texts before which a continuation ends.
        limit: Tokens at which it ends.

    Attributes:
        ids: What was written, without the end of text.
        text: What is certain of it: no half characters, nothing that may begin a stop.
        ended: Why it is over; None while it is not.
    """

    def __init__(
        self, vocabulary: Vocabulary, prompt: Sequence[int], stops: Sequence[str], limit: int
    ) -> None:
        self._vocabulary, self._prompt, self._stops = vocabulary, list(prompt), stops
        self._limit, self._before = limit, len(vocabulary.text(prompt))
        self.ids: list[int] = []
        self.text = ""
        self.ended: Ending | None = None

    def add(self, token: int) -> str:
        """Take a token; return the text that became certain."""
        if token == self._vocabulary.end_of_text:
            return self.end("end of text")
        self.ids.append(token)
        written = self._written()
        found = [place for stop in self._stops if (place := written.find(stop)) >= 0]
        if found:
            self.ended = "stop"
            return self._tell(written[: min(found)])
        if len(self.ids) == self._limit:
            return self.end("max_new_tokens")
        sure = written.rstrip(INCOMPLETE)
        return self._tell(sure[: len(sure) - self._may_begin_a_stop(sure)])

    def end(self, ended: Ending) -> str:
        """Be over; return the rest of the text."""
        self.ended = ended
        return self._tell(self._written())

    def _written(self) -> str:
        return self._vocabulary.text(self._prompt + self.ids)[self._before :]

    def _tell(self, text: str) -> str:
        new = text[len(self.text) :]
        self.text += new
        return new

    def _may_begin_a_stop(self, text: str) -> int:
        """Return how many of the last characters are the beginning of a stop."""
        return max(
            (
                size
                for stop in self._stops
                for size in range(1, len(stop))
                if text.endswith(stop[:size])
            ),
            default=0,
        )

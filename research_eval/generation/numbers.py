"""A vocabulary for data sets whose tokens are only numbers."""

from __future__ import annotations

from collections.abc import Sequence

from research_eval.errors import ConfigError


class Numbers:
    """Ids as numbers with spaces between them.

    Args:
        vocab_size: Ids are below it.
    """

    end_of_text = None

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size

    def prompt(self, text: str) -> list[int]:
        """Return the numbers.

        Raises:
            ConfigError: If something is no token of the data set.
        """
        wrong = [w for w in text.split() if not (w.isascii() and w.isdecimal())]
        wrong += [w for w in text.split() if w not in wrong and int(w) >= self._vocab_size]
        if wrong:
            raise ConfigError(
                f"the tokens of this data set are the numbers below {self._vocab_size}, with "
                f"spaces between them; '{wrong[0]}' is none"
            )
        return [int(word) for word in text.split()]

    def text(self, ids: Sequence[int]) -> str:
        """Return the numbers, each behind a space."""
        return "".join(f" {i}" for i in ids)

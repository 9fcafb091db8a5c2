"""Between text and the ids of the text data sets, for those who let a model write."""

from __future__ import annotations

from collections.abc import Sequence

from research_eval.datasets._tokenizers import Tokenizer


class TextVocabulary:
    """A tokenizer, and how rows of text begin.

    Args:
        tokenizer: Of the data set.
        are_packed: Whether rows are pieces of documents, each behind an end-of-text token.
    """

    def __init__(self, tokenizer: Tokenizer, *, are_packed: bool) -> None:
        self._tokenizer, self._are_packed = tokenizer, are_packed

    @property
    def end_of_text(self) -> int | None:
        """Id behind a document; None for rows that are lines, whose end no model has seen."""
        return self._tokenizer.end_of_text if self._are_packed else None

    def prompt(self, text: str) -> list[int]:
        """Return the ids of the text, behind an end of text where documents are packed."""
        ids: list[int] = self._tokenizer.running_text([text]).ids_T.tolist() if text else []
        return ids if self.end_of_text is None else [self.end_of_text, *ids]

    def text(self, ids: Sequence[int]) -> str:
        """Return what ids stand for."""
        return self._tokenizer.text(ids)

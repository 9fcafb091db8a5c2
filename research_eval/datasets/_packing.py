"""Puts tokens into rows: packed documents, or one text a row.

N rows, T tokens, L length of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from research_eval.datasets._rows import TextRows
from research_eval.datasets._tokenizers import Tokens

SHORTEST_LINE = 31
"""Characters of the shortest line that becomes a row, white space at its ends left out."""


@dataclass(frozen=True, slots=True)
class PaddedRows:
    """Rows of ids.

    Attributes:
        ids_NL: int32, 0 behind the length of a row.
        lengths_N: int32.
        sizes_N2: UTF-8 bytes and words that all tokens of a row but the first stand for.
    """

    ids_NL: NDArray[np.int32]
    lengths_N: NDArray[np.int32]
    sizes_N2: NDArray[np.int64]

    def take(self, keep_N: NDArray[np.bool_]) -> PaddedRows:
        """Return the rows at which `keep_N` is True."""
        return PaddedRows(self.ids_NL[keep_N], self.lengths_N[keep_N], self.sizes_N2[keep_N])


def lines_of(rows: TextRows) -> TextRows:
    """Return the lines of all rows that are longer than 30 characters, each as its own row."""
    lines = [
        (row, line)
        for row, text in enumerate(rows.texts)
        for line in text.split("\n")
        if len(line.strip()) >= SHORTEST_LINE
    ]
    domains = None if rows.domains is None else [rows.domains[row] for row, _ in lines]
    return replace(rows, texts=[line for _, line in lines], domains=domains, groups=None)


def pad(tokens: Tokens) -> PaddedRows:
    """Return one row for each text."""
    lengths_N = tokens.lengths_N
    ids_NL = np.zeros((len(lengths_N), int(lengths_N.max())), dtype=np.int32)
    row_T, position_T = np.repeat(np.arange(len(lengths_N)), lengths_N), tokens.positions()
    ids_NL[row_T, position_T] = tokens.ids_T
    sizes_N2 = np.zeros((len(lengths_N), 2), dtype=np.int64)
    is_target_T = position_T > 0
    np.add.at(sizes_N2, row_T[is_target_T], tokens.sizes_T2[is_target_T])
    return PaddedRows(ids_NL, lengths_N.astype(np.int32), sizes_N2)


def pack(tokens: Tokens, end_of_text: int, length: int) -> PaddedRows:
    """Return rows of one stream in which each document follows an end-of-text token.

    A row holds `length` targets and, before them, the last token of the row before it: every
    token of the documents is a target exactly once. Only the last row may be shorter.
    """
    num_documents = len(tokens.lengths_N)
    stream_T = np.full(len(tokens.ids_T) + num_documents, end_of_text, dtype=np.int32)
    sizes_T2 = np.zeros((len(stream_T), 2), dtype=np.int64)
    document_T = np.repeat(np.arange(num_documents), tokens.lengths_N)
    place_T = np.arange(len(tokens.ids_T)) + document_T + 1
    stream_T[place_T], sizes_T2[place_T] = tokens.ids_T, tokens.sizes_T2

    num_rows = -(-(len(stream_T) - 1) // length)
    missing = num_rows * length + 1 - len(stream_T)
    padded_T = np.concatenate([stream_T, np.zeros(missing, dtype=np.int32)])
    ids_NL = np.concatenate(
        [padded_T[:-1:length, None], padded_T[1:].reshape(num_rows, length)], axis=1
    )
    lengths_N = np.full(num_rows, length + 1, dtype=np.int32)
    lengths_N[-1] -= missing
    sizes_N2 = np.add.reduceat(sizes_T2[1:], np.arange(0, len(stream_T) - 1, length))
    return PaddedRows(ids_NL, lengths_N, sizes_N2)


def stacked(parts: Sequence[PaddedRows]) -> PaddedRows:
    """Return the rows of all parts, which have one length of row."""
    names = ("ids_NL", "lengths_N", "sizes_N2")
    return PaddedRows(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

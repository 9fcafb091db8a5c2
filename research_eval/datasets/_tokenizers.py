"""Turns text into token ids and knows which bytes and words each token stands for.

N texts, T tokens of all texts together. Sizes are pairs: UTF-8 bytes, and words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from research_eval.datasets._sources import TOKENIZER_FILES, Place, content_hash, find_tokenizer
from research_eval.errors import DataError
from research_eval.spec import LoadContext

BYTE = "byte"
BATCH = 1000
"""Texts that are tokenised together; the Rust tokenizers share them among the cores."""
REPORT_EVERY_S = 10.0
WHITE_SPACE = np.array([code for code in range(0x3001) if chr(code).isspace()], dtype=np.uint32)
"""Characters at which `str.split` divides."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokenised texts, one behind the other.

    Attributes:
        ids_T: Token ids, int32.
        lengths_N: Tokens of each text.
        sizes_T2: UTF-8 bytes that each token stands for, white space that a tokenizer skips
            included, and words that begin there: they add up to the bytes and words of the
            texts. Zeros where nobody asked.
    """

    ids_T: NDArray[np.int32]
    lengths_N: NDArray[np.int64]
    sizes_T2: NDArray[np.int32]

    @classmethod
    def joined(cls, parts: Sequence[Tokens]) -> Tokens:
        """Return the tokens of all parts, in order."""
        names = ("ids_T", "lengths_N", "sizes_T2")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def positions(self) -> NDArray[np.int64]:
        """Return the position of each token in its text, from 0."""
        starts_N = np.cumsum(self.lengths_N) - self.lengths_N
        return np.arange(len(self.ids_T)) - np.repeat(starts_N, self.lengths_N)

    def take(self, keep_N: NDArray[np.bool_]) -> Tokens:
        """Return the texts at which `keep_N` is True."""
        keep_T = np.repeat(keep_N, self.lengths_N)
        return Tokens(self.ids_T[keep_T], self.lengths_N[keep_N], self.sizes_T2[keep_T])

    def truncated(self, max_length: int, suffix: int = 0) -> Tokens:
        """Return each text cut to `max_length` tokens, its last `suffix` tokens kept."""
        length_T, position_T = np.repeat(self.lengths_N, self.lengths_N), self.positions()
        keep_T = (position_T < max_length - suffix) | (position_T >= length_T - suffix)
        keep_T |= length_T <= max_length
        lengths_N = np.minimum(self.lengths_N, max_length)
        return Tokens(self.ids_T[keep_T], lengths_N, self.sizes_T2[keep_T])

    def leaving_out(self, unscored_id: int) -> Tokens:
        """Return the same tokens, of which those with this id count no bytes and no words."""
        is_scored_T1 = (self.ids_T != unscored_id)[:, None]
        return Tokens(self.ids_T, self.lengths_N, self.sizes_T2 * is_scored_T1)


class Tokenizer(Protocol):
    """What the text data sets need of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Ids are below it."""

    @property
    def end_of_text(self) -> int | None:
        """Id that stands between documents, or None if the tokenizer has none."""

    @property
    def suffix(self) -> int:
        """Number of special tokens behind a whole text, which truncation keeps."""

    def whole_texts(self, texts: Sequence[str]) -> Tokens:
        """Return the ids of texts that stand alone, with special tokens, without sizes."""

    def running_text(self, texts: Sequence[str]) -> Tokens:
        """Return the ids of pieces of text, without special tokens, with sizes."""

    def text(self, ids: Sequence[int]) -> str:
        """Return what ids stand for; bytes that are no characters become U+FFFD."""


class ByteTokenizer:
    """UTF-8 bytes as tokens: 0 is padding, byte b is b + 1, 257 ends a text."""

    vocab_size = 258
    end_of_text = 257
    suffix = 0

    def whole_texts(self, texts: Sequence[str]) -> Tokens:
        """Return the bytes of the texts."""
        encoded = [text.encode() for text in texts]
        ids_T = np.frombuffer(b"".join(encoded), dtype=np.uint8).astype(np.int32) + 1
        lengths_N = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        words = [np.zeros(0, np.int32), *(_words_of_bytes(text) for text in texts)]
        sizes_T2 = np.stack([np.ones_like(ids_T), np.concatenate(words)], axis=1)
        return Tokens(ids_T, lengths_N, sizes_T2)

    running_text = whole_texts

    def text(self, ids: Sequence[int]) -> str:
        """Return the bytes as text; padding and the end of a text are not bytes."""
        return bytes(i - 1 for i in ids if 0 < i < self.end_of_text).decode(errors="replace")


class FastTokenizer:
    """A tokenizer of the `transformers` library that has a Rust backend.

    Args:
        folder: Holds its files.

    Raises:
        DataError: If there is no such tokenizer in the folder.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        except Exception as error:  # the library raises what its readers raise
            reason = str(error).strip().partition("\n")[0]
            raise DataError(f"{folder} holds no usable tokenizer: {reason}") from error
        if not tokenizer.is_fast:
            raise DataError(
                f"the tokenizer in {folder} has no fast (Rust) form; save one there with "
                "transformers, as tokenizer.json"
            )
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        self.vocab_size = max(tokenizer.get_vocab().values()) + 1
        ends = (tokenizer.eos_token_id, tokenizer.sep_token_id)
        self.end_of_text: int | None = next((end for end in ends if end is not None), None)
        special = self._backend.encode("a").special_tokens_mask
        self.suffix = special[::-1].index(0) if 0 in special else 0

    def whole_texts(self, texts: Sequence[str]) -> Tokens:
        """Return the ids of texts that stand alone, with special tokens, without sizes."""
        encoded = self._backend.encode_batch_fast(list(texts), add_special_tokens=True)
        tokens = _flat([encoding.ids for encoding in encoded])
        return Tokens(*tokens, np.zeros((len(tokens[0]), 2), dtype=np.int32))

    def running_text(self, texts: Sequence[str]) -> Tokens:
        """Return the ids of pieces of text, without special tokens, with sizes."""
        encoded = self._backend.encode_batch(list(texts), add_special_tokens=False)
        tokens = _flat([encoding.ids for encoding in encoded])
        parts = [
            sizes_of_tokens(text, [end for _, end in encoding.offsets])
            for text, encoding in zip(texts, encoded, strict=True)
        ]
        return Tokens(*tokens, np.concatenate(parts))

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of the tokens, special ones left out."""
        text: str = self._backend.decode(list(ids), skip_special_tokens=True)
        return text


def _flat(rows: list[list[int]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    lengths_N = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    flat = (token for row in rows for token in row)
    return np.fromiter(flat, dtype=np.int32, count=int(lengths_N.sum())), lengths_N


def sizes_of_tokens(text: str, ends: Sequence[int]) -> NDArray[np.int32]:
    """Divide the UTF-8 bytes and the words of a text among its tokens; return them [T, 2].

    A token gets what lies between the end of the one before it and its own end, the last token
    also the rest; of several tokens for one character, the first gets all. A word counts where
    it begins.

    Args:
        text: What was tokenised.
        ends: Index of the character behind each token.
    """
    if not ends:
        return np.zeros((0, 2), dtype=np.int32)
    sizes = _sizes_of_characters(text)
    before = np.concatenate([np.zeros((1, 2), dtype=sizes.dtype), np.cumsum(sizes, axis=0)])
    upto_T2 = before[np.maximum.accumulate(ends)]
    upto_T2[-1] = before[-1]
    return np.diff(upto_T2, prepend=np.zeros((1, 2), dtype=upto_T2.dtype), axis=0).astype(np.int32)


def _sizes_of_characters(text: str) -> NDArray[np.int64]:
    """Return the UTF-8 bytes of each character, and how many words begin there.

    Words are what white space divides; the end of a line counts as a word too, as where
    WikiText is reported (Merity et al. 2016).
    """
    code = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    width = 1 + (code >= 0x80) + (code >= 0x800) + (code >= 0x10000)
    is_space = np.isin(code, WHITE_SPACE)
    begins = ~is_space & np.concatenate([[True], is_space[:-1]])[: len(code)]
    return np.stack([width, begins | (code == ord("\n"))], axis=1).astype(np.int64)


def _words_of_bytes(text: str) -> NDArray[np.int32]:
    """Return how many words begin at each UTF-8 byte."""
    widths, words = _sizes_of_characters(text).T
    words_of_bytes = np.zeros(widths.sum(), dtype=np.int32)
    words_of_bytes[np.cumsum(widths) - widths] = words
    return words_of_bytes


def tokenise(
    encode: Callable[[Sequence[str]], Tokens],
    texts: Sequence[str],
    what: str,
    say: Callable[[str], None],
) -> Tokens:
    """Tokenise many texts in batches, with a line of progress every ten seconds.

    Args:
        encode: Tokenises one batch.
        texts: At least one text.
        what: Name of the texts for the lines of progress.
        say: Called with each line.
    """
    say(f"tokenising {what}: {len(texts):,} texts")
    parts, reported = [], time.monotonic()
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        parts.append(encode(batch))
        if time.monotonic() - reported > REPORT_EVERY_S:
            reported = time.monotonic()
            say(f"tokenising {what}: {start + len(batch):,} of {len(texts):,} texts")
    return Tokens.joined(parts)


@dataclass(frozen=True, slots=True)
class TokenizerChoice:
    """A tokenizer that was found but not yet loaded, which takes seconds."""

    place: Place | None

    @classmethod
    def find(cls, name: str, context: LoadContext) -> TokenizerChoice:
        """Find a tokenizer by name or folder.

        Raises:
            DataError: If it cannot be had.
        """
        return cls(None if name == BYTE else find_tokenizer(name, context))

    @property
    def fingerprint(self) -> str:
        """What decides its output: its files and the version of the library that reads them."""
        if self.place is None:
            return BYTE
        libraries = [f"{name} {version(name)}" for name in ("transformers", "tokenizers")]
        return " ".join([content_hash(self.place.path, TOKENIZER_FILES), *libraries])

    def load(self) -> Tokenizer:
        """Load it."""
        return ByteTokenizer() if self.place is None else FastTokenizer(self.place.path)

    def __str__(self) -> str:
        return BYTE if self.place is None else self.place.described

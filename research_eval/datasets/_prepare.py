"""From files of text to the tensors of a data set.

N rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from research_eval.datasets._packing import PaddedRows, lines_of, pack, pad, stacked
from research_eval.datasets._reading import read
from research_eval.datasets._rows import (
    Splits,
    at_most,
    divide,
    drop_empty,
    require_rows,
    shared,
    tally,
)
from research_eval.datasets._sources import Place
from research_eval.datasets._splits import choose, distinct, numbered, row_keys, stream
from research_eval.datasets._text import LanguageParams, TextParams, TextSource
from research_eval.datasets._tokenizers import Tokenizer, Tokens, tokenise
from research_eval.errors import DataError
from research_eval.spec import Dataset, LoadContext, Split, data_fingerprint

RowForm = Literal["texts", "lines", "documents"]
"""A row is a labelled text, a line, or a piece of the packed documents."""


def prepare(
    source: TextSource,
    params: TextParams,
    place: Place,
    tokenizer: Tokenizer,
    context: LoadContext,
) -> Dataset:
    """Read, divide, tokenise and pack the text at a place.

    Text is divided into splits before it is cut into rows, so no row spans two splits.

    Args:
        source: What sets the data set apart.
        params: Its parameters.
        place: Its files.
        tokenizer: Turns its text into ids.
        context: Progress.

    Raises:
        DataError: If the text cannot be used.
    """
    form = _form_of(source, params)
    end_of_text = _end_of_text(tokenizer, params.tokenizer) if form == "documents" else None
    context.say(f"reading {place.described}")
    counts: dict[str, int] = {}
    files = read(place.path, source.fields)
    rows, tokens = _tokenised(source, params, files, form, tokenizer, counts, context.say)
    unscored_id = _unscored_id(params, form, tokenizer)
    tokens = _leaving_out(unscored_id, tokens, counts)
    label_names, labels = _classes(rows) if form == "texts" else ((), {})
    domain_names, domains = _numbered({name: part.domains for name, part in rows.items()})
    splits = {
        name: _split_of(part, labels.get(name), domains.get(name), end_of_text, params, name)
        for name, part in tokens.items()
    }
    splits = {name: replace(split, unscored_id=unscored_id) for name, split in splits.items()}
    train, validation, test = splits["train"], splits["validation"], splits.get("test")
    return Dataset(
        task=source.task,
        vocab_size=tokenizer.vocab_size,
        max_length=params.max_length,
        train=train,
        validation=validation,
        test=test,
        label_names=label_names,
        domain_names=domain_names,
        counts=counts,
        fingerprint=data_fingerprint(train, validation, test),
        source=place.described,
    )


def _tokenised(
    source: TextSource,
    params: TextParams,
    files: Splits,
    form: RowForm,
    tokenizer: Tokenizer,
    counts: dict[str, int],
    say: Callable[[str], None],
) -> tuple[Splits, dict[str, Tokens]]:
    """Return the rows of each split that are left, and their tokens; tally what was dropped."""
    rows = _limited(_divided(source, params, files, counts), form, params)
    require_rows(rows, source.name)
    tokens = {
        name: _encoded(part.texts, name, form, tokenizer, params.max_length, counts, say)
        for name, part in rows.items()
    }
    rows, tokens = _distinct(rows, tokens, form, "validation" not in files, counts)
    require_rows(rows, source.name)
    return rows, tokens


def _form_of(source: TextSource, params: TextParams) -> RowForm:
    if source.task == "classification":
        return "texts"
    return params.packing if isinstance(params, LanguageParams) else "documents"


def _divided(
    source: TextSource, params: TextParams, files: Splits, counts: dict[str, int]
) -> Splits:
    rows = files
    if source.documents is not None:
        rows = {n: replace(part, texts=source.documents(part.texts)) for n, part in rows.items()}
    rows = drop_empty(rows, counts)
    require_rows(rows, source.name)
    groups = {name: part.groups for name, part in rows.items() if part.groups is not None}
    if groups:
        gone = shared(groups, was_cut=False)
        tally(gone, "group_shared", counts)
        rows = {name: part.take(~gone[name]) for name, part in rows.items()}
        require_rows(rows, source.name)
    return divide(rows, params.validation_fraction, source.test_fraction, params.data_seed)


def _limited(rows: Splits, form: RowForm, params: TextParams) -> Splits:
    """Limit the rows of each split; those of packed documents are limited when they exist."""
    if form == "documents":
        return rows
    if form == "lines":
        rows = {name: lines_of(part) for name, part in rows.items()}
    return {
        name: at_most(part, params.samples(name), _limiter(params, name))
        for name, part in rows.items()
    }


def _encoded(
    texts: Sequence[str],
    name: str,
    form: RowForm,
    tokenizer: Tokenizer,
    max_length: int,
    counts: dict[str, int],
    say: Callable[[str], None],
) -> Tokens:
    """Tokenise the texts of one split; cut to one row each, except for documents."""
    if form == "documents":
        return tokenise(tokenizer.running_text, texts, name, say)
    if form == "lines":
        encode, limit, suffix = tokenizer.running_text, max_length + 1, 0
    else:
        encode, limit, suffix = tokenizer.whole_texts, max_length, tokenizer.suffix
    # A first cut, to one token more than fits, bounds the memory and still tells what was cut.
    tokens = tokenise(lambda t: encode(t).truncated(limit + 1, suffix), texts, name, say)
    tally({name: tokens.lengths_N > limit}, "truncated", counts)
    return tokens.truncated(limit, suffix)


def _distinct(
    rows: Splits, tokens: dict[str, Tokens], form: RowForm, was_cut: bool, counts: dict[str, int]
) -> tuple[Splits, dict[str, Tokens]]:
    """Drop what has too few tokens, and from train what another split holds too."""
    shortest = 2 if form == "lines" else 1  # the first token of a line is read, not predicted
    short = {name: part.lengths_N < shortest for name, part in tokens.items()}
    tally(short, "without_tokens", counts)
    keys = {name: row_keys(part.ids_T, part.lengths_N) for name, part in tokens.items()}
    gone = shared(keys, was_cut)
    tally(gone, "duplicates", counts)
    keep = {name: ~(gone[name] | short[name]) for name in rows}
    return (
        {name: part.take(keep[name]) for name, part in rows.items()},
        {name: part.take(keep[name]) for name, part in tokens.items()},
    )


def _numbered(
    columns: Mapping[str, Sequence[Any] | None], declared: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    """Replace values by their index among the declared names, or among those of all splits."""
    given = {name: column for name, column in columns.items() if column is not None}
    known = declared or distinct(chain.from_iterable(given.values()))
    return tuple(map(str, known)), {name: numbered(part, known) for name, part in given.items()}


def _classes(rows: Splits) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    declared = {part.label_names for part in rows.values()}
    if len(declared) > 1:
        raise DataError(f"the splits declare different classes: {sorted(declared)}")
    labels = {name: part.labels for name, part in rows.items()}
    present = set(labels["train"] or ())
    if len(present) < 2:
        raise DataError(f"all {len(rows['train']):,} training rows are of one class, {present}")
    fraction = next((v for v in present if isinstance(v, float) and not v.is_integer()), None)
    if fraction is not None:
        raise DataError(f"label_field holds the number {fraction}, which names no class")
    return _numbered(labels, declared.pop())


def _end_of_text(tokenizer: Tokenizer, name: str) -> int:
    if tokenizer.end_of_text is None:
        raise DataError(
            f"tokenizer '{name}' has no end-of-text token to put between packed documents; "
            "set dataset_params.packing=lines or choose another tokenizer"
        )
    return tokenizer.end_of_text


def _unscored_id(params: TextParams, form: RowForm, tokenizer: Tokenizer) -> int | None:
    if form == "texts" or not isinstance(params, LanguageParams) or params.unscored_id is None:
        return None
    if params.unscored_id >= tokenizer.vocab_size:
        raise DataError(
            f"dataset_params.unscored_id is {params.unscored_id}, but the ids of tokenizer "
            f"'{params.tokenizer}' are below {tokenizer.vocab_size}; name one of them, or null"
        )
    return params.unscored_id


def _leaving_out(
    unscored_id: int | None, tokens: dict[str, Tokens], counts: dict[str, int]
) -> dict[str, Tokens]:
    if unscored_id is None:
        return tokens
    tally({name: part.ids_T == unscored_id for name, part in tokens.items()}, "unscored", counts)
    return {name: part.leaving_out(unscored_id) for name, part in tokens.items()}


def _limiter(params: TextParams, name: str) -> torch.Generator:
    return stream(params.data_seed, f"limit {name}")


def _split_of(
    tokens: Tokens,
    labels_N: NDArray[np.int64] | None,
    domains_N: NDArray[np.int64] | None,
    end_of_text: int | None,
    params: TextParams,
    name: str,
) -> Split:
    """Put the texts of one split into rows, packed if there is an `end_of_text` to do so."""
    if end_of_text is None:
        rows = pad(tokens)
    else:
        rows, domain_of_N = _packed(tokens, domains_N, end_of_text, params.max_length)
        limit = params.samples(name)
        if limit is not None and limit < len(domain_of_N):
            keep_N = choose(domain_of_N, limit, _limiter(params, name))
            rows, domain_of_N = rows.take(keep_N), domain_of_N[keep_N]
        domains_N = None if domains_N is None else domain_of_N
    return Split(
        ids_NL=torch.from_numpy(rows.ids_NL),
        lengths_N=torch.from_numpy(rows.lengths_N),
        labels_N=None if labels_N is None else torch.from_numpy(labels_N),
        num_bytes=int(rows.sizes_N2[:, 0].sum()) if labels_N is None else None,
        num_words=int(rows.sizes_N2[:, 1].sum()) if labels_N is None else None,
        domains_N=None if domains_N is None else torch.from_numpy(domains_N),
    )


def _packed(
    tokens: Tokens, domains_N: NDArray[np.int64] | None, end_of_text: int, length: int
) -> tuple[PaddedRows, NDArray[np.int64]]:
    """Pack the documents of each domain by themselves; return the rows and their domains."""
    if domains_N is None:
        domains_N = np.zeros(len(tokens.lengths_N), dtype=np.int64)
    present = np.unique(domains_N)
    parts = [pack(tokens.take(domains_N == domain), end_of_text, length) for domain in present]
    return stacked(parts), np.repeat(present, [len(part.ids_NL) for part in parts])

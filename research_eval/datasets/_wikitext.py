"""What the WikiText data sets share: their rows are lines, their documents are articles."""

from __future__ import annotations

import re
from collections.abc import Sequence

from research_eval.datasets._sources import HubFolder
from research_eval.datasets._text import LanguageParams, TextSource, text_spec
from research_eval.spec import DatasetSpec

TITLE = re.compile(r" = (?!= ).* = \s*")


def wikitext_spec(name: str, folder: str, params: type[LanguageParams]) -> DatasetSpec:
    """Return the spec of one size of WikiText, which the hub keeps in a folder."""
    return text_spec(
        TextSource(
            name=name,
            task="language_modeling",
            hub=HubFolder("Salesforce/wikitext", folder),
            documents=articles,
        ),
        params,
    )


def articles(rows: Sequence[str]) -> list[str]:
    """Join lines to articles; the text is kept as it is, character by character.

    An article starts at a line ` = Title = ` that has blank lines around it. Without that
    condition the rows of some tables count as titles: 629 instead of the 600 articles of the
    training split of WikiText-2.

    Args:
        rows: Lines with their line breaks, or whole texts of many lines.
    """
    lines = [line for row in rows for line in row.splitlines(keepends=True) or [""]]
    is_blank = [not line.strip() for line in lines]
    starts = [
        index
        for index, line in enumerate(lines)
        if TITLE.fullmatch(line)
        and all(is_blank[near] for near in (index - 1, index + 1) if 0 <= near < len(lines))
    ]
    if not starts or not all(is_blank[: starts[0]]):
        starts.insert(0, 0)  # text without a title, or before the first one
    starts[0] = 0
    ends = [*starts[1:], len(lines)]
    return ["".join(lines[start:end]) for start, end in zip(starts, ends, strict=True)]

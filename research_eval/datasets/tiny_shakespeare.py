"""Tiny Shakespeare: Karpathy 2015."""

from research_eval.datasets._sources import HubFolder
from research_eval.datasets._text import LanguageParams, TextSource, text_spec


class TinyShakespeareParams(LanguageParams):
    """One megabyte of plays; each split is one document."""


SPEC = text_spec(
    TextSource(
        name="tiny_shakespeare",
        task="language_modeling",
        hub=HubFolder("karpathy/tiny_shakespeare", "default", revision="refs/convert/parquet"),
    ),
    TinyShakespeareParams,
)

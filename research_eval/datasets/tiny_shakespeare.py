"""Tiny Shakespeare: one megabyte of plays, one document a split (Karpathy 2015)."""

from research_eval.datasets._sources import HubFolder
from research_eval.datasets._text import TextSource, text_spec

SPEC = text_spec(
    TextSource(
        name="tiny_shakespeare",
        task="language_modeling",
        hub=HubFolder("karpathy/tiny_shakespeare", "default", revision="refs/convert/parquet"),
    )
)

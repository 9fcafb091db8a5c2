"""TREC: Li and Roth 2002, with their six coarse classes."""

from research_eval.datasets._rows import Fields
from research_eval.datasets._sources import HubFolder
from research_eval.datasets._text import TextParams, TextSource, text_spec


class TRECParams(TextParams):
    """5,452 questions to train on and 500 for test, of six kinds."""


SPEC = text_spec(
    TextSource(
        name="trec",
        task="classification",
        hub=HubFolder("CogComp/trec", "default", revision="refs/convert/parquet"),
        fields=Fields(label="coarse_label"),
    ),
    TRECParams,
)

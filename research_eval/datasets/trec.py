"""TREC: 5,452 questions for training and 500 for test, of six kinds (Li and Roth 2002)."""

from research_eval.datasets._sources import HubFolder
from research_eval.datasets._text import TextSource, text_spec

SPEC = text_spec(
    TextSource(
        name="trec",
        task="classification",
        hub=HubFolder("CogComp/trec", "default", revision="refs/convert/parquet"),
        label="coarse_label",
    )
)

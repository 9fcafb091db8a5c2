"""IMDB: 25,000 film reviews to train on, as many for test, for or against (Maas et al. 2011)."""

from research_eval.datasets._sources import HubFolder
from research_eval.datasets._text import TextSource, text_spec

SPEC = text_spec(
    TextSource(
        name="imdb",
        task="classification",
        hub=HubFolder("stanfordnlp/imdb", "plain_text"),
        label="label",
    )
)

"""IMDB: Maas et al. 2011."""

from research_eval.datasets._rows import Fields
from research_eval.datasets._sources import HubFolder
from research_eval.datasets._text import TextParams, TextSource, text_spec


class IMDBParams(TextParams):
    """25,000 film reviews to train on and 25,000 for test: negative or positive."""


SPEC = text_spec(
    TextSource(
        name="imdb",
        task="classification",
        hub=HubFolder("stanfordnlp/imdb", "plain_text"),
        fields=Fields(label="label"),
    ),
    IMDBParams,
)

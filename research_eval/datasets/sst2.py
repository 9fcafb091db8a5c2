"""SST-2: Socher et al. 2013. The classes of the published test split are hidden: there is none."""

from research_eval.datasets._rows import Fields
from research_eval.datasets._sources import HubFolder
from research_eval.datasets._text import TextParams, TextSource, text_spec


class SST2Params(TextParams):
    """67,349 phrases of film reviews: negative or positive; no test split."""


SPEC = text_spec(
    TextSource(
        name="sst2",
        task="classification",
        hub=HubFolder("stanfordnlp/sst2", "data"),
        fields=Fields("sentence", label="label"),
    ),
    SST2Params,
)

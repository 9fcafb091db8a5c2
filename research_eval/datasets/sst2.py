"""SST-2: 67,000 phrases of film reviews, for or against (Socher et al. 2013).

The classes of the published test split are hidden, so there is no test split here.
"""

from research_eval.datasets._sources import HubFolder
from research_eval.datasets._text import TextSource, text_spec

SPEC = text_spec(
    TextSource(
        name="sst2",
        task="classification",
        hub=HubFolder("stanfordnlp/sst2", "data"),
        text="sentence",
        label="label",
    )
)

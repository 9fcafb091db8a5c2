"""AG News: 120,000 news items of four kinds (Zhang, Zhao and LeCun 2015)."""

from research_eval.datasets._sources import HubFolder
from research_eval.datasets._text import TextSource, text_spec

SPEC = text_spec(
    TextSource(
        name="ag_news",
        task="classification",
        hub=HubFolder("fancyzhx/ag_news", "data"),
        label="label",
    )
)

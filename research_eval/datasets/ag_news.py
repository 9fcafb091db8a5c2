"""AG News: Zhang, Zhao and LeCun 2015, from the corpus of A. Gulli."""

from research_eval.datasets._rows import Fields
from research_eval.datasets._sources import HubFolder
from research_eval.datasets._text import TextParams, TextSource, text_spec


class AGNewsParams(TextParams):
    """120,000 news items: World, Sports, Business or Sci/Tech."""


SPEC = text_spec(
    TextSource(
        name="ag_news",
        task="classification",
        hub=HubFolder("fancyzhx/ag_news", "data"),
        fields=Fields(label="label"),
    ),
    AGNewsParams,
)

"""WikiText-2: Merity et al. 2016."""

from research_eval.datasets._text import LanguageParams
from research_eval.datasets._wikitext import wikitext_spec


class WikiText2Params(LanguageParams):
    """Two million words of 600 Wikipedia articles; each article is a document."""


SPEC = wikitext_spec("wikitext-2", "wikitext-2-v1", WikiText2Params)

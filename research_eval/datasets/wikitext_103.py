"""WikiText-103: Merity et al. 2016."""

from research_eval.datasets._text import LanguageParams
from research_eval.datasets._wikitext import wikitext_spec


class WikiText103Params(LanguageParams):
    """A hundred million words of 28,475 Wikipedia articles; each article is a document."""


SPEC = wikitext_spec("wikitext-103", "wikitext-103-v1", WikiText103Params)

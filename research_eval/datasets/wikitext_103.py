"""WikiText-103: a hundred million words of 28,475 Wikipedia articles (Merity et al. 2016)."""

from research_eval.datasets._wikitext import wikitext_spec

SPEC = wikitext_spec("wikitext-103", "wikitext-103-v1")

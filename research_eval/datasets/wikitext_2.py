"""WikiText-2: two million words of 600 Wikipedia articles (Merity et al. 2016)."""

from research_eval.datasets._wikitext import wikitext_spec

SPEC = wikitext_spec("wikitext-2", "wikitext-2-v1")

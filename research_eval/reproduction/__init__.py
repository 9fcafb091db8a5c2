"""Runs of a bundle carried out again, and what came out beside what is recorded.

A bundle is taken apart into a folder of its own; nothing is written elsewhere. `original` reads
what it says, `checking` compares environment, code and data with those here, `judging` compares
the numbers.
"""

from research_eval.reproduction.checking import Checked, Difference, check, differences
from research_eval.reproduction.judging import Comparison, compare, seed_spreads
from research_eval.reproduction.original import Bundle, Original, choose, open_bundle, require_trust

__all__ = [
    "Bundle",
    "Checked",
    "Comparison",
    "Difference",
    "Original",
    "check",
    "choose",
    "compare",
    "differences",
    "open_bundle",
    "require_trust",
    "seed_spreads",
]

"""Says why one run, or one group of seeds, is ahead of another one: findings with their numbers.

    import research_eval

    found = research_eval.explain("moe_parity", "dense_parity")
    print(found)

Every finding is a `Rule`: what evidence it looks at, from which number on it speaks, why that
number, and the command that would test it. A new one is one entry in a file of `rules`. Only the
store is read; neither torch nor the models are needed.
"""

from research_eval.explaining.explanation import Explanation, explain
from research_eval.explaining.finding import Command, Explained, Finding, Lack, Rule
from research_eval.explaining.rules import RULES

__all__ = [
    "RULES",
    "Command",
    "Explained",
    "Explanation",
    "Finding",
    "Lack",
    "Rule",
    "explain",
]

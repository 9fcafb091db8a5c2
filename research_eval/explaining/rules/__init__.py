"""All findings. A new one is an entry of `RULES` in one of these files."""

from research_eval.explaining.finding import Rule
from research_eval.explaining.rules import (
    budget,
    experts,
    groups,
    premises,
    routing,
    training,
    tuning,
)

RULES: tuple[Rule, ...] = (
    *premises.RULES,
    *budget.RULES,
    *training.RULES,
    *tuning.RULES,
    *routing.RULES,
    *experts.RULES,
    *groups.RULES,
)
"""Every finding that there is."""

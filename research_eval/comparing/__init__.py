"""From an idea to a verdict: matched arms, tuned equally, confirmed on fresh seeds, as planned.

A comparison is one study of `research_eval.hpo`, whose arms are the candidate and its baselines.
What is new here is what stands around it: arms of equal cost (`arms`), the plan that is written
before the first run (`plan`), the decision (`judging`), and what departed from the plan
(`departures`). Names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from research_eval.comparing.comparison import Comparison, Outcome, compare
    from research_eval.comparing.question import Question

__all__ = ["Comparison", "Outcome", "Question", "compare"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    home = "question" if name == "Question" else "comparison"
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)

"""Hyperparameter optimisation: Optuna decides, the store remembers.

Names load on first use: reading a recorded study needs neither Optuna nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from research_eval.hpo.names import DEFAULT_NAME, PRUNERS, SAMPLERS
    from research_eval.hpo.spec import Bound, Objective, StudySpec
    from research_eval.hpo.study import Study, StudyResult, optimize
    from research_eval.hpo.trials import (
        NobodyListens,
        Standing,
        StudyAudience,
        Trial,
        TrialState,
    )

__all__ = [
    "DEFAULT_NAME",
    "PRUNERS",
    "SAMPLERS",
    "Bound",
    "NobodyListens",
    "Objective",
    "Standing",
    "Study",
    "StudyAudience",
    "StudyResult",
    "StudySpec",
    "Trial",
    "TrialState",
    "optimize",
]

_HOMES = {
    "DEFAULT_NAME": "names",
    "PRUNERS": "names",
    "SAMPLERS": "names",
    "Bound": "spec",
    "NobodyListens": "trials",
    "Objective": "spec",
    "Standing": "trials",
    "Study": "study",
    "StudyAudience": "trials",
    "StudyResult": "study",
    "StudySpec": "spec",
    "Trial": "trials",
    "TrialState": "trials",
    "optimize": "study",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

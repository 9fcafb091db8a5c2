"""Hyperparameter optimisation: Optuna decides, the store remembers."""

from research_eval.hpo.spec import DEFAULT_NAME, PRUNERS, SAMPLERS, Bound, Objective, StudySpec
from research_eval.hpo.study import Study, StudyResult, optimize
from research_eval.hpo.trials import NobodyListens, Standing, StudyAudience, Trial, TrialState

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

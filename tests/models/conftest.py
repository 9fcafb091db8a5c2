"""What several tests of models ask."""

import pytest

from research_eval.testing import learning_checks, params_checks
from research_eval.testing.model_checks import MODEL_CHECKS

# What takes hundreds of steps is tested per router, and what concerns the class once per model.
QUICK = [
    check
    for check in MODEL_CHECKS
    if check.run.__module__ not in (learning_checks.__name__, params_checks.__name__)
]


@pytest.fixture
def assert_quick_promises():
    """Return a function that checks all promises of a subject that take no training."""

    def assert_kept(subject):
        for check in QUICK:
            if check.applies(subject):
                check.run(subject)

    return assert_kept

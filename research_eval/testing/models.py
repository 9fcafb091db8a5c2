"""The contract of models as a pytest suite.

class TestMyModel(ModelContract):
    @pytest.fixture
    def spec(self):
        return SPEC
"""

from __future__ import annotations

import pytest

from research_eval.spec import ModelSpec, Task
from research_eval.testing.model_checks import MODEL_CHECKS, ModelCheck
from research_eval.testing.subject import Subject


class ModelContract:
    """Every promise of a model, for both tasks; a subclass supplies the fixture `spec`."""

    @pytest.fixture
    def spec(self) -> ModelSpec:
        """Return the model to be tested."""
        raise NotImplementedError  # a subclass says which

    @pytest.fixture(params=["classification", "language_modeling"])
    def task(self, request: pytest.FixtureRequest) -> Task:
        """Return the task that it is tested for."""
        task: Task = request.param
        return task

    @pytest.fixture
    def subject(self, spec: ModelSpec, task: Task) -> Subject:
        """Return a small network's recipe; override it to test other parameters."""
        return Subject.of(spec, task)

    @pytest.mark.parametrize("promise", MODEL_CHECKS, ids=lambda c: c.run.__name__)
    def test_promise(self, promise: ModelCheck, subject: Subject) -> None:
        """Check one promise."""
        if not promise.applies(subject):
            pytest.skip(f"does not concern {subject.spec.name} for {subject.task}")
        promise.run(subject)

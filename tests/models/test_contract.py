"""Every model keeps every promise, for both tasks; and every router inside a model."""

import pytest

from research_eval.registry import MODELS_MAP
from research_eval.testing.models import ModelContract
from research_eval.testing.subject import Subject


class TestModels(ModelContract):
    @pytest.fixture(params=sorted(MODELS_MAP))
    def spec(self, request):
        return MODELS_MAP[request.param]


class TestRoutersInMoE(ModelContract):
    @pytest.fixture
    def spec(self):
        return MODELS_MAP["moe"]

    @pytest.fixture(params=[("random", 2), ("hash", 2), ("softmax", 1)], ids=str)
    def subject(self, request, spec, task):
        router, top_k = request.param
        return Subject.of(spec, task, router=router, top_k=top_k, num_experts=4, num_layers=1)

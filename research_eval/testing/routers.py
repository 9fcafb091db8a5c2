"""The contract of routers as a pytest suite.

class TestMyRouter(RouterContract):
    @pytest.fixture
    def spec(self):
        return RouterSpec(name="mine", build=MyRouter)
"""

from __future__ import annotations

from typing import Any

import pytest

from research_eval.models.moe import MoEParams
from research_eval.spec import RouterSpec
from research_eval.testing.router_checks import ROUTER_CHECKS, RouterCheck


class RouterContract:
    """Every promise of a router; a subclass supplies the fixture `spec`."""

    @pytest.fixture
    def spec(self) -> RouterSpec:
        """Return the router to be tested."""
        raise NotImplementedError  # a subclass says which

    @pytest.fixture
    def params(self) -> Any:
        """Return the model parameters that the router is built with."""
        return MoEParams()

    @pytest.mark.parametrize("promise", ROUTER_CHECKS, ids=lambda c: c.run.__name__)
    def test_promise(self, promise: RouterCheck, spec: RouterSpec, params: Any) -> None:
        """Check one promise."""
        promise.run(spec, params)

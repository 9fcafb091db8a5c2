"""Routers and what they read, in one line each."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from research_eval.models.moe import MoEParams
from research_eval.registry import ROUTERS_MAP
from research_eval.spec import RouterContext, RouterInput


@pytest.fixture
def router() -> Callable[..., nn.Module]:
    """Return a function that builds a registered router."""

    def build(
        name: str, num_experts: int, top_k: int, *, causal: bool = False, **fields: Any
    ) -> nn.Module:
        context = RouterContext(
            num_experts=num_experts,
            top_k=top_k,
            vocab_size=10,
            layer=0,
            causal=causal,
            params=MoEParams(num_experts=num_experts, top_k=top_k, **fields),
        )
        return ROUTERS_MAP[name].build(context)

    return build


@pytest.fixture
def scores() -> Callable[..., RouterInput]:
    """Return a function that makes a router's input of rows of scores."""

    def make(rows: list[list[float]] | Tensor, **fields: Any) -> RouterInput:
        logits_TE = torch.as_tensor(rows, dtype=torch.float32)
        index_T = torch.arange(len(logits_TE))
        return RouterInput(logits_TE, index_T, index_T, **fields)

    return make

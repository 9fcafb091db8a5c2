"""The baseline: a plain pre-norm transformer (Vaswani et al. 2017, Xiong et al. 2020)."""

from __future__ import annotations

from torch import Tensor, nn

from research_eval.models._blocks import (
    Block,
    LayeredParams,
    attention_flops,
    attention_params,
    attention_pattern,
    feed_forward_params,
    run_layer,
)
from research_eval.spec import (
    BodyContext,
    BodyCost,
    BodyInput,
    BodyOutput,
    ModelSpec,
    TransformerParams,
)


class DenseParams(LayeredParams):
    """Every token passes through the same feed-forward."""


class Dense(nn.Module):
    """`num_layers` blocks of attention and feed-forward; also a part of other bodies."""

    def __init__(self, params: TransformerParams, context: BodyContext) -> None:
        super().__init__()
        self.causal = self.takes_past = context.causal
        self.recompute = isinstance(params, LayeredParams) and params.checkpoint_activations
        self.blocks = nn.ModuleList(Block(params) for _ in range(params.num_layers))

    def forward(self, batch: BodyInput) -> BodyOutput:
        """Return the hidden states behind the last block."""
        pattern = attention_pattern(batch, causal=self.causal)
        hidden_BLD: Tensor = batch.hidden_BLD
        for block in self.blocks:
            hidden_BLD = run_layer(block, hidden_BLD, pattern, recompute=self.recompute)
        return BodyOutput(hidden_BLD)


def cost(params: DenseParams, context: BodyContext, length: int) -> BodyCost:
    """Count the body: per layer attention and one feed-forward."""
    feed_forward = feed_forward_params(params)
    flops = attention_flops(params, length, causal=context.causal) + 2 * feed_forward
    return BodyCost(
        flops_per_token=params.num_layers * flops,
        active_params=params.num_layers * (attention_params(params) + feed_forward),
    )


SPEC = ModelSpec(name="dense", params=DenseParams, build=Dense, cost=cost)

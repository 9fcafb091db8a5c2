"""A model of your own: a body between the shared embedding and the shared head.

B batch, L length, D width.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn

from research_eval.knobs import Uniform
from research_eval.models._blocks import Block, attention_pattern
from research_eval.spec import BodyContext, BodyInput, BodyOutput, TransformerParams


class MyModel(nn.Module):
    """Run a stack of transformer blocks several times (Dehghani et al. 2019)."""

    class Params(TransformerParams):
        """Run the same blocks several times."""

        # Everything about a parameter stands here: type, legal values, search range, default and
        # meaning. Width, layers, heads and dropout are declared in TransformerParams.
        num_rounds: Annotated[int, Field(ge=1), Uniform(1, 4)] = 2
        """How often the stack is run."""

    def __init__(self, params: Params, context: BodyContext) -> None:
        super().__init__()
        self.num_rounds = params.num_rounds
        self.causal = context.causal  # true for language modelling: never look ahead
        self.blocks = nn.ModuleList(Block(params) for _ in range(params.num_layers))

    def forward(self, batch: BodyInput) -> BodyOutput:
        """Map hidden states to hidden states; what is behind a row's end must not be read."""
        hidden_BLD = batch.hidden_BLD
        pattern = attention_pattern(batch, causal=self.causal)  # knows padding and causality
        for _ in range(self.num_rounds):
            for block in self.blocks:
                hidden_BLD = block(hidden_BLD, pattern)
        # A model with experts also returns `routing`, `couplings` or a `path`: then their load,
        # entropy and specialisation are recorded with every evaluation.
        return BodyOutput(hidden_BLD)

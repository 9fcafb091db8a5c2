"""A router of your own: which experts does a token pass through, and with what weights?

T real tokens of a batch, E experts, K experts chosen per token.
"""

from __future__ import annotations

from torch import nn

from research_eval.spec import RouterContext, RouterInput, RouterOutput


class MyRouter(nn.Module):
    """Score experts independently of each other, by sigmoids."""

    def __init__(self, context: RouterContext) -> None:
        super().__init__()
        self.top_k = context.top_k
        # `context.params` holds all parameters of the model; modules with weights may be made
        # here, and they are trained with the rest.

    def forward(self, tokens: RouterInput) -> RouterOutput:
        """Choose from the scores alone: a token's experts must not depend on other tokens."""
        gates_TE = tokens.logits_TE.sigmoid()
        weights_TK, chosen_TK = gates_TE.topk(self.top_k, dim=-1)

        # The task loss reaches the scores only through the weights. With k = 1 a weight divided
        # by itself would be 1, and the router would never learn.
        if self.top_k > 1:
            weights_TK = weights_TK / weights_TK.sum(dim=-1, keepdim=True).clamp(min=1e-9)

        # A distribution over all experts, for the load-balancing loss and for diagnostics.
        probs_TE = tokens.logits_TE.softmax(dim=-1)
        return RouterOutput(chosen_TK, weights_TK, probs_TE)

"""Take the k highest of a learned score (Shazeer et al. 2017, Fedus et al. 2022).

T tokens, E experts, K chosen experts per token.
"""

from __future__ import annotations

from torch import nn

from research_eval.spec import RouterContext, RouterInput, RouterOutput, RouterSpec


class Softmax(nn.Module):
    """Weights are the softmax over all experts, taken at the chosen ones.

    For k > 1 they are divided by their sum. For k = 1 the weight is the probability itself:
    divided by itself it would be 1, and the router would get no gradient at all.
    """

    def __init__(self, context: RouterContext) -> None:
        super().__init__()
        self.top_k = context.top_k

    def forward(self, tokens: RouterInput) -> RouterOutput:
        """Return the k most probable experts of each token, most probable first."""
        probs_TE = tokens.logits_TE.softmax(dim=-1)
        weights_TK, chosen_TK = probs_TE.topk(self.top_k, dim=-1)
        if self.top_k > 1:
            weights_TK = weights_TK / weights_TK.sum(dim=-1, keepdim=True)
        return RouterOutput(chosen_TK, weights_TK, probs_TE)


SPEC = RouterSpec(name="softmax", build=Softmax)

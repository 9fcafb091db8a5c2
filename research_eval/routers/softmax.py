"""Take the k highest of a learned score (Shazeer et al. 2017, Fedus et al. 2022).

T tokens, E experts, K chosen experts per token.
"""

from __future__ import annotations

from torch import nn

from research_eval.routers._choosing import choose, combine_weights
from research_eval.spec import RouterContext, RouterInput, RouterOutput, RouterSpec


class Softmax(nn.Module):
    """Weights are the softmax over all experts, taken at the chosen ones.

    For k > 1 they are divided by their sum. For k = 1 the weight is the probability itself, or
    `k1_weight`: divided by itself it would be 1, and the router would get no gradient at all.
    """

    def __init__(self, context: RouterContext) -> None:
        super().__init__()
        self.top_k, self.k1_weight = context.top_k, context.params.k1_weight

    def forward(self, tokens: RouterInput) -> RouterOutput:
        """Return the k most probable experts of each token, most probable first."""
        log_probs_TE = tokens.logits_TE.log_softmax(dim=-1)
        probs_TE = log_probs_TE.exp()
        _, chosen_TK = choose(probs_TE, tokens.bias_E, self.top_k)
        weights_TK = combine_weights(log_probs_TE.gather(1, chosen_TK), self.k1_weight)
        return RouterOutput(chosen_TK, weights_TK, probs_TE)


SPEC = RouterSpec(name="softmax", build=Softmax, takes_bias=True)

"""Score each expert by itself (DeepSeek-V3, arXiv 2412.19437, equations 13 to 15).

T tokens, E experts, K chosen experts per token.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from research_eval.routers._choosing import choose, combine_weights
from research_eval.spec import RouterContext, RouterInput, RouterOutput, RouterSpec


class Sigmoid(nn.Module):
    """Weights are sigmoids of the scores, divided by their sum over the chosen experts.

    Experts do not compete for probability: one expert's score says nothing about another's. For
    k = 1 the weight is the sigmoid itself, or `k1_weight`. The distribution that is balanced and
    measured is the sigmoids divided by their sum over all experts.
    """

    def __init__(self, context: RouterContext) -> None:
        super().__init__()
        self.top_k, self.k1_weight = context.top_k, context.params.k1_weight

    def forward(self, tokens: RouterInput) -> RouterOutput:
        """Return the k experts with the highest scores, highest first."""
        log_scores_TE = F.logsigmoid(tokens.logits_TE)
        _, chosen_TK = choose(log_scores_TE.exp(), tokens.bias_E, self.top_k)
        weights_TK = combine_weights(log_scores_TE.gather(1, chosen_TK), self.k1_weight)
        return RouterOutput(chosen_TK, weights_TK, log_scores_TE.softmax(dim=-1))


SPEC = RouterSpec(name="sigmoid", build=Sigmoid, takes_bias=True)

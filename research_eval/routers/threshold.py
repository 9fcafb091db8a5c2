"""Take every expert that scores above a threshold (after Guo et al. 2024, arXiv 2405.14297).

T tokens, E experts, K at most chosen experts per token.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from research_eval.routers._choosing import choose, combine_weights
from research_eval.spec import RouterContext, RouterInput, RouterOutput, RouterSpec


class Threshold(nn.Module):
    """Each token takes the experts with sigmoid(z) > `threshold`, the `top_k` highest at most.

    Weights are the sigmoids divided by their sum over those experts; an only one is weighted by
    the sigmoid itself, or `k1_weight`. A token that takes none keeps its residual stream, gives
    the router no gradient, and is counted by `fall_through_rate`. Scores start around 0, where
    the sigmoid is 0.5: a threshold above that starts with most tokens passed by.
    """

    def __init__(self, context: RouterContext) -> None:
        super().__init__()
        self.top_k, self.k1_weight = context.top_k, context.params.k1_weight
        self.threshold = context.params.threshold

    def forward(self, tokens: RouterInput) -> RouterOutput:
        """Return the k experts with the highest scores; those below the threshold weigh 0."""
        log_scores_TE = F.logsigmoid(tokens.logits_TE)
        scores_TK, chosen_TK = choose(log_scores_TE.exp(), tokens.bias_E, self.top_k)
        weights_TK = combine_weights(
            log_scores_TE.gather(1, chosen_TK), self.k1_weight, scores_TK > self.threshold
        )
        return RouterOutput(chosen_TK, weights_TK, log_scores_TE.softmax(dim=-1))


SPEC = RouterSpec(name="threshold", build=Threshold, takes_bias=True, partial=True)

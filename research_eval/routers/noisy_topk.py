"""Explore by noise on the scores, less and less (after Shazeer et al. 2017, equations 3 to 5).

T tokens, E experts, K chosen experts per token.
"""

from __future__ import annotations

import torch
from torch import nn

from research_eval.routers._choosing import choose, combine_weights
from research_eval.spec import RouterContext, RouterInput, RouterOutput, RouterSpec


class NoisyTopK(nn.Module):
    """Training chooses by z + eps * s, eps from N(0, 1), s = `router_noise` * (1 - progress).

    The noise decides who is chosen and nothing else: weights and statistics come from the clean
    scores z, as in `softmax`, which this is in evaluation and at the end of training. Shazeer et
    al. learn s for each expert and weight by the noisy scores too; a fixed schedule is sure to
    end without noise.
    """

    def __init__(self, context: RouterContext) -> None:
        super().__init__()
        self.top_k, self.k1_weight = context.top_k, context.params.k1_weight
        self.noise = context.params.router_noise

    def forward(self, tokens: RouterInput) -> RouterOutput:
        """Return the k experts with the highest noisy scores, highest first."""
        logits_TE = tokens.logits_TE
        log_probs_TE = logits_TE.log_softmax(dim=-1)
        scale = self.noise * (1 - tokens.progress)
        if self.training and scale > 0:
            logits_TE = logits_TE + scale * torch.randn_like(logits_TE)
        _, chosen_TK = choose(logits_TE.softmax(dim=-1), tokens.bias_E, self.top_k)
        weights_TK = combine_weights(log_probs_TE.gather(1, chosen_TK), self.k1_weight)
        return RouterOutput(chosen_TK, weights_TK, log_probs_TE.exp())


SPEC = RouterSpec(name="noisy_topk", build=NoisyTopK, takes_bias=True)

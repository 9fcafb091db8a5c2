"""Choose experts by chance: the control that a learned router must beat.

T tokens, E experts, K chosen experts per token.
"""

from __future__ import annotations

import torch
from torch import nn

from research_eval.routers._controls import even_weights
from research_eval.routing_controls import fixed_scores, token_keys
from research_eval.spec import RouterContext, RouterInput, RouterOutput, RouterSpec


class Random(nn.Module):
    """Training draws k different experts anew for every token, from torch's global generator.

    Evaluation uses a fixed pseudo-random function of (token id, position, layer), so that it
    repeats exactly, is causal, and does not depend on the rest of the batch.
    """

    def __init__(self, context: RouterContext) -> None:
        super().__init__()
        self.num_experts, self.top_k, self.layer = (
            context.num_experts,
            context.top_k,
            context.layer,
        )

    def forward(self, tokens: RouterInput) -> RouterOutput:
        """Return k experts per token, weighted 1 / k each."""
        if self.training:
            scores_TE = torch.rand_like(tokens.logits_TE)
        else:
            keys_T = token_keys(tokens.ids_T, tokens.positions_T)
            scores_TE = fixed_scores(keys_T, self.num_experts, self.layer)
        chosen_TK = scores_TE.topk(self.top_k, dim=-1).indices
        probs_TE = torch.full_like(tokens.logits_TE, 1 / self.num_experts)
        return RouterOutput(chosen_TK, even_weights(chosen_TK), probs_TE)


SPEC = RouterSpec(name="random", build=Random, learned=False)

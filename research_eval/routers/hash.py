"""Choose experts by the token's id alone (Roller et al. 2021, "Hash Layers").

T tokens, E experts, K chosen experts per token.
"""

from __future__ import annotations

import torch
from torch import nn

from research_eval.routers._controls import even_weights
from research_eval.routing_controls import fixed_scores
from research_eval.spec import RouterContext, RouterInput, RouterOutput, RouterSpec


class Hash(nn.Module):
    """Each token id has k fixed experts, drawn independently for each layer.

    The assignment is a function of (id, layer): it needs no table, no seed and no training.
    """

    def __init__(self, context: RouterContext) -> None:
        super().__init__()
        self.num_experts, self.top_k, self.layer = (
            context.num_experts,
            context.top_k,
            context.layer,
        )

    def forward(self, tokens: RouterInput) -> RouterOutput:
        """Return the k experts of each token's id, weighted 1 / k each."""
        scores_TE = fixed_scores(tokens.ids_T, self.num_experts, self.layer)
        chosen_TK = scores_TE.topk(self.top_k, dim=-1).indices
        weights_TK = even_weights(chosen_TK)
        probs_TE = torch.zeros_like(tokens.logits_TE).scatter(1, chosen_TK, weights_TK)
        return RouterOutput(chosen_TK, weights_TK, probs_TE)


SPEC = RouterSpec(name="hash", build=Hash, learned=False)

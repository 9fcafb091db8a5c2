"""Route by sparsemax (Martins & Astudillo 2016): experts that score far lower weigh exactly 0."""

import torch
from torch import Tensor, nn

from research_eval.spec import RouterContext, RouterInput, RouterOutput


def sparsemax(scores_TE: Tensor) -> Tensor:
    """Return the nearest point of the simplex, for T tokens and E experts (their algorithm 1)."""
    scores_TE = scores_TE - scores_TE.amax(dim=-1, keepdim=True)  # moves nothing, rounds less
    sorted_TE = scores_TE.sort(dim=-1, descending=True).values
    excess_TE = sorted_TE.cumsum(dim=-1) - 1
    ranks_E = torch.arange(1, scores_TE.shape[-1] + 1, device=scores_TE.device)
    size_T1 = (ranks_E * sorted_TE > excess_TE).sum(dim=-1, keepdim=True)
    return (scores_TE - excess_TE.gather(-1, size_T1 - 1) / size_T1).clamp(min=0)


class Sparsemax(nn.Module):
    """Each token takes the `top_k` experts with the highest scores, at their sparsemax."""

    def __init__(self, context: RouterContext) -> None:
        super().__init__()
        self.top_k = context.top_k

    def forward(self, tokens: RouterInput) -> RouterOutput:
        """Choose from the scores alone: a token's experts must not depend on other tokens."""
        probs_TE = sparsemax(tokens.logits_TE)
        chosen_TK = tokens.logits_TE.topk(self.top_k, dim=-1).indices
        weights_TK = probs_TE.gather(1, chosen_TK)
        return RouterOutput(chosen_TK, weights_TK, probs_TE)

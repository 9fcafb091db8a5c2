"""Let experts pick tokens (Zhou et al. 2022, arXiv 2202.09368, section 3.2).

T tokens, E experts, K chosen experts per token.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from research_eval.errors import ConfigError, Issue
from research_eval.routers._choosing import choose
from research_eval.spec import RouterContext, RouterInput, RouterOutput, RouterSpec


class ExpertChoice(nn.Module):
    """In training each expert picks the ceil(T k / E) tokens of the batch that it likes most.

    Every expert has the same load, and a token gets k experts on average: none, or up to all. In
    evaluation each token takes its k most probable experts, so that its result depends on no
    other token. In both, weights are the softmax over experts, not divided by their sum. A bias
    has nothing to even out and stays at 0. Of several processes that share a batch, each has the
    experts pick among its own tokens.

    Raises:
        ConfigError: For causal language modelling: whether a token is picked depends on later
            ones.
    """

    def __init__(self, context: RouterContext) -> None:
        super().__init__()
        if context.causal:
            raise ConfigError(
                "the model cannot be built",
                [
                    Issue(
                        "model_params.router",
                        "expert_choice picks among all tokens of a batch, later ones too, so it "
                        "cannot serve causal language modelling; take softmax or sigmoid",
                    )
                ],
            )
        self.top_k, self.num_experts = context.top_k, context.num_experts

    def forward(self, tokens: RouterInput) -> RouterOutput:
        """Return the experts of each token, most probable first."""
        probs_TE = tokens.logits_TE.softmax(dim=-1)
        if self.training and len(probs_TE):
            return self._picked(probs_TE)
        _, chosen_TK = choose(probs_TE, tokens.bias_E, self.top_k)
        return RouterOutput(chosen_TK, probs_TE.gather(1, chosen_TK), probs_TE)

    def _picked(self, probs_TE: Tensor) -> RouterOutput:
        """Return the picks, in as many places as the most wanted token needs."""
        each = math.ceil(len(probs_TE) * self.top_k / self.num_experts)
        picked_CE = probs_TE.detach().topk(each, dim=0).indices
        mask_TE = probs_TE.new_zeros(probs_TE.shape).scatter(0, picked_CE, 1.0)
        places = int(mask_TE.sum(dim=1).max())
        weights_TK, chosen_TK = (probs_TE * mask_TE).topk(places, dim=-1)
        return RouterOutput(chosen_TK, weights_TK, probs_TE)


SPEC = RouterSpec(
    name="expert_choice",
    build=ExpertChoice,
    takes_bias=True,
    partial=True,
    waives={"batch_independent": "expert_choice: experts pick among all tokens of a batch"},
)

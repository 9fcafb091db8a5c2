"""What keeps experts in use and scores small: auxiliary terms, a bias, and a capacity.

T real tokens of a batch, K experts chosen per token, E experts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from research_eval import ranks
from research_eval.spec import AuxLoss


def load_balance(chosen_: Tensor, probs_TE: Tensor) -> Tensor:
    """Return E * sum_e f_e * P_e (Fedus et al. 2022, equation 4, divided by k).

    f is the share of assignments and P the mean probability of each expert. The value is 1 at
    perfect balance for every k, and E when one expert gets all with k = 1; only P has a gradient.

    Args:
        chosen_: Expert of each assignment, in any shape.
        probs_TE: Each token's distribution over experts.
    """
    num_experts = probs_TE.shape[1]
    counts_E = torch.bincount(chosen_.flatten(), minlength=num_experts)
    shares_E = ranks.mean(counts_E / max(1, chosen_.numel()), chosen_.numel())
    mean_E = ranks.mean(probs_TE.sum(dim=0) / max(1, len(probs_TE)), len(probs_TE))
    return num_experts * torch.dot(shares_E, mean_E)


def router_z(logits_TE: Tensor) -> Tensor:
    """Return the mean of logsumexp(logits)**2, which keeps scores small (Zoph et al. 2022)."""
    count = len(logits_TE)
    return ranks.mean(logits_TE.logsumexp(dim=-1).square().sum() / max(1, count), count)


def mean_over_layers(terms: Sequence[Mapping[str, AuxLoss]]) -> dict[str, AuxLoss]:
    """Return each auxiliary term averaged over the layers, which all report the same names."""
    return {
        name: AuxLoss(torch.stack([layer[name].value for layer in terms]).mean(), first.weight)
        for name, first in terms[0].items()
    }


class SelectionBias(nn.Module):
    """A bias on the scores by which experts are chosen, moved until loads are even.

    After each optimizer step b_e += rate * sign(mean load - load of e), then b -= mean(b): the
    auxiliary-loss-free balancing of Wang et al. 2024 (arXiv 2408.15664, algorithm 1), recentred
    so that it cannot drift. It is saved with the weights and holds in evaluation as it is.

    Args:
        num_experts: E.
        rate: By how much a bias moves in one step.
    """

    bias_E: Tensor
    load_E: Tensor

    def __init__(self, num_experts: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("bias_E", torch.zeros(num_experts))
        # Zero between steps, so it need not be saved.
        load_E = torch.zeros(num_experts, dtype=torch.int64)
        self.register_buffer("load_E", load_E, persistent=False)

    def count(self, chosen_: Tensor) -> None:
        """Add the assignments of a batch to those of the step."""
        self.load_E += torch.bincount(chosen_.flatten(), minlength=len(self.load_E))

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the bias and begin to count anew."""
        load_E = ranks.total(self.load_E).float()
        moved_E = self.bias_E + self.rate * torch.sign(load_E.mean() - load_E)
        self.bias_E.copy_(moved_E - moved_E.mean())
        self.load_E.zero_()


def overflow(
    chosen_TK: Tensor,
    priority_TK: Tensor,
    wanted_TK: Tensor,
    *,
    capacity: int,
    num_experts: int,
    positions_T: Tensor | None,
) -> Tensor:
    """Return which choices an expert must turn away because others fill it, bool [T, K].

    The highest priority is served first (batch-prioritised routing, Riquelme et al. 2021, section
    4.1). With `positions_T` earlier positions are served before later ones, and priority decides
    within a position only, so that no token is turned away because of a later one.

    Args:
        chosen_TK: int64 expert indices.
        priority_TK: Of each choice.
        wanted_TK: False at places that were left empty and ask for no expert.
        capacity: Choices that an expert serves.
        num_experts: E.
        positions_T: Position of each token in its row, if order matters.
    """
    expert_S = chosen_TK.masked_fill(~wanted_TK, num_experts).flatten()
    order_S = priority_TK.flatten().argsort(descending=True, stable=True)
    if positions_T is not None:
        position_S = positions_T.repeat_interleave(chosen_TK.shape[1])
        order_S = order_S[position_S[order_S].argsort(stable=True)]
    order_S = order_S[expert_S[order_S].argsort(stable=True)]
    counts_E = torch.bincount(expert_S, minlength=num_experts + 1)
    starts_E = counts_E.cumsum(0) - counts_E
    queue_S = torch.arange(len(order_S), device=order_S.device) - starts_E[expert_S[order_S]]
    dropped_S = torch.zeros_like(expert_S, dtype=torch.bool)
    dropped_S[order_S] = queue_S >= capacity
    return dropped_S.view(chosen_TK.shape) & wanted_TK

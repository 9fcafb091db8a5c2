"""Auxiliary terms that keep experts in use and scores small.

T real tokens of a batch, K experts chosen per token, E experts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from research_eval.spec import AuxLoss


def load_balance(chosen_TK: Tensor, probs_TE: Tensor) -> Tensor:
    """Return E * sum_e f_e * P_e (Fedus et al. 2022, equation 4, divided by k).

    f is the share of assignments and P the mean probability of each expert. The value is 1 at
    perfect balance for every k, and E when one expert gets all with k = 1; only P has a gradient.
    """
    num_experts = probs_TE.shape[1]
    counts_E = torch.bincount(chosen_TK.flatten(), minlength=num_experts)
    shares_E = counts_E / max(1, chosen_TK.numel())
    return num_experts * torch.dot(shares_E, probs_TE.sum(dim=0) / max(1, len(probs_TE)))


def router_z(logits_TE: Tensor) -> Tensor:
    """Return the mean of logsumexp(logits)**2, which keeps scores small (Zoph et al. 2022)."""
    return logits_TE.logsumexp(dim=-1).square().sum() / max(1, len(logits_TE))


def mean_over_layers(terms: Sequence[Mapping[str, AuxLoss]]) -> dict[str, AuxLoss]:
    """Return each auxiliary term averaged over the layers, which all report the same names."""
    return {
        name: AuxLoss(torch.stack([layer[name].value for layer in terms]).mean(), first.weight)
        for name, first in terms[0].items()
    }

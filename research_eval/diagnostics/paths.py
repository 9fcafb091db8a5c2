"""Which experts are visited one after another.

N decision makers, P steps, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PathSummary:
    """Paths of one evaluation pass.

    Attributes:
        mean_length: Experts visited, on average, 0..P.
        ended_early: Share of the paths that end before the last step.
        ended_at_once: Share of the paths that visit no expert.
        effective_paths: exp(entropy of the distribution over whole paths).
        top_share: Share of the most frequent path.
        usage_PE: Share of all decision makers that visit each expert at each step.
        transitions_EE: Share of an expert's visits (row) that go on to each expert; the rest
            of a row's 1 ends there.
    """

    mean_length: float
    ended_early: float
    ended_at_once: float
    effective_paths: float
    top_share: float
    usage_PE: Tensor
    transitions_EE: Tensor


def summarise(chosen_NP: Tensor, num_experts: int) -> PathSummary:
    """Return what the paths look like.

    Args:
        chosen_NP: Expert visited at each step, -1 after the end; at least one row.
        num_experts: E.
    """
    lengths_N = (chosen_NP >= 0).sum(dim=1)
    _, counts = torch.unique(chosen_NP, dim=0, return_counts=True)
    shares = counts.double() / len(chosen_NP)
    return PathSummary(
        mean_length=float(lengths_N.double().mean()),
        ended_early=float((lengths_N < chosen_NP.shape[1]).double().mean()),
        ended_at_once=float((lengths_N == 0).double().mean()),
        effective_paths=float(torch.special.entr(shares).sum().exp()),
        top_share=float(shares.max()),
        usage_PE=_usage(chosen_NP, num_experts),
        transitions_EE=_transitions(chosen_NP, num_experts),
    )


def _usage(chosen_NP: Tensor, num_experts: int) -> Tensor:
    counts_PE = torch.stack(
        [torch.bincount(step_N[step_N >= 0], minlength=num_experts) for step_N in chosen_NP.T]
    )
    return counts_PE.double() / len(chosen_NP)


def _transitions(chosen_NP: Tensor, num_experts: int) -> Tensor:
    before, after = chosen_NP[:, :-1].flatten(), chosen_NP[:, 1:].flatten()
    went_on = (before >= 0) & (after >= 0)
    cells = before[went_on] * num_experts + after[went_on]
    counts_EE = torch.bincount(cells, minlength=num_experts**2).view(num_experts, num_experts)
    visits_E = torch.bincount(chosen_NP[chosen_NP >= 0], minlength=num_experts)
    return counts_EE.double() / visits_E.clamp(min=1).unsqueeze(1)

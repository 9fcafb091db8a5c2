"""What a router decides, from `RoutingRecord`s.

T real tokens, E experts, K experts chosen per token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from research_eval.spec import RoutingRecord


def load_counts(record: RoutingRecord) -> Tensor:
    """Return how many tokens each expert really worked on, int64 [E].

    Choices that were dropped for lack of capacity, or that carry no weight, do not count.
    """
    return torch.bincount(record.chosen_TK[served(record)], minlength=record.num_experts)


def served(record: RoutingRecord) -> Tensor:
    """Return which choices an expert worked on, bool [T, K]."""
    served_TK = record.weights_TK != 0
    return served_TK if record.dropped_TK is None else served_TK & ~record.dropped_TK


def requested(record: RoutingRecord) -> Tensor:
    """Return which choices the router made, those that capacity turned away too, bool [T, K]."""
    requested_TK = record.weights_TK != 0
    return requested_TK if record.dropped_TK is None else requested_TK | record.dropped_TK


def row_of_tokens(mask_BL: Tensor | None, shape: tuple[int, int], device: torch.device) -> Tensor:
    """Return [T]: the row of each real token of a batch.

    Args:
        mask_BL: True at real tokens; None if there is no padding.
        shape: Rows and length of the batch.
        device: Where to.
    """
    if mask_BL is None:
        return torch.arange(shape[0], device=device).repeat_interleave(shape[1])
    return mask_BL.nonzero()[:, 0].to(device)


def row_load(record: RoutingRecord, row_T: Tensor, rows: int) -> Tensor:
    """Return how often each expert worked on a token of each row, int64 [B, E]."""
    cells = (row_T.unsqueeze(1) * record.num_experts + record.chosen_TK)[served(record)]
    counts = torch.bincount(cells, minlength=rows * record.num_experts)
    return counts.view(rows, record.num_experts)


def fallen_through(record: RoutingRecord) -> Tensor:
    """Return how many tokens no expert worked on, int64 scalar."""
    return (~served(record).any(dim=1)).sum()


def drop_rate(record: RoutingRecord) -> Tensor:
    """Return the share of choices that capacity turned away, 0..1, scalar."""
    if record.dropped_TK is None:
        return torch.zeros((), device=record.chosen_TK.device)
    return record.dropped_TK.sum() / requested(record).sum().clamp(min=1)


def token_entropy(record: RoutingRecord) -> Tensor:
    """Return [T]: the entropy of each token's distribution over experts in nats, 0..ln E."""
    entropy_TE: Tensor = torch.special.entr(record.probs_TE.float())
    return entropy_TE.sum(dim=1)


def token_margin(record: RoutingRecord) -> Tensor:
    """Return [T]: by how much each token's first expert is more probable than its second, 0..1."""
    top_T2 = record.probs_TE.float().topk(min(2, record.num_experts), dim=1).values
    return top_T2[:, 0] - top_T2[:, 1] if record.num_experts > 1 else top_T2[:, 0]


def coactivation(record: RoutingRecord) -> Tensor:
    """Return how many tokens chose both experts of each pair, int64 [E, E]; diagonal: the load."""
    chosen_TE = torch.zeros(
        len(record.chosen_TK), record.num_experts, device=record.chosen_TK.device
    )
    chosen_TE.scatter_(1, record.chosen_TK, served(record).float())
    return (chosen_TE.T @ chosen_TE).long()


def saturation(early_TK: Tensor, final_TK: Tensor) -> float:
    """Return the share of a token's final experts that it had chosen early, 0..1.

    Router saturation of Muennighoff et al. 2024 (arXiv 2409.02060), section 5.1; choosing at
    random gives K / E.

    Args:
        early_TK: Choices for some tokens at an earlier step.
        final_TK: Choices for the same tokens at the end.
    """
    shared_TKK = early_TK.unsqueeze(2) == final_TK.unsqueeze(1)
    return float(shared_TKK.any(dim=1).float().mean())

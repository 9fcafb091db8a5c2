"""Next-token cross-entropy."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from research_eval.spec import IGNORED_LABEL


def vocabulary_loss(
    hidden_TD: Tensor, weight_VD: Tensor, targets_T: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy of hidden @ weight.T over the targets, and their number."""
    num_targets = (targets_T != IGNORED_LABEL).sum()
    logits_TV = F.linear(hidden_TD, weight_VD).float()
    total = F.cross_entropy(logits_TV, targets_T, ignore_index=IGNORED_LABEL, reduction="sum")
    return total / num_targets.clamp(min=1), num_targets

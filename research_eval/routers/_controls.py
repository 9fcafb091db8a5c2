"""What the routers without parameters share: even weights.

T tokens, K chosen experts per token.
"""

from __future__ import annotations

import torch
from torch import Tensor


def even_weights(chosen_TK: Tensor) -> Tensor:
    """Return fp32 weights of 1 / K."""
    return torch.full(chosen_TK.shape, 1 / chosen_TK.shape[1], device=chosen_TK.device)

"""What the routers without parameters share: fixed pseudo-random scores, and even weights.

T tokens, E experts, K chosen experts per token.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Multipliers and shifts of splitmix64 (Steele et al. 2014), as signed 64-bit integers.
_FIRST, _SECOND, _STEP = -4658895280553007687, -7723592293110705685, -7046029254386353131


def fixed_scores(keys_T: Tensor, num_experts: int, layer: int) -> Tensor:
    """Return int64 scores [T, E] that look random and depend on (key, expert, layer) only.

    Args:
        keys_T: Any int64 numbers.
        num_experts: E.
        layer: Layers get independent scores.
    """
    experts_E = torch.arange(1, num_experts + 1, device=keys_T.device)
    return _mix(_mix(keys_T + (layer + 1) * _STEP)[:, None] + experts_E * _STEP)


def _mix(numbers: Tensor) -> Tensor:
    """Apply the finaliser of splitmix64; products wrap, and shifts carry the sign."""
    numbers = (numbers ^ (numbers >> 30)) * _FIRST
    numbers = (numbers ^ (numbers >> 27)) * _SECOND
    return numbers ^ (numbers >> 31)


def even_weights(chosen_TK: Tensor) -> Tensor:
    """Return fp32 weights of 1 / K."""
    return torch.full(chosen_TK.shape, 1 / chosen_TK.shape[1], device=chosen_TK.device)

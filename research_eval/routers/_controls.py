"""What the routers without parameters share: fixed pseudo-random scores, and even weights.

T tokens, E experts, K chosen experts per token.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Multipliers of splitmix64's finaliser (Steele et al. 2014), as signed 64-bit integers.
_FIRST, _SECOND = -4658895280553007687, -7723592293110705685


def fixed_scores(keys_T: Tensor, num_experts: int, layer: int) -> Tensor:
    """Return int64 scores [T, E] that look random and depend on (key, expert, layer) only.

    Args:
        keys_T: Any int64 numbers.
        num_experts: E.
        layer: Layers get independent scores.
    """
    layer_ = _mix(torch.full((), layer + 1, device=keys_T.device))
    experts_E = _mix(torch.arange(1, num_experts + 1, device=keys_T.device))
    return _mix(_mix(keys_T ^ layer_)[:, None] ^ experts_E)


def _mix(numbers: Tensor) -> Tensor:
    """Apply splitmix64's finaliser, a permutation of the 64-bit integers; products wrap."""
    numbers = _xor_shifted(numbers, 30) * _FIRST
    numbers = _xor_shifted(numbers, 27) * _SECOND
    return _xor_shifted(numbers, 31)


def _xor_shifted(numbers: Tensor, bits: int) -> Tensor:
    return numbers ^ ((numbers >> bits) & ((1 << (64 - bits)) - 1))  # `>>` alone carries the sign


def even_weights(chosen_TK: Tensor) -> Tensor:
    """Return fp32 weights of 1 / K."""
    return torch.full(chosen_TK.shape, 1 / chosen_TK.shape[1], device=chosen_TK.device)

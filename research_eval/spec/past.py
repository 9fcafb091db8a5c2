"""What a causal body keeps of rows that it reads piece by piece.

B batch, H heads, L length of a piece, P positions before it, d width of a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


class Past:
    """The keys and values of what was read before, so that each position is computed once.

    Args:
        capacity: Positions that a row may come to have.

    Attributes:
        length: P, the positions that were read; whoever calls the body adds to it.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity, self.length = capacity, 0
        self._kept: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def extended(
        self, layer: nn.Module, keys_BHLd: Tensor, values_BHLd: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Keep the keys and values of a piece; return those of all P + L positions.

        Args:
            layer: Whose they are.
            keys_BHLd: Of the positions P to P + L - 1.
            values_BHLd: Likewise.
        """
        upto = self.length + keys_BHLd.shape[2]
        if layer not in self._kept:
            rows, heads, _, width = keys_BHLd.shape
            shape = (rows, heads, self.capacity, width)
            self._kept[layer] = keys_BHLd.new_empty(shape), values_BHLd.new_empty(shape)
        keys, values = self._kept[layer]
        keys[:, :, self.length : upto] = keys_BHLd
        values[:, :, self.length : upto] = values_BHLd
        return keys[:, :, :upto], values[:, :, :upto]

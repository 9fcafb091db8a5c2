"""Counts what a computation costs by watching it run: FLOPs and memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def count_flops(run: Callable[[], object]) -> int:
    """Return the floating-point operations of the matrix products and attention in `run()`.

    torch's counter passes over attention on the CPU and over `grouped_mm`; both are added here.
    Attention counts the positions that are seen: half of them, and the diagonal, when causal.
    """
    formulas = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention_flops,
        torch.ops.aten._grouped_mm: _grouped_flops,
    }
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        run()
    flops: int = counter.get_total_flops()
    return flops


def _cpu_attention_flops(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *rest: Any, **_: Any
) -> int:
    """Args are shapes [B, H, L, d], then `dropout_p` and `is_causal`."""
    flops: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]  # of torch
    is_causal, length = len(rest) > 1 and rest[1], key[-2]
    return flops * (length + 1) // (2 * length) if is_causal else flops


def _grouped_flops(a: Sequence[int], b: Sequence[int], *_: Any, **__: Any) -> int:
    """Args are shapes: [S, A] x [E, A, B], or [A, S] x [S, B]; each of S rows meets one expert."""
    return 2 * a[0] * a[1] * b[-1]


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of torch
    """Follows the memory of the tensors that are made while it is active, backward passes included.

    Each storage counts once, however many views of it there are, and until its last one is gone.
    What an operator takes and gives back within itself is not seen.

    Args:
        leave_out: Tensors that are there anyway, such as parameters.

    Attributes:
        now: Bytes that are alive.
        peak: Most bytes that were alive; may be set back to `now`.
    """

    def __init__(self, leave_out: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of torch
        self.now = self.peak = 0
        self._known = [tensor.untyped_storage() for tensor in leave_out]
        self._places = {id(storage) for storage in self._known}
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for made in tree_leaves(found):
            if isinstance(made, Tensor):
                self._see(made.untyped_storage())
        return found

    def _see(self, storage: torch.UntypedStorage) -> None:
        place, size = id(storage), storage.nbytes()
        if place in self._places or place in self._alive:
            return

        def forget(_: object) -> None:
            del self._alive[place]
            self.now -= size

        self._alive[place] = weakref.ref(storage, forget)
        self.now += size
        self.peak = max(self.peak, self.now)

"""Counts what a computation costs by watching it run: FLOPs, and values kept for backward."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
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


def saved_values(run: Callable[[], object], leave_out: Iterable[Tensor]) -> int:
    """Return how many floating-point values autograd keeps for the backward pass of `run()`.

    Each storage counts once, however many views of it are kept.

    Args:
        run: A forward pass.
        leave_out: Tensors that are there anyway, such as parameters.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in leave_out}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # an address is unique only while its tensor lives

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if tensor.is_floating_point() and storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
            alive.append(tensor)
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    del result
    return sum(kept.values())

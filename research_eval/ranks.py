"""What the processes that train one network know of each other: sums, means and one will.

Each process, a *rank*, computes its share of the rows of every batch, and their gradients are
averaged. What is a mean over a batch, or a function of one, must therefore be taken over the rows
of all ranks: by `total` and `mean`, which are plain sums where there is one process.

Ranks meet here in the same order, or they wait for each other in vain.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from research_eval.processes import Process

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

Value = TypeVar("Value")

TIMEOUT = timedelta(hours=2)
"""How long ranks wait for one that lives but does not come; it may have to prepare the data. The
death of a process is noticed otherwise."""

_here = Process()
_shares_batch = False


def rank() -> int:
    """Return which rank this process is; the first is 0."""
    return _here.rank


def size() -> int:
    """Return how many ranks train together, 1 for a process alone."""
    return _here.size


def local_rank() -> int:
    """Return the place of this rank among those of its machine."""
    return _here.local_rank


@contextmanager
def joined(process: Process, store: Store) -> Iterator[None]:
    """Make this process one of several ranks: NCCL between GPUs, gloo between CPUs.

    Args:
        process: Which one it is.
        store: Where they all meet.
    """
    global _here
    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(process.local_rank % torch.cuda.device_count())
    dist.init_process_group(
        backend, store=store, rank=process.rank, world_size=process.size, timeout=TIMEOUT
    )
    _here = process
    try:
        yield
    finally:
        _here = Process()
        dist.destroy_process_group()


def meeting_place(process: Process) -> Store:
    """Return where the ranks meet that a launcher started, as its environment says."""
    env = "env://"
    store, *_ = next(dist.rendezvous(env, process.rank, process.size, timeout=TIMEOUT))  # type: ignore[attr-defined]  # torch's stubs lack it
    return apart(store)


def apart(store: Store) -> Store:
    """Return the part of a store that is for this package."""
    return dist.PrefixStore("research_eval", store)  # type: ignore[attr-defined]  # torch's stubs lack it


# ------------------------------------------------------------------------ in the midst of a batch


@contextmanager
def sharing_a_batch() -> Iterator[None]:
    """Let `total`, `mean` and `gathered` reach over all ranks, each of which has a share."""
    global _shares_batch
    _shares_batch = _here.size > 1
    try:
        yield
    finally:
        _shares_batch = False


def total(x_: Tensor) -> Tensor:
    """Return the sum over the ranks that share the batch.

    What is made of it must be the same on all ranks, as an auxiliary loss is: the gradients of
    all of them are then this rank's, times how many there are.
    """
    if not _shares_batch:
        return x_
    summed_: Tensor = _Total.apply(x_)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return summed_


def mean(own_: Tensor, count: int | Tensor) -> Tensor:
    """Return a mean over the rows of all ranks that share the batch, as `total` returns a sum.

    Args:
        own_: The mean over this rank's rows; 0 if it has none.
        count: How many they are.
    """
    if not _shares_batch:
        return own_
    count = torch.as_tensor(count, device=own_.device)
    return total(own_ * count) / total(count).clamp(min=1)


def gathered(x_: Tensor) -> Tensor:
    """Return [R, ...]: the tensors of the R ranks that share the batch, without gradient."""
    if not _shares_batch:
        return x_.detach()[None]
    parts = [torch.empty_like(x_) for _ in range(size())]
    dist.all_gather(parts, x_.detach().contiguous())
    return torch.stack(parts)


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x_: Tensor) -> Tensor:  # autograd's context has no public type
        summed_ = x_.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed_)
        return summed_

    @staticmethod
    def backward(_ctx: Any, dsummed_: Tensor) -> Tensor:
        return dsummed_ * size()


# -------------------------------------------------------------------------------- between batches


def averaging(network: nn.Module) -> nn.Module:
    """Return the network with gradients that are averaged over the ranks, if there are several.

    A router may leave an expert, and with it its weights, out of a batch; and buffers are kept
    equal by what moves them.
    """
    if size() == 1:
        return network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 renames `broadcast_buffers`
        return DistributedDataParallel(
            network, broadcast_buffers=False, find_unused_parameters=True
        )


def not_averaging(network: nn.Module) -> AbstractContextManager[None]:
    """Return the context of a batch whose gradients wait for those of the next one."""
    if isinstance(network, DistributedDataParallel):
        return network.no_sync()
    return nullcontext()


def share(rows_B: Tensor) -> Tensor:
    """Return this rank's rows of a batch: a run of them, as long as the others' or one longer."""
    return rows_B.tensor_split(size())[rank()]


def everyones(value: Value) -> list[Value]:
    """Return the values of all ranks, in their order; tensors in them come to the CPU."""
    if size() == 1:
        return [value]
    buffer = io.BytesIO()
    torch.save(value, buffer)
    parts: list[Any] = [None] * size()
    dist.all_gather_object(parts, buffer.getvalue())
    return [torch.load(io.BytesIO(part), map_location="cpu", weights_only=False) for part in parts]


def firsts(value: Value) -> Value:
    """Return the value of the first rank; the others wait for it."""
    if size() == 1:
        return value
    told = [value]
    dist.broadcast_object_list(told, src=0, device=torch.device("cpu"))
    return told[0]

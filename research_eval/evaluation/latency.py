"""How long a forward pass takes, measured while no other latency is measured on this machine."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from research_eval.errors import StoreError
from research_eval.network import Network
from research_eval.training.batches import Batches
from research_eval.training.evaluate import measure_latency

BATCH_SIZES = (1, 8, 64)
"""Measured besides the batch size of the run."""

LOCK_FILE = "research-eval-latency.lock"


def batch_sizes(own: int, rows: int) -> list[int]:
    """Return the batch sizes that are measured: no larger than the split, ascending."""
    return sorted({min(size, rows) for size in (*BATCH_SIZES, own)})


def measure(
    network: Network,
    batches: Batches,
    *,
    sizes: Sequence[int],
    autocast: Callable[[], AbstractContextManager[object]],
) -> dict[str, float]:
    """Time forward passes of several batch sizes, as a training does at its end.

    Args:
        network: On its device.
        batches: Full batches are cut from these rows.
        sizes: Rows per batch.
        autocast: Makes the context of a forward pass.

    Returns:
        Median and 95th percentile in milliseconds, as metrics.
    """
    metrics = {}
    for size in sizes:
        times = measure_latency(network, batches, batch_size=size, autocast=autocast)
        for share in ("p50", "p95"):
            name = f"eval_latency_ms_{share}_batch{size}"
            metrics[name] = times[f"inference_latency_ms_batch_{share}"]
    return metrics


@contextmanager
def alone(say: Callable[[str], None], folder: Path | None = None) -> Iterator[None]:
    """Hold the machine's lock for latency measurements.

    Args:
        say: Told when it has to be waited for.
        folder: Where the lock is; by default the folder for temporary files, which all users of
            the machine share.

    Raises:
        StoreError: If the lock cannot be opened.
    """
    path = (folder or Path(tempfile.gettempdir())) / LOCK_FILE
    try:
        descriptor = _open(path)
    except OSError as error:
        raise StoreError(f"the lock {path} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another latency is being measured on this machine; waiting until it is done")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """Open the lock, which another user may have made: that needs no right to write."""
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)

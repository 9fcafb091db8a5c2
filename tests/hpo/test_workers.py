"""Which processes a study gets: no more than there is room for, and each GPU by its right name."""

import os

import pytest
import torch

from research_eval.errors import ConfigError
from research_eval.executors import pool, room

GIB = 2**30


@pytest.fixture
def machine(monkeypatch):
    """Let torch and the driver say that there are so many GPUs, with this much free memory."""

    def build(visible, free):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
        monkeypatch.setattr(pool, "free_gpu_memory", lambda: free)
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return build


@pytest.mark.parametrize(
    ("visible", "asked", "named"),
    [
        (None, [0, 2], ["0", "2"]),
        ("5,3,1", [0, 2], ["5", "1"]),
        ("GPU-a, GPU-b,GPU-c", [1], ["GPU-b"]),
    ],
)
def test_gpus_are_counted_among_those_that_this_process_sees(machine, visible, asked, named):
    machine(visible, [8 * GIB] * 3)
    with pool.closing(pool.Pool("s.db", gpus=asked)) as executor:
        assert executor.free == len(asked)
        assert [seat.gpu for seat in executor._seats] == named


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([3], "there is no GPU 3: this process sees GPUs 0 to 2"),
        ([1, 1], "each GPU takes one worker"),
        ([0, 1], "GPU 1 has 0.50 GiB of free memory"),
    ],
)
def test_a_gpu_that_cannot_take_a_worker_is_refused(machine, asked, said):
    machine(None, [8 * GIB, GIB // 2, 8 * GIB])
    with pytest.raises(ConfigError, match=said):
        pool.Pool("s.db", gpus=asked)


def test_where_nobody_knows_the_memory_it_is_not_checked():
    room.check_gpus([0, 1], 2, [])


def test_cores_are_divided_between_the_workers(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(16), raising=False)
    assert [pool.threads_each(workers) for workers in (1, 3, 16, 40)] == [16, 5, 1, 1]

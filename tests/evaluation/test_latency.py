"""Latency is measured alone on a machine, and at several batch sizes."""

import threading
from contextlib import nullcontext

import pytest
import torch

from research_eval.errors import StoreError
from research_eval.evaluation.latency import LOCK_FILE, alone, batch_sizes, measure
from research_eval.registry import MODELS_MAP
from research_eval.spec import Split
from research_eval.testing.subject import Subject
from research_eval.training.batches import Batches


def test_the_second_measurement_waits_until_the_first_is_done(tmp_path):
    order, waits = [], threading.Event()

    def second():
        with alone(lambda line: (order.append(line), waits.set()), tmp_path):
            order.append("second")

    other = threading.Thread(target=second)
    with alone(order.append, tmp_path):
        other.start()
        assert waits.wait(10)
        order.append("first")
    other.join(10)
    assert order[0].startswith("another latency is being measured")
    assert order[1:] == ["first", "second"]
    with alone(order.append, tmp_path):
        assert len(order) == 3


def test_a_lock_that_cannot_be_made_is_an_error(tmp_path):
    with pytest.raises(StoreError, match=f"{LOCK_FILE} cannot be opened: No such file"):
        alone(print, tmp_path / "gone").__enter__()


def test_batches_are_no_larger_than_the_split():
    assert batch_sizes(32, 1000) == [1, 8, 32, 64]
    assert batch_sizes(256, 40) == [1, 8, 40]


def test_every_batch_size_has_a_median_and_a_tail():
    subject = Subject.of(MODELS_MAP["dense"], "classification")
    batch = subject.batch(rows=8)
    split = Split(batch.ids_BL.int(), torch.full((8,), 12, dtype=torch.int32), batch.labels)
    batches = Batches(split, "classification", torch.device("cpu"))
    network = subject.network().eval()
    times = measure(network, batches, sizes=[1, 8], autocast=nullcontext)
    assert set(times) == {f"eval_latency_ms_p{p}_batch{b}" for p in (50, 95) for b in (1, 8)}
    assert 0 < times["eval_latency_ms_p50_batch8"] <= times["eval_latency_ms_p95_batch8"]

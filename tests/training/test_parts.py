"""Batches, schedules, optimizers, seeds, scores: each against values worked out by hand."""

import math

import numpy as np
import pytest
import torch

from research_eval.config.experiment import (
    AdamWParams,
    CosineWarmupParams,
    LinearWarmupParams,
    NoScheduleParams,
    SGDParams,
)
from research_eval.errors import ConfigError
from research_eval.metrics import METRICS, classification_scores, language_scores
from research_eval.spec import Split
from research_eval.training.batches import Batches
from research_eval.training.device import resolve_device, resolve_precision
from research_eval.training.optim import build_optimizer, lr_factor
from research_eval.training.seeding import derive, epoch_order

CPU = torch.device("cpu")


def split(rows, lengths, **fields):
    return Split(
        torch.tensor(rows, dtype=torch.int32), torch.tensor(lengths, dtype=torch.int32), **fields
    )


def test_a_language_model_reads_all_but_the_last_and_predicts_all_but_the_first():
    data = Batches(split([[5, 6, 7], [8, 9, 0]], [3, 2]), "language_modeling", CPU)
    batch = data.take(torch.tensor([0, 1]))
    assert batch.ids_BL.tolist() == [[5, 6], [8, 9]]
    assert batch.labels.tolist() == [[6, 7], [9, -100]]
    assert batch.mask_BL.tolist() == [[True, True], [True, False]]
    assert batch.num_tokens == 3


def test_a_batch_is_cut_to_its_longest_row_and_unpadded_ones_have_no_mask():
    labels = torch.tensor([0, 1, 1])
    data = Batches(
        split([[1, 2, 3, 4], [1, 2, 0, 0], [3, 4, 0, 0]], [4, 2, 2], labels_N=labels),
        "classification",
        CPU,
    )
    short = data.take(torch.tensor([1, 2]))
    assert short.ids_BL.tolist() == [[1, 2], [3, 4]]
    assert short.mask_BL is None
    mixed = data.take(torch.tensor([0, 2]))
    assert mixed.mask_BL.tolist() == [[True] * 4, [True, True, False, False]]
    assert mixed.labels.tolist() == [0, 1]


def test_an_empty_row_is_all_padding():
    data = Batches(split([[0, 0]], [0], labels_N=torch.tensor([0])), "classification", CPU)
    batch = data.take(torch.tensor([0]))
    assert batch.mask_BL.tolist() == [[False]]
    assert batch.num_tokens == 0


def test_in_order_covers_every_row_once():
    labels = torch.arange(7)
    data = Batches(split([[1]] * 7, [1] * 7, labels_N=labels), "classification", CPU)
    seen = [label for batch in data.in_order(3) for label in batch.labels.tolist()]
    assert seen == list(range(7))
    assert len(list(data.in_order(3, max_batches=2))) == 2


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (NoScheduleParams(), [1, 1, 1, 1, 1]),
        (
            CosineWarmupParams(warmup_factor=0.4),
            [0.5, 1, 1, 0.75, 0.25],
        ),
        (LinearWarmupParams(warmup_factor=0.4, min_factor=0.1), [0.5, 1, 1, 0.7, 0.4]),
        (LinearWarmupParams(warmup_factor=0), [1, 0.8, 0.6, 0.4, 0.2]),
    ],
)
def test_schedules(params, expected):
    assert [lr_factor(step, 5, params) for step in range(5)] == pytest.approx(expected)


def test_a_run_that_is_all_warm_up_ends_at_the_peak():
    params = CosineWarmupParams(warmup_factor=1.0)
    assert lr_factor(0, 1, params) == 1
    assert lr_factor(9, 10, params) == 1


@pytest.mark.parametrize("params", [AdamWParams(weight_decay=0.3), SGDParams(weight_decay=0.3)])
def test_matrices_decay_and_vectors_do_not(params):
    module = torch.nn.Linear(4, 3)
    optimizer = build_optimizer(module, params, CPU)
    decays = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    assert decays == {id(module.weight): 0.3, id(module.bias): 0.0}


def test_streams_differ_by_purpose_and_agree_by_seed():
    assert derive(0, "init") != derive(0, "noise") != derive(1, "noise")
    assert torch.equal(epoch_order(50, seed=3, epoch=1), epoch_order(50, seed=3, epoch=1))
    assert not torch.equal(epoch_order(50, seed=3, epoch=1), epoch_order(50, seed=3, epoch=2))


def test_macro_f1_counts_declared_classes_that_never_occur():
    # Class 0: 2 hits of 3 predicted and 2 true; class 1: 1 of 1 and 2; class 2: nothing.
    scores = classification_scores(np.array([[2, 0, 0], [1, 1, 0], [0, 0, 0]]))
    assert scores["acc"] == pytest.approx(3 / 4)
    assert scores["f1"] == pytest.approx((4 / 5 + 2 / 3 + 0) / 3)


def test_no_rows_score_nan():
    assert math.isnan(classification_scores(np.zeros((2, 2), dtype=np.int64))["f1"])


def test_language_scores():
    scores = language_scores(math.log(4), num_targets=10, num_bytes=40, num_words=5)
    assert scores["perplexity"] == pytest.approx(4)
    assert scores["bits_per_byte"] == pytest.approx(0.5)
    assert scores["word_perplexity"] == pytest.approx(16)
    unknown = language_scores(1e4, num_targets=1, num_bytes=None, num_words=None)
    assert unknown == {"perplexity": math.inf}


def test_metric_names_are_unique_and_explained():
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    assert all(metric.meaning for metric in METRICS)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"training_params[.]device"):
        resolve_device("cuda:99")


def test_precision_follows_the_device():
    assert resolve_precision("auto", CPU) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"
    with pytest.raises(ConfigError, match=r"fp16 needs a GPU"):
        resolve_precision("fp16", CPU)

"""What there is to know about a data set before a model is trained on it.

N rows, L length of a row, T real tokens, V vocabulary, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from research_eval.datasets._splits import split_keys
from research_eval.metrics import classification_scores
from research_eval.spec import Dataset, Split, Task


@dataclass(frozen=True, slots=True)
class SplitReport:
    """One split.

    Attributes:
        tokens: Real tokens, padding excluded.
        mean_length: Mean tokens of a row.
        longest: Tokens of the longest row.
        truncated: Rows that were cut to fit.
        duplicates: Rows that repeat an earlier row of the same split.
        class_rows: Rows of each declared class, in order; empty for language modelling.
        bytes_per_token: UTF-8 bytes per target, or None if there is no text behind the ids.
    """

    name: str
    rows: int
    tokens: int
    mean_length: float
    longest: int
    truncated: int
    duplicates: int
    class_rows: tuple[int, ...]
    bytes_per_token: float | None


@dataclass(frozen=True, slots=True)
class DataReport:
    """A data set, and what needs no model to be scored on it.

    Attributes:
        used_vocab: Different ids in train.
        unseen_share: Share of the validation tokens, 0..1, whose id never occurs in train.
        shared_rows: Rows that two splits have in common, by the names of the two. Any row of
            train among them is leakage.
        counts: What was done on loading.
        majority: Accuracy `acc` and macro `f1` on validation of always answering the most
            frequent class of train; empty for language modelling.
        bag_of_words: Likewise of multinomial naive Bayes over token counts. A model that does
            not beat it has learned nothing of the order of tokens.
        unigram_loss: Mean loss on validation in nats per target of predicting each token by its
            frequency in train; None for classification.
        loss_floor: What the process that made the validation split reaches, if that is known.
    """

    task: Task
    source: str
    fingerprint: str
    label_names: tuple[str, ...]
    splits: tuple[SplitReport, ...]
    vocab_size: int
    used_vocab: int
    unseen_share: float
    shared_rows: Mapping[str, int]
    counts: Mapping[str, int]
    majority: Mapping[str, float]
    bag_of_words: Mapping[str, float]
    unigram_loss: float | None
    loss_floor: float | None


def report(dataset: Dataset) -> DataReport:
    """Describe a data set: sizes, balance, duplicates, leakage and the scores of trivial models."""
    named = {
        name: split
        for name in ("train", "validation", "test")
        if (split := getattr(dataset, name)) is not None
    }
    keys = {name: split_keys(split) for name, split in named.items()}
    pairs = [("train", "validation"), ("train", "test"), ("validation", "test")]
    train, validation = dataset.train, dataset.validation
    seen_V = torch.bincount(_tokens(train), minlength=dataset.vocab_size)
    is_labelled = dataset.task == "classification"
    return DataReport(
        task=dataset.task,
        source=dataset.source,
        fingerprint=dataset.fingerprint,
        label_names=dataset.label_names,
        splits=tuple(
            _split_report(name, split, len(keys[name]) - len(set(keys[name])), dataset)
            for name, split in named.items()
        ),
        vocab_size=dataset.vocab_size,
        used_vocab=int((seen_V > 0).sum()),
        unseen_share=float((seen_V[_tokens(validation)] == 0).double().mean()),
        shared_rows={
            f"{one}/{other}": len(set(keys[one]) & set(keys[other]))
            for one, other in pairs
            if other in keys
        },
        counts=dataset.counts,
        majority=_majority(dataset) if is_labelled else {},
        bag_of_words=naive_bayes(dataset) if is_labelled else {},
        unigram_loss=None if is_labelled else unigram_loss(dataset),
        loss_floor=validation.loss_floor,
    )


def _split_report(name: str, split: Split, duplicates: int, dataset: Dataset) -> SplitReport:
    tokens = int(split.lengths_N.sum())
    class_rows: list[int] = []
    if split.labels_N is not None:
        num_classes = len(dataset.label_names)
        class_rows = torch.bincount(split.labels_N, minlength=num_classes).tolist()
    return SplitReport(
        name=name,
        rows=len(split),
        tokens=tokens,
        mean_length=tokens / len(split),
        longest=int(split.lengths_N.max()),
        truncated=dataset.counts.get(f"{name}_truncated", 0),
        duplicates=duplicates,
        class_rows=tuple(class_rows),
        bytes_per_token=split.num_bytes / (tokens - len(split)) if split.num_bytes else None,
    )


def _is_real(split: Split) -> Tensor:
    return torch.arange(split.ids_NL.shape[1]) < split.lengths_N[:, None]


def _tokens(split: Split) -> Tensor:
    """Return all real tokens of a split, int64 [T]."""
    return split.ids_NL[_is_real(split)].long()


def _targets(split: Split) -> Tensor:
    """Return all tokens that a language model must predict, int64 [T]."""
    targets_T = split.ids_NL[:, 1:][_is_real(split)[:, 1:]].long()
    return targets_T if split.unscored_id is None else targets_T[targets_T != split.unscored_id]


def _scores(predicted_N: Tensor, true_N: Tensor, num_classes: int) -> dict[str, float]:
    pairs_N = true_N * num_classes + predicted_N
    confusion_CC = torch.bincount(pairs_N, minlength=num_classes**2).view(num_classes, -1)
    return classification_scores(confusion_CC.numpy().astype(np.int64))


def _majority(dataset: Dataset) -> dict[str, float]:
    train_N, true_N = dataset.train.labels_N, dataset.validation.labels_N
    assert train_N is not None
    assert true_N is not None
    most_frequent = torch.bincount(train_N).argmax()
    return _scores(most_frequent.expand(len(true_N)), true_N, len(dataset.label_names))


def naive_bayes(dataset: Dataset) -> dict[str, float]:
    """Return the validation scores of multinomial naive Bayes over token counts.

    Counts are raised by one, as in McCallum and Nigam 1998, "A Comparison of Event Models for
    Naive Bayes Text Classification".

    Args:
        dataset: For classification.

    Returns:
        `acc` and macro `f1`, both in 0..1.
    """
    train, validation = dataset.train, dataset.validation
    assert train.labels_N is not None
    assert validation.labels_N is not None
    num_classes, vocab_size = len(dataset.label_names), dataset.vocab_size
    label_T = train.labels_N.repeat_interleave(train.lengths_N)
    pair_T = _tokens(train) * num_classes + label_T
    count_VC = torch.bincount(pair_T, minlength=vocab_size * num_classes).view(vocab_size, -1) + 1.0
    log_likelihood_VC = (count_VC / count_VC.sum(dim=0)).log()
    prior_C = torch.bincount(train.labels_N, minlength=num_classes) + 1.0
    score_NC = F.embedding_bag(
        validation.ids_NL.long(),
        log_likelihood_VC,
        mode="sum",
        per_sample_weights=_is_real(validation).to(log_likelihood_VC.dtype),
    )
    score_NC = score_NC + (prior_C / prior_C.sum()).log()
    return _scores(score_NC.argmax(dim=1), validation.labels_N, num_classes)


def unigram_loss(dataset: Dataset) -> float:
    """Return the validation loss of predicting tokens by their smoothed frequency in train.

    Args:
        dataset: For language modelling.

    Returns:
        Nats per target, at most about ln V.
    """
    count_V = torch.bincount(_targets(dataset.train), minlength=dataset.vocab_size) + 1.0
    log_probability_V = (count_V / count_V.sum()).log()
    targets_T = _targets(dataset.validation)
    return float(-log_probability_V[targets_T].double().mean()) if len(targets_T) else math.nan

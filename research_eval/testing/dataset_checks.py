"""What every data set promises, as functions that raise `AssertionError` with a readable message.

N rows, L length of a row, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from research_eval.data_report import report
from research_eval.spec import (
    Dataset,
    DatasetParams,
    DatasetSpec,
    LoadContext,
    Split,
    data_fingerprint,
)
from research_eval.testing.params_checks import assert_documented

SMALL: dict[str, Any] = {
    "num_samples": 600,
    "train_samples": 600,
    "val_samples": 200,
    "test_samples": 200,
    "max_length": 64,
    "modulus": 31,
}
"""Sizes at which a data set is tested, as far as it has such parameters."""

FLOOR_TOLERANCE = 0.05
"""Nats per target by which a fair prediction of a few hundred rows may fall below the floor."""


def small_sizes(spec: DatasetSpec) -> dict[str, Any]:
    """Return those of the small sizes that a data set has as parameters."""
    return {name: SMALL[name] for name in SMALL if name in spec.params.model_fields}


@dataclass(frozen=True)
class DatasetSubject:
    """A data set under test.

    Attributes:
        context: Its cache folder must be empty.
    """

    spec: DatasetSpec
    params: DatasetParams
    context: LoadContext

    @classmethod
    def of(cls, spec: DatasetSpec, context: LoadContext, **changes: object) -> DatasetSubject:
        """Return a data set at small sizes, with the given parameters besides."""
        return cls(spec, spec.params.model_validate({**small_sizes(spec), **changes}), context)

    @cached_property
    def dataset(self) -> Dataset:
        """The loaded data set."""
        return self.spec.load(self.params, self.context)

    def loaded_again(self, name: str, **changes: object) -> Dataset:
        """Load with other parameters, into a cache folder of its own."""
        cache_dir: Path = self.context.cache_dir / name
        params = self.params.model_copy(update=changes)
        return self.spec.load(params, replace(self.context, cache_dir=cache_dir))

    def splits(self) -> Iterator[tuple[str, Split]]:
        """Yield the name and content of each split."""
        for name in ("train", "validation", "test"):
            split = getattr(self.dataset, name)
            if split is not None:
                yield name, split


def parameters_are_documented(subject: DatasetSubject) -> None:
    """Every parameter says what it means, and its default lies in its search range."""
    assert_documented(subject.spec.params)


def loads_for_a_declared_task(subject: DatasetSubject) -> None:
    """The data comes for one of the tasks that the spec declares."""
    if subject.dataset.task not in subject.spec.tasks:
        raise AssertionError(f"{subject.dataset.task} is not among {subject.spec.tasks}")


def same_parameters_give_the_same_data(subject: DatasetSubject) -> None:
    """Loading anew or from the cache changes nothing; the fingerprint is that of the tensors."""
    dataset = subject.dataset
    again = subject.loaded_again("again")
    kept = subject.spec.load(subject.params, subject.context)
    actual = data_fingerprint(dataset.train, dataset.validation, dataset.test)
    found = {dataset.fingerprint, again.fingerprint, kept.fingerprint, actual}
    if len(found) != 1:
        raise AssertionError(f"the same parameters gave data of {len(found)} fingerprints")
    if _description(kept) != _description(dataset):
        raise AssertionError(
            f"loaded again it is {_description(kept)}, but before it was {_description(dataset)}"
        )


def _description(dataset: Dataset) -> dict[str, Any]:
    """Return all of a data set but its tensors."""
    named = ("train", "validation", "test")
    numbers = {
        name: (split.num_bytes, split.num_words, split.unscored_id, split.loss_floor)
        for name in named
        if (split := getattr(dataset, name)) is not None
    }
    plain = {p.name: getattr(dataset, p.name) for p in fields(Dataset) if p.name not in named}
    return {**plain, **numbers}


def data_seed_decides_generated_data(subject: DatasetSubject) -> None:
    """Generated data differs for another `data_seed`."""
    if subject.spec.dataset_type != "synthetic":
        return
    other = subject.loaded_again("other", data_seed=subject.params.data_seed + 1)
    if other.fingerprint == subject.dataset.fingerprint:
        raise AssertionError("another data_seed gave the same data")


def rows_are_well_formed(subject: DatasetSubject) -> None:
    """Ids are in the vocabulary, lengths in range, and rows hold 0 behind their length."""
    dataset = subject.dataset
    shift = int(dataset.task == "language_modeling")
    for name, split in subject.splits():
        rows, width = split.ids_NL.shape
        shortest, longest = int(split.lengths_N.min()), int(split.lengths_N.max())
        behind_NL = torch.arange(width) >= split.lengths_N[:, None]
        claims = {
            "is empty": rows == 0,
            "has ids that are not int32": split.ids_NL.dtype != torch.int32,
            "has lengths that are not one int32 per row": split.lengths_N.dtype != torch.int32
            or split.lengths_N.shape != (rows,),
            f"has ids outside 0..{dataset.vocab_size - 1}": bool(
                (split.ids_NL < 0).any() or (split.ids_NL >= dataset.vocab_size).any()
            ),
            f"has a row of {shortest} tokens, too few to learn from": shortest < 1 + shift,
            f"has a row of {longest} tokens in a width of {width}": longest > width,
            f"has rows of width {width} for a max_length of {dataset.max_length}": width
            > dataset.max_length + shift,
            "does not hold 0 behind the length of a row": bool(split.ids_NL[behind_NL].any()),
        }
        for claim, is_true in claims.items():
            if is_true:
                raise AssertionError(f"{name} {claim}")


def labels_are_declared_classes(subject: DatasetSubject) -> None:
    """Each row has a declared class and train has all of them; language modelling has none."""
    dataset = subject.dataset
    num_classes = len(dataset.label_names)
    for name, split in subject.splits():
        if dataset.task == "language_modeling":
            if split.labels_N is not None or num_classes:
                raise AssertionError(f"{name} has labels, but the task is language modelling")
            continue
        labels_N = split.labels_N
        if labels_N is None or labels_N.dtype != torch.int64 or labels_N.shape != (len(split),):
            raise AssertionError(f"{name} has no int64 label for each row")
        if int(labels_N.min()) < 0 or int(labels_N.max()) >= num_classes:
            raise AssertionError(f"{name} has labels outside 0..{num_classes - 1}")
        present = int((torch.bincount(labels_N) > 0).sum())
        if name == "train" and present < max(2, num_classes):
            raise AssertionError(f"train has only {present} of {num_classes} classes")


def domains_are_declared(subject: DatasetSubject) -> None:
    """Domains, where there are any, are indices of declared names."""
    for name, split in subject.splits():
        names = subject.dataset.domain_names
        if (split.domains_N is None) != (not names):
            raise AssertionError(f"{name} has domains without names, or names without domains")
        if split.domains_N is not None and not 0 <= int(split.domains_N.max()) < len(names):
            raise AssertionError(f"{name} has domains outside 0..{len(names) - 1}")


def train_shares_no_row_with_other_splits(subject: DatasetSubject) -> None:
    """No row of train is a row of validation or test."""
    shared = report(subject.dataset).shared_rows
    leaks = {pair: count for pair, count in shared.items() if pair.startswith("train/") and count}
    if leaks:
        raise AssertionError(f"rows in two splits: {leaks}")


def text_is_measured(subject: DatasetSubject) -> None:
    """Real text for language modelling says how many bytes and words its targets cover."""
    if subject.dataset.task == "classification" or subject.spec.dataset_type == "synthetic":
        return
    for name, split in subject.splits():
        if not split.num_bytes or not split.num_words:
            raise AssertionError(f"{name} does not say how many bytes and words its targets cover")


def the_floor_is_a_floor(subject: DatasetSubject) -> None:
    """A table of pairs, counted in train, does not predict a split better than its floor."""
    for name, split in subject.splits():
        if split.loss_floor is None:
            continue
        vocab_size = subject.dataset.vocab_size
        if not 0 <= split.loss_floor <= math.log(vocab_size):
            raise AssertionError(f"{name} has a floor of {split.loss_floor} nats")
        loss = _pair_loss(subject.dataset.train, split, vocab_size)
        if loss < split.loss_floor - FLOOR_TOLERANCE:
            raise AssertionError(f"{name} has a floor of {split.loss_floor}, but {loss} is reached")


def _pair_loss(train: Split, split: Split, vocab_size: int) -> float:
    """Return the mean loss on `split` of next-token frequencies given the token, from `train`."""
    count_VV = torch.ones(vocab_size, vocab_size, dtype=torch.float64)
    for rows, is_train in ((train, True), (split, False)):
        is_real_NL = torch.arange(1, rows.ids_NL.shape[1]) < rows.lengths_N[:, None]
        now_T, next_T = rows.ids_NL[:, :-1][is_real_NL], rows.ids_NL[:, 1:][is_real_NL]
        pair = (now_T.long(), next_T.long())
        if is_train:
            count_VV.index_put_(pair, torch.ones(1, dtype=torch.float64), accumulate=True)
    probability_VV = count_VV / count_VV.sum(dim=1, keepdim=True)
    return float(-probability_VV[pair].log().mean())


DATASET_CHECKS: tuple[Callable[[DatasetSubject], None], ...] = (
    parameters_are_documented,
    loads_for_a_declared_task,
    same_parameters_give_the_same_data,
    data_seed_decides_generated_data,
    rows_are_well_formed,
    labels_are_declared_classes,
    domains_are_declared,
    train_shares_no_row_with_other_splits,
    text_is_measured,
    the_floor_is_a_floor,
)
"""Every promise of a data set."""

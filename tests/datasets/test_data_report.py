"""The report on a data set counts and scores what it says."""

import math
from dataclasses import replace

import pytest
import torch

from research_eval.data_report import naive_bayes, report
from research_eval.spec import Dataset, Split


def split_of(rows: list[list[int]], labels: list[int] | None = None, **changes) -> Split:
    width = max(map(len, rows))
    return Split(
        ids_NL=torch.tensor([row + [0] * (width - len(row)) for row in rows], dtype=torch.int32),
        lengths_N=torch.tensor([len(row) for row in rows], dtype=torch.int32),
        labels_N=None if labels is None else torch.tensor(labels),
        **changes,
    )


TINY = Dataset(
    task="classification",
    vocab_size=6,
    max_length=3,
    train=split_of([[1, 1, 2], [1, 2], [3], [3, 3], [1, 2]], [0, 0, 1, 1, 0]),
    validation=split_of([[1, 2], [3, 4], [2, 2], [4, 5]], [0, 1, 1, 1]),
    test=split_of([[3], [3, 4], [2]], [1, 0, 0]),
    label_names=("a", "b"),
    counts={"train_truncated": 1},
    fingerprint="f",
    source="hand",
)


def test_rows_lengths_and_classes_are_counted():
    train, validation, test = report(TINY).splits
    assert (train.name, train.rows, train.tokens, train.longest) == ("train", 5, 10, 3)
    assert train.mean_length == 2
    assert train.class_rows == (3, 2)
    assert (train.truncated, validation.truncated) == (1, 0)
    assert (train.duplicates, validation.duplicates, test.duplicates) == (1, 0, 0)


def test_rows_in_two_splits_are_counted():
    found = report(TINY).shared_rows
    assert found == {"train/validation": 1, "train/test": 1, "validation/test": 1}


def test_padding_is_no_part_of_a_row():
    wide = replace(TINY, test=split_of([[3, 4], [5, 5, 5]], [1, 0]))
    assert report(wide).shared_rows["validation/test"] == 1


def test_vocabulary_that_train_does_not_know():
    found = report(TINY)
    assert found.used_vocab == 3
    assert found.unseen_share == 3 / 8


def test_majority_answers_the_most_frequent_class_of_train():
    assert report(TINY).majority == {"acc": 0.25, "f1": pytest.approx((2 * 1 / 5 + 0) / 2)}


def test_naive_bayes_is_the_formula():
    """Compare with the textbook, token by token, on the rows above."""
    counts = {0: {1: 4, 2: 3}, 1: {3: 3}}  # tokens of each class in train
    hits = 0
    rows = [([1, 2], 0), ([3, 4], 1), ([2, 2], 1), ([4, 5], 1)]
    for row, label in rows:
        scores = []
        for c, prior in ((0, 4 / 7), (1, 3 / 7)):
            total = sum(counts[c].values()) + 6
            scores.append(
                math.log(prior) + sum(math.log((counts[c].get(t, 0) + 1) / total) for t in row)
            )
        hits += scores.index(max(scores)) == label
    assert report(TINY).bag_of_words["acc"] == hits / 4


def test_a_bag_of_words_sees_counts_but_not_order(load):
    order = load("parity", num_samples=4000, val_samples=1000, test_samples=0)
    assert naive_bayes(order)["acc"] == pytest.approx(0.5, abs=0.06)
    # In `a + b =` every digit tells a little about the sum, but not which digit stands where.
    tokens = load("copying", pattern_length=8, vocab_size=50, num_samples=4000)
    assert naive_bayes(tokens)["acc"] > 0.9


def test_language_modelling_has_no_classes(load):
    found = report(load("markov", num_samples=5000))
    assert found.majority == found.bag_of_words == {}
    assert found.loss_floor < found.unigram_loss < math.log(8) + 0.01
    assert found.splits[0].class_rows == ()
    assert found.splits[0].bytes_per_token is None


def test_unigram_loss_is_the_cross_entropy_of_frequencies():
    rows = [[1, 2, 2, 3]]
    text = replace(
        TINY,
        task="language_modeling",
        train=split_of(rows),
        validation=split_of([[3, 2, 4]], num_bytes=10),
        label_names=(),
    )
    found = report(text)
    # Targets of train: 2 twice, 3 once; raised by one over 6 ids: 3, 2, 1 of 9.
    assert found.unigram_loss == pytest.approx(-(math.log(3 / 9) + math.log(1 / 9)) / 2, rel=1e-6)
    assert found.splits[1].bytes_per_token == 5


def test_news_are_told_apart_by_their_words(load, data_mirror):
    assert data_mirror
    settings = {"tokenizer": "bert-base-uncased", "max_length": 64}
    sizes = {"train_samples": 4000, "val_samples": 1000, "test_samples": 100}
    found = report(load("ag_news", **settings, **sizes))
    assert found.majority["acc"] == pytest.approx(0.25, abs=0.01)
    assert found.bag_of_words["acc"] > 0.83
    assert found.shared_rows["train/validation"] == 0

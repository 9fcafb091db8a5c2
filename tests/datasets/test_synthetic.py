"""The generated data sets are what they say."""

import math

import pytest
import torch

from research_eval.datasets.copying import CopyingParams, secret_pattern
from research_eval.datasets.markov import Chain
from research_eval.errors import DataError


def test_parity_counts_the_ones(load):
    train = load("parity", num_samples=500).train
    expected = [row.count(1) % 2 for row in train.ids_NL.tolist()]
    assert train.labels_N.tolist() == expected


def test_reference_setting_of_parity_is_whole_and_balanced(load):
    data = load("parity")
    assert (len(data.train), len(data.validation), len(data.test)) == (20_000, 4_000, 4_000)
    assert data.max_length == 16
    assert data.vocab_size == 9
    assert data.counts == {}
    ids = torch.bincount(data.train.ids_NL.flatten(), minlength=9)
    assert ids[0] == 0
    assert (ids[1:] / ids.sum() - 1 / 8).abs().max() < 0.005
    assert abs(data.train.labels_N.double().mean() - 0.5) < 0.02


def test_sizes_of_one_split_do_not_change_the_others(load):
    small, large = load("parity", num_samples=100), load("parity", num_samples=200)
    assert torch.equal(small.validation.ids_NL, large.validation.ids_NL)
    assert torch.equal(small.train.ids_NL, large.train.ids_NL[:100])


def test_small_spaces_are_shared_out_without_overlap(load):
    data = load("parity", seq_len=6, vocab_size=2, num_samples=200, val_samples=10, test_samples=10)
    rows = [{tuple(row) for row in s.ids_NL.tolist()} for s in (data.train, data.validation)]
    assert len(data.train) == 200
    assert not rows[0] & rows[1]
    assert data.counts["train_redrawn"] > 0


def test_spaces_too_small_for_disjoint_splits_are_refused(load):
    with pytest.raises(DataError, match=r"parity has too few different rows.*larger vocabulary"):
        load("parity", seq_len=3, vocab_size=2)


def number(digits: list[int]) -> int:
    return int("".join(str(digit - 1) for digit in digits))


def test_addition_adds(load):
    data = load("addition", task="language_modeling", digits=3, num_samples=300)
    assert data.max_length == 3 * 3 + 2
    for row in data.train.ids_NL.tolist():
        assert (row[3], row[7]) == (11, 12)
        assert number(row[:3]) + number(row[4:7]) == number(row[8:])


def test_addition_is_classified_by_the_last_digit_of_the_sum(load):
    train = load("addition", digits=2, num_samples=300, val_samples=50, test_samples=50).train
    for row, label in zip(train.ids_NL.tolist(), train.labels_N.tolist(), strict=True):
        assert (number(row[:2]) + number(row[3:5])) % 10 == label


def test_floor_of_addition_is_the_entropy_of_the_free_digits(load):
    # One digit each: a is read, then `+`, b, `=`, and two digits of the sum are predicted; of
    # these five only b is free.
    sizes = {"num_samples": 5, "val_samples": 5, "test_samples": 5}
    data = load("addition", task="language_modeling", digits=1, **sizes)
    assert data.train.loss_floor == pytest.approx(math.log(10) / 5)


def holds(row: list[int], pattern: list[int], contiguous: bool) -> bool:
    if contiguous:
        size = len(pattern)
        return any(row[i : i + size] == pattern for i in range(len(row) - size + 1))
    rest = iter(row)
    return all(token in rest for token in pattern)


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize(("length", "vocab_size"), [(1, 8), (3, 3), (3, 8), (12, 8)])
def test_the_pattern_is_in_all_positive_rows_and_in_no_negative_one(
    load, contiguous, length, vocab_size
):
    settings = {
        "contiguous": contiguous,
        "pattern_length": length,
        "vocab_size": vocab_size,
        "data_seed": 3,
    }
    data = load("copying", num_samples=200, val_samples=100, test_samples=100, **settings)
    pattern = secret_pattern(CopyingParams(**settings)).tolist()
    for split in (data.train, data.validation, data.test):
        found = [holds(row, pattern, contiguous) for row in split.ids_NL.tolist()]
        assert found == split.labels_N.bool().tolist()
        assert 0.3 < sum(found) / len(found) < 0.7


def test_a_pattern_as_long_as_the_row_leaves_one_class_and_is_refused(load):
    # The one row that holds it is in the test split, so train cannot have it too.
    with pytest.raises(DataError, match="copying has training rows of one class only, absent"):
        load("copying", pattern_length=16, num_samples=200)


def test_every_place_of_a_row_can_hold_the_pattern(load):
    settings = {"pattern_length": 4, "vocab_size": 50, "num_samples": 400}
    train = load("copying", **settings).train
    pattern = secret_pattern(CopyingParams(**settings))
    windows = train.ids_NL[train.labels_N == 1].unfold(1, 4, 1)
    places = (windows == pattern).all(dim=2).any(dim=0)
    assert places.all()


def test_modular_arithmetic_lists_each_pair_once(load):
    data = load("modular_arithmetic", modulus=11, operation="subtract", train_fraction=0.4)
    pairs = []
    for split in (data.train, data.validation, data.test):
        for (left, sign, right, equals), label in zip(
            split.ids_NL.tolist(), split.labels_N.tolist(), strict=True
        ):
            assert (sign, equals) == (12, 13)
            assert ((left - 1) - (right - 1)) % 11 == label
            pairs.append((left, right))
    assert len(pairs) == len(set(pairs)) == 11 * 11
    assert len(data.train) == round(0.4 * 121)
    assert abs(len(data.validation) - len(data.test)) <= 1


def test_the_pattern_of_copying_is_the_same_for_all_sizes():
    one, other = (CopyingParams(num_samples=n) for n in (10, 1000))
    assert torch.equal(secret_pattern(one), secret_pattern(other))
    assert not torch.equal(secret_pattern(one), secret_pattern(CopyingParams(data_seed=1)))


def entropy(probability: torch.Tensor) -> float:
    return float(torch.special.entr(probability).sum())


@pytest.mark.parametrize(("vocab_size", "order"), [(2, 1), (8, 1), (5, 2), (3, 3)])
def test_floor_of_markov_is_the_entropy_within_sampling_error(vocab_size, order):
    chain = Chain.random(vocab_size, order, torch.Generator().manual_seed(0))
    rows, length = 20_000, 9
    tokens = chain.sample(torch.Generator().manual_seed(1), rows, length)
    # The tokens of the first context cost their joint entropy less that of the first alone,
    # every later one costs the entropy rate.
    first = chain.start_S.view(vocab_size, -1).sum(dim=1)
    start = entropy(chain.start_S) - entropy(first)
    expected = (start + (length - order) * chain.entropy_rate()) / (length - 1)
    deviation = 1.0 / math.sqrt(rows * (length - 1))  # a token's loss deviates by less than 1 nat
    assert abs(chain.loss(tokens) - expected) < 4 * deviation


def test_the_start_of_a_chain_is_stationary():
    chain = Chain.random(6, 2, torch.Generator().manual_seed(0))
    after = (chain.start_S[:, None] * chain.next_SV).view(6, -1).sum(dim=0)
    assert torch.allclose(after, chain.start_S, atol=1e-12)
    assert float(chain.start_S.sum()) == pytest.approx(1)


def test_markov_rows_follow_the_chain(load):
    """Transition frequencies in the rows are those of the chain that gives the floor."""
    data = load("markov", num_samples=20_000, vocab_size=3)
    rows = data.train.ids_NL.long() - 1
    counts = torch.zeros(3, 3)
    counts.index_put_((rows[:, :-1], rows[:, 1:]), torch.ones(1), accumulate=True)
    frequency = counts / counts.sum(dim=1, keepdim=True)
    conditional = -(counts / counts.sum() * frequency.log()).sum()
    assert data.train.ids_NL.shape[1] == data.max_length + 1
    assert data.train.loss_floor == pytest.approx(float(conditional), abs=1e-3)


def test_chains_of_too_many_transitions_are_refused(load):
    with pytest.raises(DataError, match="order=8 and vocab_size=8 needs 134,217,728 transitions"):
        load("markov", order=8)


def test_splits_have_random_streams_of_their_own(load):
    data = load("markov", num_samples=50, val_samples=50, test_samples=50)
    assert not torch.equal(data.train.ids_NL, data.validation.ids_NL)
    assert not torch.equal(data.validation.ids_NL, data.test.ids_NL)


@pytest.mark.parametrize("name", ["parity", "addition", "copying", "markov"])
def test_no_test_split_if_none_is_wanted(load, name):
    assert load(name, num_samples=20, val_samples=10, test_samples=0).test is None

"""A data set that breaks a promise fails the check of that promise."""

from dataclasses import replace

import pytest
import torch

from research_eval.registry import DATASETS_MAP
from research_eval.spec import DatasetParams, Split, data_fingerprint
from research_eval.testing import dataset_checks as checks
from research_eval.testing.dataset_checks import DatasetSubject


def of(data):
    """Return the data set with the fingerprint that belongs to its tensors."""
    return replace(data, fingerprint=data_fingerprint(data.train, data.validation, data.test))


@pytest.fixture
def broken(context):
    """Return a function that makes a subject of a data set whose result is changed."""

    def make(name, change, **params):
        spec = DATASETS_MAP[name]
        return DatasetSubject.of(
            replace(spec, load=lambda p, c: of(change(spec.load(p, c)))), context, **params
        )

    return make


def whole(**changes):
    return lambda data: replace(data, **changes)


def in_train(**changes):
    return lambda data: replace(data, train=replace(data.train, **changes))


def leak(data):
    ids = data.train.ids_NL.clone()
    ids[3] = data.test.ids_NL[5]
    return in_train(ids_NL=ids)(data)


def negative(data):
    return in_train(ids_NL=data.train.ids_NL - 2)(data)


def as_int64(data):
    return in_train(ids_NL=data.train.ids_NL.long())(data)


def lengths(value):
    return in_train(lengths_N=torch.full((600,), value, dtype=torch.int32))


ZEROS = torch.zeros(600, dtype=torch.int64)

BROKEN = [
    (checks.rows_are_well_formed, "parity", whole(vocab_size=8)),
    (checks.rows_are_well_formed, "parity", whole(max_length=15)),
    (checks.rows_are_well_formed, "parity", as_int64),
    (checks.rows_are_well_formed, "parity", negative),
    (checks.rows_are_well_formed, "parity", lengths(0)),
    (checks.rows_are_well_formed, "parity", lengths(10)),
    (checks.rows_are_well_formed, "parity", lengths(17)),
    (checks.labels_are_declared_classes, "parity", whole(label_names=("even",))),
    (checks.labels_are_declared_classes, "parity", whole(label_names=("a", "b", "c"))),
    (checks.labels_are_declared_classes, "parity", in_train(labels_N=None)),
    (checks.labels_are_declared_classes, "markov", in_train(labels_N=ZEROS)),
    (checks.domains_are_declared, "parity", in_train(domains_N=ZEROS)),
    (checks.domains_are_declared, "parity", whole(domain_names=("a",))),
    (checks.train_shares_no_row_with_other_splits, "parity", leak),
    (checks.the_floor_is_a_floor, "markov", in_train(loss_floor=2.1)),
    (checks.the_floor_is_a_floor, "markov", in_train(loss_floor=-0.1)),
    (checks.loads_for_a_declared_task, "parity", whole(task="language_modeling")),
]


@pytest.mark.parametrize(("check", "name", "change"), BROKEN)
def test_a_broken_data_set_is_found(broken, check, name, change):
    with pytest.raises(AssertionError):
        check(broken(name, change))
    check(broken(name, lambda data: data))


def test_data_that_depends_on_more_than_its_parameters_is_found(broken):
    calls = iter(range(10))

    def drift(data):
        ids = data.train.ids_NL.clone()
        ids[0, 0] = 1 + next(calls)
        return in_train(ids_NL=ids)(data)

    with pytest.raises(AssertionError, match="3 fingerprints"):
        checks.same_parameters_give_the_same_data(broken("parity", drift))


def test_a_fingerprint_that_is_not_that_of_the_tensors_is_found(context):
    spec = DATASETS_MAP["parity"]
    lying = replace(spec, load=lambda p, c: replace(spec.load(p, c), fingerprint="0"))
    with pytest.raises(AssertionError, match="2 fingerprints"):
        checks.same_parameters_give_the_same_data(DatasetSubject.of(lying, context))


def test_what_is_forgotten_between_loads_is_found(broken):
    calls = iter((7, None, None))

    def forget(data):
        return replace(data, train=replace(data.train, num_bytes=next(calls)))

    with pytest.raises(AssertionError, match="loaded again"):
        checks.same_parameters_give_the_same_data(broken("markov", forget))


def test_generated_data_that_ignores_data_seed_is_found(context):
    spec = DATASETS_MAP["parity"]
    deaf = replace(spec, load=lambda p, c: spec.load(p.model_copy(update={"data_seed": 0}), c))
    with pytest.raises(AssertionError, match="another data_seed"):
        checks.data_seed_decides_generated_data(DatasetSubject.of(deaf, context))


def test_text_without_a_size_is_found(broken, write, rows):
    def forget(data):
        return replace(data, validation=replace(data.validation, num_bytes=None))

    path = str(write("own.csv", rows))
    with pytest.raises(AssertionError, match="validation does not say how many bytes"):
        checks.text_is_measured(broken("files", forget, path=path, task="language_modeling"))


def test_a_parameter_without_a_meaning_is_found(context):
    class Bare(DatasetParams):
        secret: int = 1

    spec = replace(DATASETS_MAP["parity"], params=Bare)
    with pytest.raises(AssertionError, match=r"Bare\.secret has no docstring"):
        checks.parameters_are_documented(DatasetSubject.of(spec, context))


def test_fingerprints_tell_splits_types_and_shapes_apart():
    ids, lengths = torch.ones(4, 2, dtype=torch.int32), torch.full((4,), 2, dtype=torch.int32)
    split, empty = Split(ids, lengths), Split(ids[:0], lengths[:0])
    prints = [
        data_fingerprint(split, split, None),
        data_fingerprint(split, None, split),
        data_fingerprint(Split(ids.view(2, 4), lengths), split, None),
        data_fingerprint(Split(ids.long(), lengths), split, None),
        data_fingerprint(Split(ids, lengths, labels_N=lengths), split, None),
        data_fingerprint(Split(ids, lengths, domains_N=lengths), split, None),
        data_fingerprint(empty, split, None),
    ]
    assert len(set(prints)) == len(prints)

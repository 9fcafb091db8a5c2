"""What every class of parameters promises, whether of a model or of something else."""

from __future__ import annotations

import itertools
import random
from typing import Any

from research_eval.knobs import Choice, Knob, LogUniform, Params, Uniform
from research_eval.repair import check, repair
from research_eval.testing.subject import Subject

JUNK: tuple[Any, ...] = (None, True, -1, 0, 1, 2, 3, 7, 0.3, 1e9, "x", "softmax", [], {})
"""Values that a confused program or person might give."""


def fields_are_documented(subject: Subject) -> None:
    """Every parameter says what it means, and its default lies in its search range."""
    assert_documented(subject.spec.params)


def assert_documented(params: type[Params]) -> None:
    """Raise if a parameter has no docstring, or a default outside its search range."""
    for name, info in params.model_fields.items():
        if not info.description:
            raise AssertionError(f"{params.__name__}.{name} has no docstring")
    for name, knob in params.knobs().items():
        default = params.model_fields[name].get_default()
        if not knob.contains(default):
            raise AssertionError(f"{params.__name__}.{name}: default {default} is not in {knob}")


def repaired_values_are_legal(subject: Subject) -> None:
    """Any values at all can be repaired; repairing twice changes nothing more."""
    params = subject.spec.params
    rng = random.Random(0)
    for _ in range(200):
        values = {name: rng.choice(JUNK) for name in params.model_fields if rng.random() < 0.7}
        mended, _changes = repair(params, values)
        params.model_validate(mended)
        if issues := check(params, mended):
            raise AssertionError(f"{values} was repaired to {mended}, which is not legal: {issues}")
        if (again := repair(params, mended)[0]) != mended:
            raise AssertionError(f"{mended} was repaired once more, to {again}")


def corners_of_the_search_box_are_legal(subject: Subject) -> None:
    """Ends of search ranges validate together, related ones in all ways, and the extremes build."""
    params = subject.spec.params
    ends = {name: _ends(knob) for name, knob in params.knobs().items()}
    rng = random.Random(0)
    drawn = {name: rng.choice(pair) for name, pair in ends.items()}
    related = sorted({f for each in params.all_constraints() for f in each.fields} & set(ends))
    for corner in itertools.product(*(ends[name] for name in related)):
        _assert_legal(params, {**drawn, **dict(zip(related, corner, strict=True))})
    for _ in range(200):
        _assert_legal(params, {name: rng.choice(pair) for name, pair in ends.items()})
    for place in (0, 1):
        extreme = {name: pair[place] for name, pair in ends.items()}
        subject.having(**extreme).network()


def _assert_legal(params: type[Params], values: dict[str, Any]) -> None:
    params.model_validate(values)
    if issues := check(params, values):
        raise AssertionError(f"{values} lies in the search box but is not legal: {issues}")


def _ends(knob: Knob) -> tuple[Any, Any]:
    match knob:
        case Choice(options=options):
            return options[0], options[-1]
        case Uniform(low=low, high=high) | LogUniform(low=low, high=high):
            return low, high
    raise TypeError(f"unknown kind of knob: {knob!r}")

"""Checks and mends the relations between parameters, and values out of bounds."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from research_eval.errors import Issue
from research_eval.knobs import Constraint, Params, is_number, knob_of, validates, when_of


@dataclass(frozen=True, slots=True)
class Repair:
    """One value that was changed to make a configuration legal."""

    field: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.field}={json.dumps(self.after)}"


def check(
    params: type[Params], values: Mapping[str, Any], *, skip: Collection[str] = ()
) -> list[Issue]:
    """Return what is wrong between the given values, one issue for each broken constraint.

    Args:
        params: The class that declares the fields.
        values: Values that are legal one by one; a missing one counts as its default.
        skip: Fields about which nothing is said, because they are known to be illegal.
    """
    issues = []
    for constraint in params.all_constraints():
        if not set(skip).isdisjoint(constraint.fields):
            continue
        pair = _pair(params, constraint, values)
        if pair is not None and not constraint.holds(*pair):
            name, other = constraint.fields
            advice = constraint.mend(*pair)
            issues.append(
                Issue(
                    name,
                    f"{constraint.sentence()}, but {name} = {pair[0]} and {other} = {pair[1]}; "
                    f"{name}={advice} would be legal",
                )
            )
    return issues


def repair(
    params: type[Params], values: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[Repair, ...]]:
    """Return legal values close to the given ones, and what was changed.

    The result always validates, repairing it again changes nothing, and legal values come back
    as they are. Unknown keys are dropped; a value out of bounds becomes the nearest one of its
    knob (its default if it has none); then constraints are mended in the order of declaration.

    Args:
        params: The class that declares the fields.
        values: Any JSON values.
    """
    known = {name: value for name, value in values.items() if name in params.model_fields}
    legal = {name: _legal_value(params, name, value) for name, value in known.items()}
    mended = mend(params, legal)
    changes = [
        Repair(name, known.get(name, _default(params, name)), value)
        for name, value in mended.items()
        if name not in known or value is not legal[name] or legal[name] is not known[name]
    ]
    return mended, tuple(changes)


def mend(params: type[Params], legal: Mapping[str, Any]) -> dict[str, Any]:
    """Return values between which every constraint holds.

    Args:
        params: The class that declares the fields.
        legal: Values that are legal one by one; a missing one counts as its default.
    """
    mended = dict(legal)
    while issues := check(params, mended):
        for constraint in params.all_constraints():
            pair = _pair(params, constraint, mended)
            if pair is not None and not constraint.holds(*pair):
                mended[constraint.fields[0]] = constraint.mend(*pair)
        if check(params, mended) == issues:
            raise AssertionError(f"constraints of {params.__name__} cannot all hold: {issues}")
    return mended


def settled(
    params: type[Params], legal: Mapping[str, Any], searched: Collection[str]
) -> dict[str, Any]:
    """Return values in which what does not matter is at its default, and constraints hold.

    Two configurations that can only come to the same result are then the same.

    Args:
        params: The class that declares the fields.
        legal: Values that are legal one by one; a missing one counts as its default.
        searched: Fields that may change for this.
    """
    values = mend(params, legal)
    for name in searched:
        when = when_of(params.model_fields[name])
        if when and not when.holds(values.get(when.field, _default(params, when.field))):
            values[name] = _default(params, name)
    return mend(params, values)


def _default(params: type[Params], name: str) -> Any:
    return params.model_fields[name].get_default(call_default_factory=True)


def _pair(
    params: type[Params], constraint: Constraint, values: Mapping[str, Any]
) -> tuple[int, int] | None:
    """Return the values a constraint relates, or None if one of them is not an integer."""
    found = [values[n] if n in values else _default(params, n) for n in constraint.fields]
    return (found[0], found[1]) if all(isinstance(v, int) for v in found) else None


def _legal_value(params: type[Params], name: str, value: Any) -> Any:
    """Return `value` if the field takes it alone, else a legal value near it."""
    if validates(params, name, value):
        return value
    knob = knob_of(params.model_fields[name])
    if knob is None or not is_number(value) or math.isnan(value):
        return _default(params, name)
    nearest = knob.nearest(value)
    if isinstance(nearest, float) and not validates(params, name, nearest):
        return round(nearest)  # a fraction inside the range of an integer
    return nearest

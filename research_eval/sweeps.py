"""Variations of a configuration: every combination of some values, or one change at a time."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from research_eval.config import Experiment
from research_eval.config.reading import value_of
from research_eval.errors import ConfigError

MAX_RANGE = 10_000
"""Values in a range such as `0-4`."""

Variant = Mapping[str, str]
"""New values by dotted path, each as text behind `path=`."""

_RANGE = re.compile(r"(\d+)-(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Axis:
    """A field and the values that it is to take."""

    path: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Axis:
        """Read `path=value,value`, where `0-4` stands for 0,1,2,3,4.

        A comma inside brackets or quotes belongs to the value.

        Raises:
            ConfigError: If it cannot be read so, or a value appears twice.
        """
        path, separator, listed = text.partition("=")
        values = [value for part in _split(listed) for value in _expanded(part, text)]
        if not separator or not path or not all(values) or not values:
            raise ConfigError(f"write path=value,value as in model_params.top_k=1,2, not '{text}'")
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise ConfigError(f"'{text}' names {', '.join(repeated)} more than once")
        return cls(path, tuple(values))


def _split(text: str) -> Iterator[str]:
    """Yield what stands between commas that are in no brackets and no quotes."""
    depth, is_quoted, start = 0, False, 0
    for place, char in enumerate(text):
        if char == '"':
            is_quoted = not is_quoted
        elif not is_quoted and char in "[{":
            depth += 1
        elif not is_quoted and char in "]}":
            depth -= 1
        elif char == "," and depth == 0 and not is_quoted:
            yield text[start:place].strip()
            start = place + 1
    yield text[start:].strip()


def _expanded(value: str, text: str) -> Iterable[str]:
    found = _RANGE.fullmatch(value)
    if found is None:
        return (value,)
    first, last = int(found[1]), int(found[2])
    if not 0 <= last - first < MAX_RANGE:
        raise ConfigError(f"'{value}' in '{text}' is no range of at most {MAX_RANGE} values")
    return map(str, range(first, last + 1))


def variants(swept: Sequence[Axis], ablated: Sequence[Axis]) -> list[Variant]:
    """Return every combination of the swept values, each with every single ablation and without.

    Raises:
        ConfigError: If a field is varied twice.
    """
    paths = [axis.path for axis in (*swept, *ablated)]
    repeated = sorted({path for path in paths if paths.count(path) > 1})
    if repeated:
        raise ConfigError(f"{', '.join(repeated)} can be varied in one way only")
    combinations = [
        dict(zip([axis.path for axis in swept], values, strict=True))
        for values in product(*(axis.values for axis in swept))
    ]
    single: list[Variant] = [{axis.path: value} for axis in ablated for value in axis.values]
    return [{**combined, **change} for change in ({}, *single) for combined in combinations]


def settings(variant: Variant) -> list[str]:
    """Return a variant as `path=value` settings."""
    return [f"{path}={value}" for path, value in variant.items()]


def group_name(experiments: Sequence[str], overrides: Sequence[str], axes: Iterable[Axis]) -> str:
    """Return the name of the group of all variants; the same ones have the same name.

    Args:
        experiments: Names of the experiments that are varied.
        overrides: Settings of all of them.
        axes: What is varied.
    """
    content = json.dumps([experiments, overrides, [(axis.path, axis.values) for axis in axes]])
    return f"{experiments[0]}-sweep-{hashlib.sha256(content.encode()).hexdigest()[:6]}"


def with_origin(experiment: Experiment, variant: Variant, group: str) -> Experiment:
    """Return the experiment of a variant with where it came from written into it."""
    changed = {path: value_of(text) for path, text in variant.items()}
    return experiment.with_fields(
        {"origin": {"kind": "sweep", "parent": group, "changed": changed}}
    )

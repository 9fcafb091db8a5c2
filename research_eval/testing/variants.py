"""The ways in which a model can work: its modes, and its numbers of experts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Literal, get_args, get_origin

from research_eval.knobs import plugin_kind_of
from research_eval.registry import MAPS
from research_eval.repair import repair
from research_eval.spec import TransformerParams

NUMBERS_OF_EXPERTS = (1, 2, 3, 4, 8)


def variants(
    params: TransformerParams, fixed: Collection[str] = ()
) -> Iterator[tuple[str, TransformerParams]]:
    """Yield each mode with each number of experts, in words and as parameters.

    One mode differs from the given parameters at a time. What does not fit together, such as
    `top_k` 2 for one expert, is repaired, and what comes out twice is yielded once.

    Args:
        params: Where to start.
        fixed: Fields that stay as they are.
    """
    kind = type(params)
    start = params.model_dump()
    numbers: list[dict[str, Any]] = [{}]
    if "num_experts" in kind.model_fields and "num_experts" not in fixed:
        numbers = [{"num_experts": number} for number in NUMBERS_OF_EXPERTS]
    ways: list[dict[str, Any]] = [{}]
    for field, options in modes(kind).items():
        ways += [{field: v} for v in options if v != start[field] and field not in fixed]
    seen = []
    for mode in ways:
        for number in numbers:
            values, repairs = repair(kind, start | number | mode)
            made = kind.model_validate(values)
            if made not in seen:
                seen.append(made)
                changes = number | mode | {each.field: each.after for each in repairs}
                yield " ".join(f"{name}={value}" for name, value in changes.items()), made


def modes(kind: type[TransformerParams]) -> dict[str, list[Any]]:
    """Return the values of each field that a model adds and that names a way to work."""
    found: dict[str, list[Any]] = {}
    for name, info in kind.model_fields.items():
        if name in TransformerParams.model_fields:
            continue
        plugin_kind = plugin_kind_of(info)
        named = list(MAPS[plugin_kind]) if plugin_kind else _words(info.annotation)
        if named:
            found[name] = named
    return found


def _words(annotation: Any) -> list[Any]:
    """Return the values that a type names, wherever in a union they stand."""
    if annotation is bool:
        return [False, True]
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for inner in get_args(annotation) for value in _words(inner)]

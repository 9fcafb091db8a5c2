"""What a JSON Schema says of each parameter, as short text for tables.

It reads schemas and not classes, so it serves the registered components as well as what a store
keeps of a run whose plug-in is gone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

_SIGNS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter in words.

    Attributes:
        type: As JSON knows it, or the values it may have.
        default: JSON text; None if the parameter must be given or its default is made.
        legal: Bounds, empty if everything of the type is legal.
        searched: What is worth trying, empty if it is never searched.
        is_execution: Whether it decides how a run is carried out and not what comes out of it.
    """

    name: str
    type: str
    default: str | None
    legal: str
    searched: str
    meaning: str
    is_execution: bool


def describe(schema: Schema) -> list[Parameter]:
    """Return the parameters of an object's schema in their order.

    Args:
        schema: JSON Schema of an object, as a class of parameters gives it.
    """
    return [
        Parameter(
            name=name,
            type=_type(field),
            default=json.dumps(field["default"]) if "default" in field else None,
            legal=", ".join(_bounds(field)),
            searched=range_in_words(field.get("x-knob")),
            meaning=" ".join(field.get("description", "").split()),
            is_execution=bool(field.get("x-execution-only")),
        )
        for name, field in schema.get("properties", {}).items()
    ]


@dataclass(frozen=True, slots=True)
class NumberRange:
    """Which numbers a parameter may be, as its schema says; both ends may be infinite."""

    is_integer: bool
    low: float
    high: float


def number_range(field: Schema) -> NumberRange | None:
    """Return the numbers that the field of a schema may be; None if it is not always one."""
    options = [option for option in _options(field) if option.get("type") != "null"]
    if not options or any(o.get("type") not in ("integer", "number") for o in options):
        return None
    least = [o.get("minimum", o.get("exclusiveMinimum", -math.inf)) for o in options]
    most = [o.get("maximum", o.get("exclusiveMaximum", math.inf)) for o in options]
    is_integer = all(option["type"] == "integer" for option in options)
    return NumberRange(is_integer, min(least), max(most))


def _options(field: Schema) -> list[Schema]:
    return [option for each in field.get("anyOf", ()) for option in _options(each)] or [field]


def _type(field: Schema) -> str:
    words: list[str] = []
    for option in _options(field):
        if "enum" in option or "const" in option:
            words += [json.dumps(value) for value in option.get("enum", [option.get("const")])]
        elif option.get("type") == "array":
            words.append(f"list of {_type(option.get('items', {}))}")
        else:
            words.append(option.get("type", "object"))
    return " or ".join(dict.fromkeys(words))


def _bounds(field: Schema) -> Iterator[str]:
    for option in _options(field):
        yield from (f"{sign} {option[key]}" for key, sign in _SIGNS.items() if key in option)


def range_in_words(knob: Schema | None) -> str:
    """Return a search range as the schema of its field has it under `x-knob`."""
    match knob:
        case {"kind": "Choice", "options": options}:
            return ", ".join(json.dumps(option) for option in options)
        case {"kind": "LogUniform", "low": low, "high": high}:
            return f"{low} to {high}, log"
        case {"kind": "Uniform", "low": low, "high": high, "step": step}:
            return f"{low} to {high}" + (f", step {step}" if step else "")
    return ""

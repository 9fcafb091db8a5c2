"""From pydantic's errors to sentences: which field, what it must be, what it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from research_eval.errors import Issue, did_you_mean
from research_eval.knobs import Params

_SHOWN = 60
"""Characters of an illegal value that a message repeats."""


def issues_of(error: ValidationError, root: type[Params]) -> list[Issue]:
    """Return one issue for each illegal field; the cases of a union become one sentence.

    Args:
        error: What pydantic found.
        root: The class that was validated.
    """
    grouped: dict[tuple[str, ...], list[ErrorDetails]] = {}
    for detail in error.errors():
        grouped.setdefault(_path_of(detail["loc"], root), []).append(detail)
    return [Issue(".".join(path), _message(path, root, found)) for path, found in grouped.items()]


def _section_type(info: FieldInfo) -> type[Params] | None:
    """Return the class of parameters that a field holds, or None if it holds a plain value."""
    for option in (info.annotation, *get_args(info.annotation)):
        if isinstance(option, type) and issubclass(option, Params):
            return option
    return None


def _fields(params: type[Params]) -> Mapping[str, FieldInfo]:
    return {info.alias or name: info for name, info in params.model_fields.items()}


def _path_of(location: tuple[int | str, ...], root: type[Params]) -> tuple[str, ...]:
    """Return the path of a value without the tags that pydantic adds for the cases of a union."""
    owner: type[Params] | None = root
    has_keys = False
    path = []
    for part in location:
        if owner is not None:
            info = _fields(owner).get(str(part))
            owner = _section_type(info) if info else None
            has_keys = info is not None and get_origin(info.annotation) is dict
        elif isinstance(part, str) and not has_keys:
            continue
        path.append(str(part))
    return tuple(path)


def _message(path: tuple[str, ...], root: type[Params], found: list[ErrorDetails]) -> str:
    owner: type[Params] | None = root
    for part in path[:-1]:
        info = _fields(owner).get(part) if owner else None
        owner = _section_type(info) if info else None
    info = _fields(owner).get(path[-1]) if owner and path else None
    meaning = f" ({' '.join(info.description.split())})" if info and info.description else ""
    match found[0]["type"]:
        case "extra_forbidden" if owner is not None:
            return f"unknown field; {_where_else(path[-1], owner, root)}"
        case "missing":
            return f"is missing{meaning}"
        case kind:
            hint = meaning if kind == "string_pattern_mismatch" else ""
            return f"must {_demands(found)}{hint}, got {_shown(found[0]['input'])}"


def _where_else(name: str, owner: type[Params], root: type[Params]) -> str:
    """Say where an unknown field may belong: another section, or a similar name in this one."""
    sections = {key: _section_type(info) for key, info in _fields(root).items()}
    homes = [key for key, params in sections.items() if params and name in _fields(params)]
    if name in _fields(root):
        return "it belongs to the top level"
    if homes:
        return f"it belongs to {' or '.join(homes)}"
    return did_you_mean(name, _fields(owner))


def _demands(found: list[ErrorDetails]) -> str:
    """Return what the value must be: "be 'epoch' or be greater than or equal to 1"."""
    return " or ".join(dict.fromkeys(re.sub(r"^\w+ should ", "", each["msg"]) for each in found))


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."

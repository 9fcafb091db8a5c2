"""A user's configuration as JSON: what is not a JSON value is kept as its text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from research_eval.redaction import REDACTED, is_secret, without_password


def as_config(config: Any) -> dict[str, Any]:
    """Return a configuration as JSON values.

    A mapping, a dataclass or an `argparse.Namespace` becomes an object, a tuple or set a list, a
    number of numpy or torch a number. NaN, infinities and everything else become their text, so
    that the result is JSON that every reader accepts.

    Raises:
        TypeError: If `config` is nothing that has names and values.
    """
    values = plain({} if config is None else config)
    if not isinstance(values, dict):
        raise TypeError(
            f"a configuration is a mapping, a dataclass or a namespace, not {type(config).__name__}"
        )
    return values


def plain(value: Any) -> Any:
    """Return a value in terms of dict, list, str, bool, int, finite float and None."""
    match value:
        case None | bool():
            return value
        case str():
            return without_password(str(value))
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else str(float(value))
        case Mapping():
            return {str(name): _setting(str(name), inner) for name, inner in value.items()}
        case list() | tuple():
            return [plain(inner) for inner in value]
        case set() | frozenset():
            return sorted(map(plain, value), key=repr)
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        names = value.__dataclass_fields__
        return {name: _setting(name, getattr(value, name)) for name in names}
    if type(value).__name__ == "Namespace":  # of argparse, which need not be loaded
        return plain(vars(value))
    if getattr(value, "shape", None) == () and hasattr(value, "item"):  # of numpy or torch
        return plain(value.item())
    return str(value)


def _setting(name: str, value: Any) -> Any:
    return REDACTED if isinstance(value, str) and is_secret(name) else plain(value)

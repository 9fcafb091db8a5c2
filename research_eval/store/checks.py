"""What a database can keep: names, text and steps."""

from __future__ import annotations

import operator

from research_eval.errors import StoreError

MAX_NAME = 512


def storable(text: str) -> str:
    """Return text that every database keeps: NUL and lone surrogates written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def checked_name(name: str) -> str:
    """Return the name of a metric, an array, a flag or a parameter.

    Raises:
        StoreError: If it has not 1 to 512 characters, or is not text that a database can keep.
    """
    if not 0 < len(name) <= MAX_NAME:
        raise StoreError(f"a name has 1 to {MAX_NAME} characters, not {len(name)}: {name!r}")
    if storable(name) != name:
        raise StoreError(f"the name {name!r} is not text that a database can keep")
    return name


def checked_step(step: int) -> int:
    """Return a step as an integer of 64 bits.

    Raises:
        StoreError: If it is no integer, or does not fit.
    """
    try:
        number = operator.index(step)
    except TypeError:
        raise StoreError(f"a step is an integer, not {step!r}") from None
    if not -(2**63) <= number < 2**63:
        raise StoreError(f"step {number} does not fit into 64 bits")
    return number

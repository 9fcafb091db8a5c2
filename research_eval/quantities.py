"""Numbers as people read and write them."""

from __future__ import annotations

import math
import re

_FACTORS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12, "p": 1e15}
_AMOUNT = re.compile(r"(\d[\d_]*(?:\.\d+)?(?:e[+-]?\d+)?) ?([kmgbtp]?)", re.IGNORECASE | re.ASCII)


def number(value: float) -> str:
    """Return a score or a measurement with four significant digits, NaN and inf included."""
    if value != 0 and math.isfinite(value) and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3e}"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}" if math.isfinite(value) else str(value)
    return f"{value:.4g}"


def amount(value: float) -> str:
    """Return a count with a prefix of the SI: 105.2 k, 1.31 M, 2.4 G."""
    for factor, prefix in ((1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= factor:
            return f"{value / factor:.4g}{prefix}"
    return f"{value:.4g}"


def parse_amount(text: str) -> float:
    """Return a count as people write it: 5M, 1.5G, 7B, 105.2 k, 2e6, 5_000_000.

    Raises:
        ValueError: If it cannot be read so, or is not a finite number.
    """
    found = _AMOUNT.fullmatch(text.strip())
    value = float(found[1]) * _FACTORS[found[2].lower()] if found else math.inf
    if not math.isfinite(value):
        raise ValueError(f"write a number as in 5M, 1.5G or 2e6, not '{text}'")
    return value


def duration(seconds: float) -> str:
    """Return a time in the two largest units that it needs."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

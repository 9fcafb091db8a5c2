"""Numbers as people read them."""

from __future__ import annotations

import math


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


def duration(seconds: float) -> str:
    """Return a time in the two largest units that it needs."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

"""Results in words: numbers with as many digits as they deserve, in units that people use."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from research_eval.analysis.question import Question
from research_eval.metrics import find_metric
from research_eval.quantities import number


def unit(question: Question) -> str:
    """Return what a difference of the metric is counted in: points for a share, else its unit."""
    known = find_metric(question.metric)
    if question.is_share:
        return f"points of {question.metric}"
    return f"{known.unit} of {question.metric}" if known and known.unit else question.metric


def scale(question: Question) -> int:
    """Return what a difference is multiplied by to be in `unit`."""
    return 100 if question.is_share else 1


def difference(delta: float, question: Question) -> str:
    """Return the size of a difference with its unit."""
    return f"{rounded(abs(delta) * scale(question))} {unit(question)}"


def difference_with_half(delta: float, half: float, question: Question) -> str:
    """Return the size of a difference, half the width of its interval, and the unit."""
    return f"{plus_minus(abs(delta) * scale(question), half * scale(question))} {unit(question)}"


def plus_minus(value: float, half: float) -> str:
    """Return `value ± half`, both to the second digit of `half`; of no spread the value alone.

    Equal values may differ in their last bit; that is no spread.
    """
    if not math.isfinite(half) or half <= 1e-12 * abs(value):
        return number(value)
    places = _places(half)
    return f"{value:.{places}f} ± {half:.{places}f}"


def interval(low: float, high: float) -> str:
    """Return `[low, high]`, both to the second digit of half the width, which is above 0."""
    places = _places((high - low) / 2)
    return f"[{low:.{places}f}, {high:.{places}f}]"


def _places(half: float) -> int:
    return max(0, 1 - math.floor(math.log10(half)))


def rounded(value: float) -> str:
    """Return a number with two significant digits, three from 10 on."""
    return f"{value:.3g}" if abs(value) >= 10 else f"{value:.2g}"


def probability(p: float) -> str:
    """Return `= 0.03` or `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"


def counted(count: int, one: str, many: str = "") -> str:
    """Return `1 run`, `3 runs`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listed(names: Iterable[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    found: Sequence[str] = list(names)
    if len(found) < 2:
        return "".join(found)
    return f"{', '.join(found[:-1])} and {found[-1]}"


def ok_of(ok: int, started: int) -> str:
    """Return how many runs have a score, and of how many begun ones if that is not all."""
    return f"{ok}" if ok == started else f"{ok} of {started} begun"

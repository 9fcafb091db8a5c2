"""What a number of seeds and trials can show at all, known before anything is run."""

from __future__ import annotations

import math

from research_eval.analysis import statistics, words
from research_eval.analysis.comparing import VERDICT_ALPHA


def smallest_p(count: int) -> float:
    """Return the smallest p of a two-sided test that deals two sets of values out anew.

    Args:
        count: Values in each of the two.
    """
    return 2 / math.comb(2 * count, count)


def fewest(contrasts: int) -> int:
    """Return the fewest values of each arm with which such a test can show anything.

    Args:
        contrasts: How many Holm's correction is about; the smallest p is multiplied by it.
    """
    count = 2
    while contrasts * smallest_p(count) > VERDICT_ALPHA:
        count += 1
    return count


def power_in_words(seeds: int, contrasts: int) -> str:
    """Return the difference that so many seeds find in four of five experiments."""
    spread = statistics.detectable((1.0, 1.0), (seeds, seeds), statistics.ALPHA / contrasts)
    return (
        f"{seeds} seeds and {words.counted(contrasts, 'contrast')} find a difference of "
        f"{words.rounded(spread)} standard deviations between seeds in four of five experiments"
    )


def shortfalls(trials: int, seeds: int, contrasts: int) -> list[str]:
    """Return what is too little for a difference to be shown without further assumptions.

    Args:
        trials: Of each arm.
        seeds: Fresh ones, of each arm's winner.
        contrasts: How many are planned.
    """
    needed = fewest(contrasts)
    told = []
    if trials < needed:
        told.append(
            f"{words.counted(trials, 'trial')} of each arm cannot show a difference, however "
            f"large: the luck of the search alone has {_least(trials, contrasts)}; {needed} trials "
            "of each arm can"
        )
    if seeds < needed:
        told.append(
            f"{seeds} seeds leave it to Welch's test, which takes scores to be normal: a "
            f"permutation test of {seeds} and {seeds} scores has {_least(seeds, contrasts)}; "
            f"{needed} seeds do without"
        )
    return told


def _least(count: int, contrasts: int) -> str:
    p = smallest_p(count)
    holm = f", {min(1.0, contrasts * p):.2g} after Holm for {contrasts} contrasts"
    return f"p {p:.2g} at least{holm if contrasts > 1 else ''}"

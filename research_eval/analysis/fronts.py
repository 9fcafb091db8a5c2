"""Which points no other one beats in two quantities, and how much their front encloses.

Both quantities are costs here: less is better. P points.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def non_dominated(costs_P2: Floats) -> Bools:
    """Return [P]: whether no other point is at most as costly in both and less in one.

    Equal points do not beat each other, so all of them are on the front.
    """
    order = np.lexsort((costs_P2[:, 1], costs_P2[:, 0]))
    first, second = costs_P2[order].T
    least_before = np.minimum.accumulate(np.concatenate([[np.inf], second[:-1]]))
    on_front = second < least_before
    # A copy of a point on the front stands right behind it.
    for place in range(1, len(order)):
        is_copy = first[place] == first[place - 1] and second[place] == second[place - 1]
        on_front[place] |= is_copy and on_front[place - 1]
    found = np.zeros(len(order), dtype=bool)
    found[order] = on_front
    return found


def hypervolume(costs_P2: Floats, reference_2: Floats) -> float:
    """Return the area that the points dominate, up to a reference point.

    Zitzler and Thiele 1998 (Multiobjective optimization using evolutionary algorithms, section
    4). Points that are not better than the reference in both add nothing.
    """
    inside = costs_P2[(costs_P2 < reference_2).all(axis=1)]
    front = inside[non_dominated(inside)]
    front = front[np.argsort(front[:, 0])]
    ends = np.append(front[1:, 0], reference_2[0])
    return float(((ends - front[:, 0]) * (reference_2[1] - front[:, 1])).sum())


def clearly_dominated(costs_P2: Floats, variances_P2: Floats, freedom_P2: Floats) -> Bools:
    """Return [P]: whether another point beats it by more than noise in both quantities.

    A difference counts if zero lies outside of its 95 % Welch interval, or if neither side is
    noisy. A point that is beaten, but never clearly, is tied with those on the front.

    Args:
        costs_P2: Means.
        variances_P2: Of the means; 0 for what has no noise.
        freedom_P2: Degrees of freedom of the variances.
    """
    ahead_PP2 = costs_P2[None] - costs_P2[:, None]  # by how much the row beats the column
    is_clear_PP2 = ahead_PP2 >= _half_widths(variances_P2, freedom_P2)
    beats_PP = np.asarray(is_clear_PP2.all(axis=2)) & (ahead_PP2 > 0).any(axis=2)
    return np.asarray(beats_PP.any(axis=0))


def _half_widths(variances_P2: Floats, freedom_P2: Floats) -> Floats:
    """Return [P, P, 2]: half widths of the 95 % intervals of differences of means."""
    both_PP2 = variances_P2[None] + variances_P2[:, None]
    squares_P2 = variances_P2**2 / np.maximum(freedom_P2, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom_PP2 = both_PP2**2 / (squares_P2[None] + squares_P2[:, None])
    freedom_PP2 = np.where(both_PP2 > 0, freedom_PP2, 1.0)
    widths: Floats = stdtrit(freedom_PP2, 0.975) * np.sqrt(both_PP2)
    return widths

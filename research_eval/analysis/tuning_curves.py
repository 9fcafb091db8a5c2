"""What a number of trials buys: the best score of n trials, as an expectation or as it went.

All take scores of which more is better. N trials were made, n are asked about.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln
from scipy.stats import binom

Floats = npt.NDArray[np.float64]


def expected_best(scores_N: Floats) -> Floats:
    """Return [N]: the mean best of n = 1..N trials, over all subsets of n of them.

    The U-statistic of Tang et al. 2020 (arXiv 2004.13705, section 3): unbiased for the best of n
    fresh trials, if trials are drawn independently (random or quasi-random search).
    """
    total = len(scores_N)
    rank_N = np.arange(1, total + 1)
    n_N1 = rank_N[:, None]
    # Of the subsets of n, C(i - 1, n - 1) have the i-th smallest score as their best.
    with np.errstate(invalid="ignore"):
        log_share_NN = _log_choose(rank_N - 1, n_N1 - 1) - _log_choose(total, n_N1)
    share_NN = np.where(rank_N >= n_N1, np.exp(log_share_NN), 0.0)
    return share_NN @ np.sort(scores_N)


def _log_choose(of: npt.ArrayLike, choose: npt.ArrayLike) -> Floats:
    rest = np.maximum(np.subtract(of, choose), 0)
    found: Floats = gammaln(np.add(of, 1)) - gammaln(np.add(choose, 1)) - gammaln(rest + 1)
    return found


def expected_best_with_replacement(scores_N: Floats) -> Floats:
    """Return [N]: the mean best of n = 1..N draws, with replacement, from the trials.

    The V-statistic of Dodge et al. 2019 (Show Your Work, equation 7). It is biased downwards;
    it is here because published curves show it.
    """
    total = len(scores_N)
    n_N1 = np.arange(1, total + 1)[:, None]
    at_most_N = np.arange(total + 1) / total
    return np.diff(at_most_N**n_N1, axis=1) @ np.sort(scores_N)


def median_best_interval(scores_N: Floats, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return low [N] and high [N] around the median best of n = 1..N fresh trials.

    The median best of n draws is the quantile 0.5^(1/n) of one draw, and order statistics give
    an interval for a quantile that holds for any distribution (David and Nagaraja 2003, Order
    Statistics, section 7.1). -inf or inf stands where N trials are too few to say.
    """
    total = len(scores_N)
    quantile_N = 0.5 ** (1 / np.arange(1, total + 1))
    tail = (1 - level) / 2
    ranked = np.concatenate([[-np.inf], np.sort(scores_N), [np.inf]])
    low_rank = binom.ppf(tail, total, quantile_N).astype(int)
    high_rank = binom.ppf(1 - tail, total, quantile_N).astype(int) + 1
    return ranked[np.maximum(low_rank, 0)], ranked[np.minimum(high_rank, total + 1)]


def best_so_far(scores_N: Floats) -> Floats:
    """Return [N]: the best score after each trial, in the order in which they were made."""
    return np.maximum.accumulate(scores_N)


def crossings(one_N: Floats, other_N: Floats) -> list[int]:
    """Return the places n = 1..N from which on the other of two curves leads.

    Being equal is no lead, so curves that only touch do not cross.
    """
    leader_N = np.sign(one_N - other_N)
    led = np.flatnonzero(leader_N)
    changed = np.flatnonzero(np.diff(leader_N[led])) + 1
    return [int(place) + 1 for place in led[changed]]

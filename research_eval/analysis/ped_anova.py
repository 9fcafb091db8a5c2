"""PED-ANOVA: how much each parameter decides whether a trial is among the best.

Watanabe, Bansal and Hutter 2023 (arXiv 2304.10255): a parameter matters as far as its values
among the best trials are distributed otherwise than among all. Both distributions are estimated
on a grid, and the importance is the Pearson divergence between them (equation 16). Estimator and
constants are those of Optuna's `PedAnovaImportanceEvaluator`, against which a test compares; it
is written here so that a store can be analysed without Optuna, and for all bootstrap samples at
once.

B samples, N trials, G places of a grid.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

GRID_STEPS = 50
"""Places of the grid of a parameter that takes more values than that."""

_PRIOR_WEIGHT = 1.0
_LEAST_WIDTH = 0.5 / 1.64  # 90 % of the narrowest kernel lie on its own place of the grid


def best_trials(scores_BN: Floats, quantile: float) -> Bools:
    """Return [B, N]: which trials are among the best share, those equal to its last included.

    Args:
        scores_BN: More is better.
        quantile: The share, in 0..1.
    """
    count = int(np.ceil(quantile * scores_BN.shape[1]))
    cut_B1 = -np.partition(-scores_BN, count - 1, axis=1)[:, count - 1 : count]
    return scores_BN >= cut_B1


def grid_places(values_N: Floats) -> tuple[Ints, int]:
    """Return [N] the place of each value on an even grid over their span, and its size.

    Args:
        values_N: On the scale of the parameter: logarithms for a logarithmic one. Whole numbers
            get a place each if they are not too many.
    """
    low, high = values_N.min(), values_N.max()
    if low == high:
        return np.zeros(len(values_N), dtype=np.int64), 1
    is_whole = bool((values_N == np.round(values_N)).all())
    size = min(int(high - low) + 1, GRID_STEPS) if is_whole else GRID_STEPS
    width = (high - low) / (size - 1)
    places = np.ceil((values_N - low) / width - 0.5).astype(np.int64)
    return np.clip(places, 0, size - 1), size


def divergence(places_BN: Ints, best_BN: Bools, size: int, *, is_ordered: bool) -> Floats:
    """Return [B]: the Pearson divergence of the best trials' values from all trials' values.

    Args:
        places_BN: Of the values on a grid.
        best_BN: Which trials are among the best.
        size: Of the grid.
        is_ordered: Whether neighbours on the grid are alike; options that are no numbers are not.
    """
    all_BG = _counts(places_BN, np.ones_like(best_BN), size)
    best_BG = _counts(places_BN, best_BN, size)
    density = _ordered_density if is_ordered else _option_density
    top_BG, local_BG = density(best_BG) + 1e-12, density(all_BG) + 1e-12
    found: Floats = (local_BG * (top_BG / local_BG - 1) ** 2).sum(axis=1)
    return found


def _counts(places_BN: Ints, counted_BN: Bools, size: int) -> Floats:
    samples = len(places_BN)
    cells = places_BN + size * np.arange(samples)[:, None]
    counts = np.bincount(cells[counted_BN], minlength=samples * size)
    return counts.reshape(samples, size).astype(float)


def _option_density(counts_BG: Floats) -> Floats:
    """Return the mean of one kernel per option that was seen, weighted by how often, and a prior.

    A kernel gives its own option 1 and every option `_PRIOR_WEIGHT` over the number of kernels.
    """
    size = counts_BG.shape[1]
    kernels_B1 = (counts_BG > 0).sum(axis=1, keepdims=True) + 1.0
    even_B1 = _PRIOR_WEIGHT / kernels_B1
    seen_BG = counts_BG / (1 + size * even_B1)
    total_B1 = counts_BG.sum(axis=1, keepdims=True)
    spread_B1 = total_B1 * even_B1 / (1 + size * even_B1) + _PRIOR_WEIGHT / size
    density_BG: Floats = (seen_BG + spread_B1) / (total_B1 + _PRIOR_WEIGHT)
    return density_BG


def _ordered_density(counts_BG: Floats) -> Floats:
    """Return a mixture of normals on the grid, one around each place that was seen, and a prior.

    Their width follows Scott's rule (Scott 1992, Multivariate Density Estimation).
    """
    size = counts_BG.shape[1]
    place_G = np.arange(size, dtype=float)
    seen_BGG = _normals(_widths(counts_BG), place_G, size)
    prior_BGG = _normals(np.array([float(size)]), np.array([(size - 1) / 2]), size)
    total_B1 = counts_BG.sum(axis=1, keepdims=True)
    mixed_BG = np.einsum("bg,bgk->bk", counts_BG, seen_BGG) + _PRIOR_WEIGHT * prior_BGG[0]
    normalised: Floats = mixed_BG / (total_B1 + _PRIOR_WEIGHT)
    return normalised


def _normals(width_B: Floats, centre_C: Floats, size: int) -> Floats:
    """Return [B, C, G]: the share of each truncated normal that falls on each place."""
    edge_E = np.arange(size + 1) - 0.5
    below_BCE = ndtr((edge_E - centre_C[:, None]) / width_B[:, None, None])
    inside_BC1 = below_BCE[..., -1:] - below_BCE[..., :1]
    shares: Floats = np.diff(below_BCE, axis=-1) / inside_BC1
    return shares


def _widths(counts_BG: Floats) -> Floats:
    place_G = np.arange(counts_BG.shape[1])
    total_B = counts_BG.sum(axis=1)
    mean_B = counts_BG @ place_G / total_B
    squares_B = (counts_BG * (place_G - mean_B[:, None]) ** 2).sum(axis=1)
    deviation_B = np.sqrt(squares_B / np.maximum(1, total_B - 1))
    reached_BG = counts_BG.cumsum(axis=1)
    first_B = (reached_BG >= np.maximum(total_B // 4, 1)[:, None]).argmax(axis=1)
    third_B = (reached_BG > (total_B * 3 // 4)[:, None]).argmax(axis=1)
    spread_B = (third_B - first_B) / 1.34
    scott_B = 1.059 * np.minimum(spread_B, deviation_B) * total_B**-0.2
    found: Floats = np.maximum(scott_B, _LEAST_WIDTH)
    return found

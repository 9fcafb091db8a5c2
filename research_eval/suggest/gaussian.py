"""A Gaussian process over configurations, and the improvement that it expects.

n observations, m candidates, c columns, g length scales.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize, special

Floats = npt.NDArray[np.float64]

TYPICAL_SCALE = 0.25
"""Length scale of a single coordinate that is most probable before anything is observed."""

_VERY_FAR = 1e5
"""Standard deviations below which the first term of the asymptotic series is exact."""

_ROOT5 = math.sqrt(5)


class GaussianProcess:
    """Regression with a Matern-5/2 kernel that has a length scale for each coordinate.

    The length scales, the variance and the noise maximise the posterior density (Rasmussen and
    Williams 2006, section 5.4), under log-normal priors whose length scales grow with the root of
    their number (Hvarfner et al. 2024, "Vanilla Bayesian Optimization Performs Great in High
    Dimensions").

    Args:
        x_nc: Observations, entries in 0..1.
        y_n: Their values, of mean about 0 and variance about 1.
        noise_n: By how much the variance of the noise is multiplied: 1 for one run, 1/2 for the
            mean of two.
        groups_c: Which length scale each column has.
        start: Parameters to start from, those of a similar process.

    Attributes:
        parameters: Logarithms of length scales, variance and noise.
    """

    def __init__(
        self,
        x_nc: Floats,
        y_n: Floats,
        noise_n: Floats,
        groups_c: npt.NDArray[np.intp],
        start: Floats | None = None,
    ) -> None:
        self._x, self._y, self._noise = x_nc, y_n, noise_n
        self._groups = groups_c
        self._num_scales = int(groups_c.max()) + 1 if len(groups_c) else 0
        self._prior_mean = np.array(
            [math.log(TYPICAL_SCALE) + math.log(max(self._num_scales, 1)) / 2] * self._num_scales
            + [0, -5]
        )
        self._prior_sd = np.array([1.0] * self._num_scales + [1.0, 2.0])
        self.parameters = self._fit(self._prior_mean if start is None else start)
        self._condition()

    def _fit(self, start: Floats) -> Floats:
        bounds = [(math.log(0.03), math.log(100))] * self._num_scales + [(-4, 4), (-12, 1)]
        found = optimize.minimize(
            self._loss, start, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 60}
        )
        return np.asarray(found.x)

    def _loss(self, parameters: Floats) -> tuple[float, Floats]:
        """Return the negative log posterior of the parameters, up to a constant, and its slope."""
        scales_g, variance, noise = self._split(parameters)
        scaled = self._x / scales_g[self._groups]
        squared = _squared_distances(scaled, scaled)
        correlation, slope = _matern(squared)
        kernel = variance * correlation + np.diag(noise * self._noise + 1e-8)
        away = (parameters - self._prior_mean) / self._prior_sd
        try:
            factor = linalg.cho_factor(kernel, lower=True)
        except linalg.LinAlgError:
            return 1e10, np.zeros_like(parameters)
        weights = linalg.cho_solve(factor, self._y)
        inverse = linalg.cho_solve(factor, np.eye(len(self._y)))
        loss = 0.5 * self._y @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
        outer = np.outer(weights, weights) - inverse
        weighted = outer * (variance * slope)
        # The sum over pairs of weighted[i, j] * (x[i] - x[j])^2, for all columns at once.
        per_column = 2 * (weighted.sum(axis=1) @ scaled**2 - ((weighted @ scaled) * scaled).sum(0))
        gradient = np.zeros_like(parameters)
        np.add.at(gradient, self._groups, -0.5 * per_column)
        gradient[-2] = -0.5 * variance * (outer * correlation).sum()
        gradient[-1] = -0.5 * noise * (np.diag(outer) * self._noise).sum()
        return float(loss), gradient + away / self._prior_sd

    def _split(self, parameters: Floats) -> tuple[Floats, float, float]:
        values = np.exp(parameters)
        return values[:-2], float(values[-2]), float(values[-1])

    def _condition(self) -> None:
        scales_g, variance, self.noise = self._split(self.parameters)
        self._scales = scales_g[self._groups]
        self._variance = variance
        scaled = self._x / self._scales
        kernel = variance * _matern(_squared_distances(scaled, scaled))[0]
        kernel += np.diag(self.noise * self._noise + 1e-8)
        self._factor = linalg.cholesky(kernel, lower=True)
        self._weights = linalg.cho_solve((self._factor, True), self._y)

    def predict(self, x_mc: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the noise-free values of some points."""
        scaled = (x_mc / self._scales, self._x / self._scales)
        across = self._variance * _matern(_squared_distances(*scaled))[0]
        explained = linalg.solve_triangular(self._factor, across.T, lower=True)
        left = self._variance - (explained**2).sum(axis=0)
        return across @ self._weights, np.sqrt(np.maximum(left, 1e-12))

    def believe(self, x_c: Floats, noise: float = 1.0) -> None:
        """Take the prediction for a point as if it had been observed (Ginsbourger et al. 2010).

        A copy that was made before is not changed.
        """
        mean, _ = self.predict(x_c[None])
        self._x = np.vstack([self._x, x_c])
        self._y = np.append(self._y, mean)
        self._noise = np.append(self._noise, noise)
        self._condition()


def _squared_distances(a_mc: Floats, b_nc: Floats) -> Floats:
    lengths = (a_mc**2).sum(axis=1)[:, None] + (b_nc**2).sum(axis=1)
    return np.asarray(np.maximum(lengths - 2 * a_mc @ b_nc.T, 0))


def _matern(squared: Floats) -> tuple[Floats, Floats]:
    """Return the Matern-5/2 correlation and -2 times its slope in the squared distance."""
    distance = _ROOT5 * np.sqrt(squared)
    decay = np.exp(-distance)
    return (1 + distance + distance**2 / 3) * decay, 5 / 3 * (1 + distance) * decay


def log_expected_improvement(mean: Floats, sd: Floats, best: float) -> Floats:
    """Return the logarithm of the improvement that is expected below `best`.

    It neither vanishes nor flattens where improvement is improbable (Ament et al. 2023,
    "Unexpected Improvements to Expected Improvement for Bayesian Optimization", equation 9).

    Args:
        mean: Of what is to be minimised.
        sd: Likewise, positive.
        best: The value to beat.
    """
    return np.asarray(_log_h((best - mean) / sd) + np.log(sd))


def _log_h(z: Floats) -> Floats:
    """Return log(phi(z) + z Phi(z)) with full precision for any z."""
    constant = math.log(2 * math.pi) / 2
    low = np.clip(z, -_VERY_FAR, -1.0)
    ratio = np.log(special.erfcx(-low / math.sqrt(2)) * -low) + math.log(math.pi / 2) / 2
    far = -(low**2) / 2 - constant + _log1mexp(ratio)
    lowest = np.minimum(z, -_VERY_FAR)
    very_far = -(lowest**2) / 2 - constant - 2 * np.log(-lowest)
    high = np.maximum(z, -1.0)
    near = np.log(np.exp(-(high**2) / 2 - constant) + high * special.ndtr(high))
    return np.where(z > -1, near, np.where(z > -_VERY_FAR, far, very_far))


def _log1mexp(x: Floats) -> Floats:
    """Return log(1 - exp(x)) for x < 0."""
    half = -math.log(2)
    near = np.log(-np.expm1(np.maximum(x, half)))
    return np.where(x > half, near, np.log1p(-np.exp(np.minimum(x, half))))

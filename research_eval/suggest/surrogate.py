"""What is expected of configurations that nobody has tried."""

from __future__ import annotations

import copy
import math

import numpy as np
from scipy.special import ndtr

from research_eval.suggest.axes import Encoding, Floats
from research_eval.suggest.evidence import Targets
from research_eval.suggest.gaussian import GaussianProcess, log_expected_improvement

MOST = 300
"""Observations that a model learns from: its time grows with their third power."""


class Surrogate:
    """A Gaussian process over losses in their own unit.

    Args:
        encoding: Of points as rows.
        targets: What was observed, two configurations or more; only the best half and the latest
            of more than `MOST` are taken.
        noise: Standard deviation between seeds if it was measured.
    """

    def __init__(self, encoding: Encoding, targets: Targets, noise: float | None) -> None:
        kept = _kept(targets)
        self._rows = encoding.rows([targets.tried[i].point for i in kept])
        losses = targets.losses[kept]
        self._centre = float(losses.mean())
        self._unit = float(losses.std()) or 1.0
        standard = (losses - self._centre) / self._unit
        counts = targets.counts[kept]
        self._process = GaussianProcess(self._rows, standard, 1 / counts, encoding.groups)
        self.noise = noise or math.sqrt(self._process.noise) * self._unit
        means = self.predict(self._rows)[0]
        self.best = float(means.min())
        """The lowest loss that is expected of anything tried."""

    def predict(self, rows: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the loss, without noise between seeds."""
        mean, sd = self._process.predict(rows)
        return mean * self._unit + self._centre, sd * self._unit

    def log_improvement(self, rows: Floats) -> Floats:
        """Return the logarithm of the improvement that is expected over the best."""
        return log_expected_improvement(*self.predict(rows), self.best)

    def probability(self, mean: float, sd: float) -> float:
        """Return how probably a loss is below the best."""
        return float(ndtr((self.best - mean) / max(sd, 1e-12)))

    def believe(self, row: Floats) -> None:
        """Take the prediction for a row as observed, so that the next proposal goes elsewhere."""
        self._process = copy.copy(self._process)
        self._process.believe(row)


def _kept(targets: Targets) -> np.ndarray:
    """Return the places of what is learnt from, in order: all, or the best half and the latest."""
    places = np.arange(len(targets.losses))
    if len(places) <= MOST:
        return places
    best = np.argsort(targets.losses, kind="stable")[: MOST // 2]
    rest = np.setdiff1d(places, best)
    return np.sort(np.concatenate([best, rest[-(MOST - len(best)) :]]))


class Cost:
    """Wall time, predicted from the logarithms of past ones by ridge regression.

    Args:
        encoding: Of points as rows.
        targets: What was observed.
    """

    RIDGE = 0.1

    def __init__(self, encoding: Encoding, targets: Targets) -> None:
        timed = [each for each in targets.tried if each.seconds is not None and each.seconds > 0]
        self.is_known = bool(timed)
        if not timed:
            return
        rows = encoding.rows([each.point for each in timed])
        logs = np.log([each.seconds or 1.0 for each in timed])
        self._mean, self._centre = float(logs.mean()), rows.mean(axis=0)
        away = rows - self._centre
        gram = away.T @ away + self.RIDGE * np.eye(rows.shape[1])
        self._weights = np.linalg.solve(gram, away.T @ (logs - self._mean))

    def log_seconds(self, rows: Floats) -> Floats:
        """Return the logarithm of the expected wall time; 0 if nothing is known."""
        if not self.is_known:
            return np.zeros(len(rows))
        return np.asarray(self._mean + (rows - self._centre) @ self._weights)

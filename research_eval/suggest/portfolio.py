"""What to try next with a model: mostly what promises most, beside it what hedges the model."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from research_eval.suggest import moves
from research_eval.suggest.axes import Floats, Point
from research_eval.suggest.evidence import Outcome, Tried, seed_noise
from research_eval.suggest.gaussian import log_expected_improvement
from research_eval.suggest.search import TRIES, Proposal, Search, Source
from research_eval.suggest.surrogate import Surrogate

FEWEST = 10
"""Configurations below which the space is filled evenly instead of modelled."""

ELITES = 8
SCALES = (0.02, 0.05, 0.1, 0.2)
"""Sizes of the moves from what did best, as shares of a range."""

POOL = 600
NEW = 0.35
"""Share of the candidates that are drawn from the whole space."""

ROUNDS = 2
"""How often the most promising candidates are perturbed again."""

CLIMBERS = 6
CHILDREN = 20

HEDGED = 6
"""Size of a batch that can afford a proposal which only exploits and one which only explores."""

PROMISING = 0.25
"""Share of the candidates among which the least known one is explored."""


class Portfolio(Search):
    """A `Search` that learns from what was tried."""

    def auto(self, n: int) -> Iterator[Proposal]:
        """Propose by the model, or evenly spread points while there is too little to learn from.

        Of six proposals one is a perturbation of the best that the model likes best, and one is
        the least known among the promising.
        """
        if len(self.targets.tried) < FEWEST:
            yield from self._first_steps(n)
            return
        hedges: tuple[Source, ...] = ("exploit", "explore") if n >= HEDGED else ()
        yield from self.model(n, hedges)

    def _first_steps(self, n: int) -> Iterator[Proposal]:
        """Propose one variation of the best in three, the others spread evenly."""
        num_variations = n // 3 if self.ranked else 0
        yield from self.spread(n - num_variations)
        yield from self.perturb(num_variations, 1)

    def model(self, n: int, hedges: tuple[Source, ...] = ()) -> Iterator[Proposal]:
        """Propose what the model expects most of, one after the other.

        Each proposal is believed to turn out as expected before the next is made. Another seed of
        one of the best two is proposed where knowing which is better promises more than any new
        configuration.

        Args:
            n: How many.
            hedges: What the last of them are to be.
        """
        self._learn()
        self._grow(self._first_candidates())
        for place in range(n):
            source = hedges[place - n + len(hedges)] if place >= n - len(hedges) else "model"
            found = self._next(source)
            if found is None:
                return
            self._model.believe(self.encoding.rows([found.point])[0])
            yield found

    def choose(self, points: Sequence[Point], n: int) -> list[int]:
        """Return the places of those of some points that the model expects most of.

        Args:
            points: Legal ones, none of them tried.
            n: How many.
        """
        self._learn()
        rows = self.encoding.rows(points)
        chosen: list[int] = []
        for _ in range(min(n, len(points))):
            promise = self._model.log_improvement(rows)
            promise[chosen] = -np.inf
            chosen.append(int(promise.argmax()))
            self._model.believe(rows[chosen[-1]])
        return chosen

    def _learn(self) -> None:
        """Fit the model to everything that is known; what runs now is believed."""
        self._model = Surrogate(self.encoding, self.targets, seed_noise(self._tried))
        self._unbelieving = copy.copy(self._model)
        for each in self._tried:
            if each.outcome is Outcome.UNKNOWN:
                self._model.believe(self.encoding.rows([each.point])[0])
        self._points: list[Point] = []
        self._parents: list[Tried | None] = []
        self._rows = np.empty((0, len(self.encoding.groups)))
        self._seen = set(self._taken)
        self._counts = {each.point.key(): len(each.losses) for each in self._tried}

    # ---------------------------------------------------------------------------- the candidates

    def _first_candidates(self) -> Iterator[tuple[Point, Tried | None]]:
        """Yield points of the whole space, and perturbations of what the model holds best."""
        arms = [*self.encoding.axes]
        for place in range(round(POOL * NEW)):
            arm = arms[place % len(arms)]
            yield moves.anywhere(arm, self.encoding.axes[arm], self._rng), None
        elites = self._elites()
        for place in range(POOL - round(POOL * NEW)):
            parent = elites[place % len(elites)]
            yield self._child(parent.point, SCALES[place % len(SCALES)]), parent

    def _elites(self) -> list[Tried]:
        means, _ = self._model.predict(self.encoding.rows([each.point for each in self.ranked]))
        return [self.ranked[place] for place in np.argsort(means, kind="stable")[:ELITES]]

    def _child(self, point: Point, scale: float) -> Point:
        return moves.few(point, self.encoding.axes[point.arm], self._rng, scale)

    def _grow(self, found: Iterable[tuple[Point, Tried | None]]) -> None:
        """Take the legal form of those points among the candidates that are new."""
        new = []
        for point, parent in found:
            mended = self._mend(point)
            if mended.key() not in self._seen:
                self._seen.add(mended.key())
                new.append((mended, parent))
        if new:
            points, parents = zip(*new, strict=True)
            self._points += points
            self._parents += parents
            self._rows = np.vstack([self._rows, self.encoding.rows(points)])

    def _climb(self) -> None:
        """Perturb the most promising candidates, and then the most promising of all again."""
        for _ in range(ROUNDS):
            if not self._points:
                return
            best = np.argsort(-self._promise(), kind="stable")[:CLIMBERS]
            scales = [SCALES[place % len(SCALES)] for place in range(CHILDREN)]
            starts = [(self._points[place], self._parents[place]) for place in best]
            self._grow([(self._child(p, each), parent) for p, parent in starts for each in scales])

    # -------------------------------------------------------------------------------- the choice

    def _promise(self) -> Floats:
        """Return what is expected of each candidate, in logarithms; per second if time is short."""
        promise = self._model.log_improvement(self._rows)
        if self._has_budget:
            promise = promise - self._cost.log_seconds(self._rows)
        return promise

    def _score(self, source: Source) -> Floats:
        mean, sd = self._model.predict(self._rows)
        promise = self._promise()
        match source:
            case "exploit":
                is_child = np.array([parent is not None for parent in self._parents])
                return np.where(is_child, -mean, -np.inf)
            case "explore":
                return np.where(promise >= np.quantile(promise, 1 - PROMISING), sd, -np.inf)
        return promise

    def _next(self, source: Source) -> Proposal | None:
        self._climb()
        if not self._points:
            return None
        scores = self._score(source)
        if source == "model":
            again = self._replicate(float(np.exp(self._model.log_improvement(self._rows).max())))
            if again is not None:
                return again
        for place in np.argsort(-scores, kind="stable")[:TRIES]:
            point = self._points[place]
            if self._may(point):
                return self._modelled(self._made(point, source, self._parents[place]))
        return None

    def _modelled(self, proposal: Proposal) -> Proposal:
        """Return the proposal with what is expected of it, whatever was believed since."""
        row = self.encoding.rows([proposal.point])
        mean, sd = (float(each[0]) for each in self._unbelieving.predict(row))
        probability = self._unbelieving.probability(mean, sd)
        return replace(proposal, mean=mean, sd=sd, probability=probability)

    # ------------------------------------------------------------------------------- more evidence

    def _replicate(self, gain: float) -> Proposal | None:
        """Propose another seed of one of the best two if that promises more than `gain`.

        What a seed promises is how much better the choice between the two is expected to be after
        it (the knowledge gradient, Frazier et al. 2008): with noise s and n seeds, it moves a mean
        by s / sqrt(n (n + 1)).
        """
        best = self.ranked[:2]
        if len(best) < 2:
            return None
        counts = [self._counts[each.point.key()] for each in best]
        place = int(counts[1] < counts[0])
        moved = self._model.noise / math.sqrt(counts[place] * (counts[place] + 1))
        apart = np.array([best[1].loss - best[0].loss])
        promised = math.exp(log_expected_improvement(apart, np.array([moved]), 0.0)[0])
        if promised <= gain or not self._fits(best[place].point):
            return None
        self._counts[best[place].point.key()] += 1
        return self._modelled(self._made(best[place].point, "replicate", best[place]))

"""What to try next without a model: points from the whole space, and perturbations of the best."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from research_eval.hpo.space import Space
from research_eval.suggest import moves
from research_eval.suggest.axes import Encoding, Floats, Point
from research_eval.suggest.evidence import Outcome, Tried, targets
from research_eval.suggest.surrogate import Cost

Source = Literal["model", "exploit", "explore", "perturb", "random", "spread", "tpe", "replicate"]

TRIES = 200
"""Points that are drawn before a space counts as exhausted."""

Mend = Callable[[Point], Point]
Accept = Callable[[Point], bool]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A configuration to try.

    Attributes:
        source: How it was found; a `replicate` is one that was tried, with a seed that was not.
        parent: What it was derived from, or is most similar to.
        mean: Expected loss, None without a model; likewise `sd`, its standard deviation.
        probability: That it is better than the best.
        seconds: Expected wall time.
        distance: To the most similar configuration tried, in ranges.
    """

    point: Point
    source: Source
    parent: Tried | None = None
    mean: float | None = None
    sd: float | None = None
    probability: float | None = None
    seconds: float | None = None
    distance: float | None = None


class Search:
    """Proposes points; the same evidence and seed give the same ones.

    Args:
        spaces: What is searched in each arm.
        mend: Makes a point legal.
        tried: Everything on record, in its order; what runs is among it.
        accept: Whether a point may be proposed; asked once for each that would be.
        seed: Of chance.
        magnitude: Of the perturbations, as a share of a range.
        top_n: How many of the best are perturbed.
        budget: Seconds that all proposals together may take.
    """

    def __init__(
        self,
        spaces: Mapping[str, Space],
        mend: Mend,
        tried: Sequence[Tried],
        *,
        accept: Accept = lambda _: True,
        seed: int = 0,
        magnitude: float = 0.1,
        top_n: int = 3,
        budget: float | None = None,
    ) -> None:
        self.encoding = Encoding(spaces)
        self.spaces = spaces
        self._mend = mend
        self._accept = accept
        self._seed = seed
        self._rng = np.random.default_rng(seed)
        self._magnitude = magnitude
        self._top_n = top_n
        self._tried = tuple(tried)
        self._taken = {each.point.key() for each in tried}
        self.targets = targets(self._tried)
        self.ranked = self._ranked()
        self._cost = Cost(self.encoding, self.targets)
        self._left = budget
        self._has_budget = budget is not None and self._cost.is_known

    def _ranked(self) -> list[Tried]:
        """Return what completed, best first; equals in their order on record."""
        completed = [each for each in self.targets.tried if each.outcome is Outcome.COMPLETED]
        return sorted(completed, key=lambda each: each.loss)

    # ------------------------------------------------------------------------------- one by one

    def propose_first(
        self, points: Iterable[Point], source: Source, parent: Tried | None = None
    ) -> Proposal | None:
        """Propose the first of some points that may be."""
        for point, _ in zip(points, range(TRIES), strict=False):
            mended = self._mend(point)
            if self._may(mended):
                return self._made(mended, source, parent)
        return None

    def _may(self, point: Point) -> bool:
        key = point.key()
        if key in self._taken:
            return False
        self._taken.add(key)
        return self._fits(point) and self._accept(point)

    def _fits(self, point: Point) -> bool:
        seconds = self._seconds(self.encoding.rows([point]))
        return not self._has_budget or (seconds or 0) <= (self._left or 0)

    def _seconds(self, row: Floats) -> float | None:
        return float(np.exp(self._cost.log_seconds(row)[0])) if self._cost.is_known else None

    def _made(self, point: Point, source: Source, parent: Tried | None) -> Proposal:
        row = self.encoding.rows([point])
        seconds = self._seconds(row)
        if self._left is not None:
            self._left -= seconds or 0.0
        nearest, distance = self._nearest(point.arm, row)
        return Proposal(point, source, parent or nearest, seconds=seconds, distance=distance)

    def _nearest(self, arm: str, row: Floats) -> tuple[Tried | None, float | None]:
        """Return the most similar of an arm: what differs elsewhere is no change of values."""
        tried = [each for each in self.targets.tried if each.point.arm == arm]
        if not tried:
            return None, None
        rows = self.encoding.rows([each.point for each in tried])
        away = np.sqrt(((rows - row) ** 2).sum(axis=1))
        place = int(away.argmin())
        return tried[place], float(away[place])

    # ------------------------------------------------------------------- strategies without model

    def random(self, n: int) -> Iterator[Proposal]:
        """Propose points drawn from the whole space."""
        arms = [*self.encoding.axes]

        def points() -> Iterator[Point]:
            while True:
                arm = arms[self._rng.integers(len(arms))]
                yield moves.anywhere(arm, self.encoding.axes[arm], self._rng)

        return self._several(n, lambda _: self.propose_first(points(), "random"))

    def spread(self, n: int) -> Iterator[Proposal]:
        """Propose points that fill the space evenly."""
        points = moves.spread(self.encoding.axes, self._seed + len(self._tried))
        return self._several(n, lambda _: self.propose_first(points, "spread"))

    def perturb(self, n: int, variations: int) -> Iterator[Proposal]:
        """Propose so many variations of each of the best, then more of the first ones."""
        order = [each for each in self.ranked[: self._top_n] for _ in range(variations)]

        def one(place: int) -> Proposal | None:
            return self._variation(order[place % len(order)], "perturb")

        return self._several(n if order else 0, one)

    def _variation(self, parent: Tried, source: Source) -> Proposal | None:
        axes = self.encoding.axes[parent.point.arm]
        points = (moves.near(parent.point, axes, self._rng, self._magnitude) for _ in range(TRIES))
        return self.propose_first(points, source, parent)

    @staticmethod
    def _several(n: int, one: Callable[[int], Proposal | None]) -> Iterator[Proposal]:
        for place in range(n):
            found = one(place)
            if found is None:
                return
            yield found

"""Optuna's TPE, told of everything on record."""

from __future__ import annotations

from collections.abc import Iterator

from research_eval.hpo.sampling import Outcome, Sampler
from research_eval.hpo.spec import Objective
from research_eval.suggest.axes import Point
from research_eval.suggest.search import Proposal, Search


def warm_tpe(search: Search, n: int, seed: int) -> Iterator[Proposal]:
    """Propose points by TPE.

    Args:
        search: What is known, and what may be proposed.
        n: How many.
        seed: Of chance.
    """
    sampler = Sampler("tpe", search.spaces, [Objective("loss", "min", None)], seed)
    known = search.targets
    pairs = zip(known.tried, known.losses, strict=True)
    for number, (each, loss) in enumerate(pairs):
        sampler.learn(number, each.point.arm, each.point.params, Outcome((float(loss),)))

    def points(number: int) -> Iterator[Point]:
        attempt = 0
        while True:
            proposed = sampler.propose(number, attempt)
            if proposed is None:
                return
            yield Point(*proposed)
            attempt += 1

    for place in range(n):
        found = search.propose_first(points(len(known.tried) + place), "tpe")
        if found is None:
            return
        yield found

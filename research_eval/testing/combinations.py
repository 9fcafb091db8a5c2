"""Combinations of modes: all of them, or a few in which every two values meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

Combination = dict[str, Any]


def all_combinations(
    axes: Mapping[str, Sequence[Any]], is_legal: Callable[[Combination], bool]
) -> list[Combination]:
    """Return every legal combination of one value per axis.

    Args:
        axes: The hashable values of each axis by its name.
        is_legal: Whether a combination makes sense.
    """
    made = (dict(zip(axes, values, strict=True)) for values in product(*axes.values()))
    return [each for each in made if is_legal(each)]


def pairwise(
    axes: Mapping[str, Sequence[Any]], is_legal: Callable[[Combination], bool]
) -> list[Combination]:
    """Return few combinations in which any two values that can meet do meet.

    Most mistakes need two things to come together; all pairs take tens of combinations where all
    combinations take thousands. Chosen greedily, so the same every time, and near the fewest.

    Args:
        axes: The hashable values of each axis by its name.
        is_legal: Whether a combination makes sense.
    """
    candidates = [
        (each, frozenset(combinations(each.items(), 2)))
        for each in all_combinations(axes, is_legal)
    ]
    left = set().union(*(pairs for _each, pairs in candidates))
    chosen = []
    while left:
        best, pairs = max(candidates, key=lambda candidate: len(candidate[1] & left))
        left -= pairs
        chosen.append(best)
    return chosen

"""Who is compared with whom, on which runs, and what the comparison allows to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from research_eval.analysis import statistics, words
from research_eval.analysis.arms import Chosen, are_equal, budgets, choose
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.statistics import Difference

VERDICT_ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """The family of contrasts that Holm's correction is about.

    Attributes:
        pairs: Candidate and baseline, or all pairs.
        is_planned: Whether a candidate was named; else it is exploratory.
        chosen: What stands for each arm.
        obstacle: Why no verdict can be given, for the arms that it concerns.
        limit: Each arm was chosen from so many configurations, to make budgets equal; None for all.
    """

    pairs: tuple[tuple[str, str], ...]
    is_planned: bool
    chosen: Mapping[str, Chosen]
    obstacle: Mapping[tuple[str, str], str]
    limit: int | None


def plan(evidence: Evidence) -> Plan:
    """Decide who is compared with whom, at equal tuning budget."""
    question = evidence.question
    candidate = question.candidate
    if candidate is not None:
        others = question.baselines or evidence.arms
        pairs = tuple((candidate, arm) for arm in others if arm != candidate)
    else:
        pairs = tuple(combinations(question.baselines or evidence.arms, 2))
    arms = tuple(dict.fromkeys(arm for pair in pairs for arm in pair))
    chosen = {arm: each for arm in arms if (each := choose(evidence, arm)) is not None}
    spent = budgets(evidence)
    tried = {arm: spent[arm].configurations if arm in spent else 0 for arm in chosen}
    limit = None
    is_confirmed = any(each.phase == "confirm" for each in chosen.values())
    if len(chosen) > 1 and not is_confirmed and not are_equal(tried.values()):
        limit = min(tried.values())
        chosen = {a: each for a in chosen if (each := choose(evidence, a, limit=limit)) is not None}
        tried = dict.fromkeys(chosen, limit)
    obstacle = {pair: _obstacle(pair, chosen, tried) for pair in pairs}
    return Plan(
        pairs=pairs,
        is_planned=candidate is not None,
        chosen=chosen,
        obstacle={pair: why for pair, why in obstacle.items() if why},
        limit=limit,
    )


def _obstacle(pair: tuple[str, str], chosen: Mapping[str, Chosen], tried: Mapping[str, int]) -> str:
    """Return why there can be no verdict about two arms; empty if there can."""
    missing = [arm for arm in pair if arm not in chosen]
    if missing:
        return f"no run of {words.listed(missing)} came to a score"
    first, second = (chosen[arm] for arm in pair)
    if not are_equal(tried[arm] for arm in pair):
        tuned = [f"{arm} with {words.counted(tried[arm], 'configuration')}" for arm in pair]
        return f"they were tuned unequally, {words.listed(tuned)}"
    confirmed = [each.arm for each in (first, second) if each.phase == "confirm"]
    if len(confirmed) == 1:
        return f"only {confirmed[0]} was confirmed on seeds that its search had not seen"
    single = [each.arm for each in (first, second) if len(each.values) < 2]
    if single:
        has = "have" if len(single) > 1 else "has"
        return f"{words.listed(single)} {has} one seed, which shows no spread"
    if not np.ptp(first.values) and not np.ptp(second.values):
        return "the seeds of neither spread, so nothing can be tested"
    return ""


def common_seeds(first: Chosen, second: Chosen) -> tuple[list[float], list[float]]:
    """Return the scores of the seeds that both have, in the same order.

    A seed that an arm has twice counts with its last run.
    """
    scores = [
        {s: float(v) for s, v in zip(each.seeds, each.values, strict=True) if s is not None}
        for each in (first, second)
    ]
    both = sorted(scores[0].keys() & scores[1].keys())
    return [scores[0][seed] for seed in both], [scores[1][seed] for seed in both]


def matched_axis(evidence: Evidence, chosen: Chosen) -> str:
    """Return on what axis a configuration was made to cost as much as another; empty if it was not.

    Of costs that no run records, as the time of a step, this is all that is known.
    """
    return str(evidence.runs[chosen.runs[0]].params.get("origin.match.axis") or "")


def verdict(difference: Difference, p_holm: float, sign: int, p_margin: float) -> str:
    """Return "better", "worse", "same" or "open" for the first of two arms.

    Args:
        difference: First minus second.
        p_holm: Of the contrast, adjusted.
        sign: 1 if higher is better.
        p_margin: Probability that the difference is within the margin; NaN without one.
    """
    if p_margin >= statistics.CONFIDENCE:
        return "same"
    if p_holm <= VERDICT_ALPHA:
        return "better" if sign * float(difference.delta) > 0 else "worse"
    return "open"


def adjusted(differences: Sequence[Difference | None]) -> list[float]:
    """Return Holm's p-values; a contrast that could not be made counts as one of them."""
    return statistics.holm([np.nan if each is None else float(each.p) for each in differences])

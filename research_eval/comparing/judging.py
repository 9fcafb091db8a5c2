"""The decision: a difference must be more than seed noise, and more than the luck of the search.

The fresh seeds of two winners say whether these two configurations differ. They do not say whether
the ideas do: each winner is the best of a few trials, and another few would have found another
one. Two arms that are the same, tuned apart, have winners that truly differ. So a contrast has two
p-values, and the larger one counts: no difference is claimed that either of them can explain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from research_eval.analysis import equal_costs, statistics, words
from research_eval.analysis.arms import choose_all
from research_eval.analysis.comparing import VERDICT_ALPHA
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import Output
from research_eval.analysis.outputs import contrasts
from research_eval.analysis.trials import trials_of


def luck(first: Sequence[float], second: Sequence[float]) -> float:
    """Return how often the best of two arms lie as far apart if trials are dealt out by chance.

    The permutation test of the difference of two maxima, exact and in closed form: if the trials
    of both are independent draws of one search, any way to deal them out to the two is as likely.

    Args:
        first: Scores of an arm's trials, higher is better; -inf where there is none.
        second: Likewise.

    Returns:
        A p-value; 1 if the best are equal.
    """
    observed = abs(max(first) - max(second))
    pool = sorted([*first, *second], reverse=True)
    if not observed > 0:
        return 1.0
    # The best lie so far apart if the arm of the best one also has all that lie nearer to it.
    near = sum(pool[0] - score < observed for score in pool)
    total = math.comb(len(pool), len(first))
    ways = sum(
        math.comb(len(pool) - near, len(arm) - near) for arm in (first, second) if len(arm) >= near
    )
    return min(1.0, ways / total)


def frame(evidence: Evidence) -> pd.DataFrame:
    """Return the contrasts with both p-values; `p_holm` is of the larger one, as is the verdict.

    Columns beside those of the analysis: `p_seeds` and `p_search`, of fresh seeds and of the trials
    of the search; `p_holm_seeds`, what the seeds alone would say.
    """
    table = contrasts.frame(evidence)
    if "p" not in table:  # there is an obstacle in each
        return table
    trials = trials_of(evidence)
    scores = {
        str(arm): (evidence.question.sign * own["score"]).fillna(-math.inf).tolist()
        for arm, own in trials.groupby("arm")
    }
    table["p_seeds"], table["p_holm_seeds"] = table["p"], table["p_holm"]
    pairs = zip(table["first"], table["second"], table["p_seeds"], strict=True)
    table["p_search"] = [
        np.nan if np.isnan(p) else luck(scores[first], scores[second]) for first, second, p in pairs
    ]
    table["p"] = table[["p_seeds", "p_search"]].max(axis="columns", skipna=False)
    table["p_holm"] = statistics.holm(table["p"].tolist())
    is_claimed = table["verdict"].isin(["better", "worse"])
    table.loc[is_claimed & ~(table["p_holm"] <= VERDICT_ALPHA), "verdict"] = "open"
    return table


def sentences(table: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Say of each contrast what it shows, and at what costs."""
    return [_sentence(row, evidence) for _, row in table.iterrows()]


def _sentence(row: pd.Series[Any], evidence: Evidence) -> str:
    first, second = row["first"], row["second"]
    if row["verdict"] == "none":
        return f"No verdict on {first} and {second}: {row['obstacle']}."
    return f"{_claim(row, evidence)}: {_numbers(row, evidence)}.{_reason(row, evidence)}"


def _claim(row: pd.Series[Any], evidence: Evidence) -> str:
    first, second = row["first"], row["second"]
    if row["verdict"] == "open":
        return f"No difference between {first} and {second} shown"
    if row["verdict"] == "same":
        margin = _difference(evidence.question.margin or 0, evidence)
        return f"{first} and {second} are equivalent within {margin}"
    return f"{first} is {row['verdict']} than {second}"


def _reason(row: pd.Series[Any], evidence: Evidence) -> str:
    """Return what a verdict rests on beside p, or why there is none."""
    if row["verdict"] == "same":
        return (
            f" The true difference of the two winners is smaller with probability "
            f"{row['within_margin']:.2g}; other winners were not looked at."
        )
    if row["verdict"] != "open":
        return ""
    if row["p_holm_seeds"] <= VERDICT_ALPHA:
        return (
            f" The two winners differ on fresh seeds (p_Holm {_p(row['p_holm_seeds'])}), but the "
            f"luck of the search can explain that: the best of trials dealt out by chance lie as "
            f"far apart with p {_p(row['p_search'])}."
        )
    smallest = min(row["n_first"], row["n_second"])
    return f" {smallest} seeds can detect {_difference(row['detectable'], evidence)} at best."


def _difference(delta: float, evidence: Evidence) -> str:
    return f"{words.rounded(abs(delta) * words.scale(evidence.question))} {_unit(evidence)}"


def _unit(evidence: Evidence) -> str:
    return "points" if evidence.question.is_share else words.unit(evidence.question)


def _numbers(row: pd.Series[Any], evidence: Evidence) -> str:
    """Return scores, the difference with its interval, its p and the costs."""
    chosen, factor = choose_all(evidence), words.scale(evidence.question)
    scores = [f"{arm} {_score(chosen[arm].values)}" for arm in (row["first"], row["second"])]
    delta, low, high = (row[name] * factor for name in ("delta", "low", "high"))
    places = max(0, 1 - math.floor(math.log10(high - low))) if high > low else 2
    difference = round(float(delta), places) + 0.0  # not -0
    interval = f"{difference:+.{places}f} {_unit(evidence)} [{low:.{places}f}, {high:.{places}f}]"
    return ", ".join(
        [f"{', '.join(scores)}; {interval}", f"p_Holm {_p(row['p_holm'])}", *_costs(row)]
    )


def _score(values: Any) -> str:
    low, high = statistics.t_interval(values)
    return words.plus_minus(float(np.mean(values)), float(high - low) / 2)


def _p(p: float) -> str:
    return words.probability(p).removeprefix("= ")


def _costs(row: pd.Series[Any]) -> list[str]:
    """Return `equal active parameters ± 1 %`, `1.4x the FLOPs per token`."""
    ratios = {axis.column: float(row[axis.column]) for axis in equal_costs.AXES}
    equal, unequal, _ = equal_costs.split(ratios)
    told = [f"equal {axis.label} ± {100 * axis.tolerance:g} %" for axis in equal]
    return told + [f"{ratios[axis.column]:.3g}x the {axis.label}" for axis in unequal]


VERDICTS: Output = replace(
    contrasts.OUTPUTS[0],
    title="Verdict",
    order=0,
    meaning=(
        "The planned contrasts. p_seeds is of Welch's test on fresh seeds, p_search how often the "
        "best of trials dealt out by chance lie as far apart; the larger one counts, and p_Holm is "
        "it adjusted for the number of contrasts. Scores are mean ± half of their 95 % interval."
    ),
    frame=frame,
    shown=(
        "first",
        "second",
        "n_first",
        "n_second",
        "delta",
        "low",
        "high",
        "p_seeds",
        "p_search",
        "p_holm",
        "verdict",
        "test_delta",
        "detectable",
        "seeds_needed",
        *(axis.column for axis in equal_costs.AXES),
        "obstacle",
    ),
    sentences=sentences,
)

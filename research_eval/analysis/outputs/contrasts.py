"""Is the candidate better than the baselines, and is the difference more than seed noise?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from research_eval.analysis import equal_costs, statistics, style, words
from research_eval.analysis.arms import Chosen
from research_eval.analysis.comparing import (
    Plan,
    adjusted,
    common_seeds,
    matched_axis,
    plan,
    verdict,
)
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import NothingToShowError, Output
from research_eval.analysis.question import Question
from research_eval.analysis.statistics import Difference
from research_eval.quantities import number

_ROLES = ("first", "second")


def frame(evidence: Evidence) -> pd.DataFrame:
    """Return a row for each contrast; `delta` is first minus second, in units of the metric.

    Where there is an obstacle, the row says so and has no test.
    """
    family = plan(evidence)
    if not family.pairs:
        raise NothingToShowError("there is one architecture, and nothing to compare it with")
    (rows,) = contrast_rows([(evidence, family)])
    return pd.DataFrame(rows)


def contrast_rows(families: Sequence[tuple[Evidence, Plan]]) -> list[list[dict[str, Any]]]:
    """Return a row for each contrast of each plan; p_Holm is adjusted for all of them together."""
    contrasts = [(*family, pair) for family in families for pair in family[1].pairs]
    differences = [_welch(family, pair) for _, family, pair in contrasts]
    in_pairs = [_paired(family, pair) for _, family, pair in contrasts]
    p_holm, p_paired_holm = adjusted(differences), adjusted(in_pairs)
    rows = []
    for place, (evidence, family, pair) in enumerate(contrasts):
        row = _who(evidence, family, pair) | _costs(evidence, family, pair)
        difference = differences[place]
        if difference is not None:
            p_margin = _within_margin(evidence, difference)
            row |= _test(difference, p_holm[place], evidence, p_margin)
            row |= _in_pairs(in_pairs[place], p_paired_holm[place])
            row |= {"within_margin": p_margin, **_beside(evidence, family, pair, len(contrasts))}
        rows.append(row)
    left = iter(rows)
    return [[*islice(left, len(family.pairs))] for _, family in families]


def _welch(family: Plan, pair: tuple[str, str]) -> Difference | None:
    if pair in family.obstacle:
        return None
    return statistics.welch(*(family.chosen[arm].values for arm in pair))


def _paired(family: Plan, pair: tuple[str, str]) -> Difference | None:
    if pair in family.obstacle:
        return None
    return statistics.paired(*common_seeds(*(family.chosen[arm] for arm in pair)))


def _within_margin(evidence: Evidence, difference: Difference) -> float:
    margin = evidence.question.margin
    return np.nan if margin is None else statistics.within_margin(difference, margin)


def _who(evidence: Evidence, family: Plan, pair: tuple[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "first": pair[0],
        "second": pair[1],
        "kind": "planned" if family.is_planned else "exploratory",
        "metric": evidence.question.metric,
        "verdict": "none",
        "obstacle": family.obstacle.get(pair, ""),
        "chosen_from": np.nan if family.limit is None else family.limit,
    }
    for role, arm in zip(_ROLES, pair, strict=True):
        each = family.chosen.get(arm)
        row |= {
            f"phase_{role}": each.phase if each else "",
            f"n_{role}": len(each.values) if each else 0,
            f"started_{role}": each.started if each else 0,
            f"tried_{role}": each.tried if each else 0,
            f"mean_{role}": each.values.mean() if each else np.nan,
        }
    return row


def _test(
    difference: Difference, p_holm: float, evidence: Evidence, p_margin: float
) -> dict[str, Any]:
    return {
        "verdict": verdict(difference, p_holm, evidence.question.sign, p_margin),
        "delta": float(difference.delta),
        "low": float(difference.low),
        "high": float(difference.high),
        "p": float(difference.p),
        "p_holm": p_holm,
    }


def _in_pairs(difference: Difference | None, p_holm: float) -> dict[str, Any]:
    if difference is None:
        return {}
    return {
        "paired_delta": float(difference.delta),
        "paired_low": float(difference.low),
        "paired_high": float(difference.high),
        "paired_p": float(difference.p),
        "paired_p_holm": p_holm,
    }


def _costs(evidence: Evidence, family: Plan, pair: tuple[str, str]) -> dict[str, Any]:
    """Return the ratio of each cost, and on what axes the two were matched."""
    first, second = (family.chosen.get(arm) for arm in pair)
    if first is None or second is None:
        return {axis.column: np.nan for axis in equal_costs.AXES}
    return {
        **equal_costs.ratios(evidence, first, second),
        "matched_first": matched_axis(evidence, first),
        "matched_second": matched_axis(evidence, second),
    }


def _beside(
    evidence: Evidence, family: Plan, pair: tuple[str, str], contrasts: int
) -> dict[str, Any]:
    """Return what helps to judge a test that is one of so many: effect, robustness, power."""
    first, second = (family.chosen[arm] for arm in pair)
    sign, alpha = evidence.question.sign, statistics.ALPHA / contrasts
    share, low, high = statistics.improvement(sign * first.values, sign * second.values)
    deviations = float(first.values.std(ddof=1)), float(second.values.std(ddof=1))
    seeds = len(first.values), len(second.values)
    wanted = evidence.question.margin or abs(first.values.mean() - second.values.mean())
    needed = statistics.seeds_needed(wanted, deviations, alpha) if wanted else None
    return {
        "improvement": share,
        "improvement_low": low,
        "improvement_high": high,
        "p_permutation": statistics.permutation_p(first.values, second.values),
        "detectable": statistics.detectable(deviations, seeds, alpha),
        "seeds_needed": np.nan if needed is None else needed,
        "test_delta": _test_delta(evidence, first, second),
    }


def _test_delta(evidence: Evidence, first: Chosen, second: Chosen) -> float:
    metric = evidence.question.test_metric
    means = []
    for chosen in (first, second):
        values = (evidence.runs[run].value(metric) if metric else None for run in chosen.runs)
        known = [value for value in values if value is not None]
        means.append(fmean(known) if known else np.nan)
    return means[0] - means[1]


def sentences(table: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Say of each contrast what it shows."""
    told = [sentence(row, evidence) for _, row in table.iterrows()]
    if table["kind"].iloc[0] == "exploratory" and len(table):
        told.insert(0, "No candidate was named, so all pairs are compared: this is exploratory.")
    limit = table["chosen_from"].iloc[0]
    if np.isfinite(limit):
        first = (
            f"the {limit:.0f} that were tried first" if limit > 1 else "the first that was tried"
        )
        told.insert(
            0, f"Tuning budgets differ, so each architecture stands by its best of {first}."
        )
    searched = (table[["phase_first", "phase_second"]] == "search").any(axis="columns")
    if (searched & (table["obstacle"] == "")).any():
        told.append("The seeds compared are those of the search, which flatter what it chose.")
    if searched.any():
        told.append("Seeds that a search has not seen: research-eval hpo --confirm 5.")
    return told


def sentence(row: pd.Series[Any], evidence: Evidence, *, with_costs: bool = True) -> str:
    """Return what one contrast shows, of a verdict also at what cost."""
    question = evidence.question
    first, second = row["first"], row["second"]
    if row["obstacle"]:
        return f"No verdict on {first} and {second}: {row['obstacle']}."
    counts = [words.ok_of(row[f"n_{role}"], row[f"started_{role}"]) for role in _ROLES]
    n = f"n = {words.listed(counts)}"
    p_holm = f"p_Holm {words.probability(row['p_holm'])}"
    if row["verdict"] == "same":
        margin = words.difference(question.margin or 0, question)
        within = f"{row['within_margin']:.2g}"
        return (
            f"{first} and {second} differ by less than the margin of {margin} "
            f"with probability {within}, {n}."
        )
    if row["verdict"] == "open":
        return f"{_open(row, question, first, second)} ({n}, {p_holm})."
    winner, loser = (first, second) if row["verdict"] == "better" else (second, first)
    half = (row["high"] - row["low"]) / 2
    by = words.difference_with_half(row["delta"], half, question)
    costs = _at_costs(row, winner == first) if with_costs else ""
    return f"{winner} beats {loser} by {by}{costs}, {n}, {p_holm}."


def _open(row: pd.Series[Any], question: Question, first: str, second: str) -> str:
    smallest = min(row["n_first"], row["n_second"])
    can = words.difference(row["detectable"], question)
    text = (
        f"No difference between {first} and {second} shown: {smallest} seeds can detect "
        f"{can} at best"
    )
    if not question.margin and abs(row["delta"]) < 1e-12:
        return f"{text}, and the means are equal"
    if question.margin:
        goal = f"the margin of {words.difference(question.margin, question)}"
    else:
        goal = f"the observed {words.difference(row['delta'], question)}"
    if np.isfinite(row["seeds_needed"]):
        return f"{text}, and {goal} would take {row['seeds_needed']:.0f} seeds each"
    return f"{text}, and {goal} would take more than {statistics.MAX_SEEDS:,} each"


def _at_costs(row: pd.Series[Any], is_first: bool) -> str:
    """Return in which costs the winner equals the loser, in which not, and what was matched."""
    known = {axis.column: row[axis.column] for axis in equal_costs.AXES}
    ratio = known if is_first else {name: 1 / (each or np.nan) for name, each in known.items()}
    equal, unequal, _ = equal_costs.split(ratio)
    times = [f"{number(ratio[axis.column])} times the {axis.label}" for axis in unequal]
    told = [f"at equal {words.listed(axis.label for axis in equal)}"] if equal else []
    told += [f"with {words.listed(times)}"] if unequal else []
    axes = {axis: [r for r in _ROLES if row[f"matched_{r}"] == axis] for axis in _matched_on(row)}
    matched = [
        f" ({words.listed(row[role] for role in roles)} {'was' if len(roles) == 1 else 'were'} "
        f"matched on {axis})"
        for axis, roles in axes.items()
    ]
    return "".join([" " if told else "", " but ".join(told), *matched])


def _matched_on(row: pd.Series[Any]) -> list[str]:
    return [axis for role in _ROLES if (axis := row[f"matched_{role}"])]


def draw(table: pd.DataFrame, evidence: Evidence) -> Figure:
    """Draw each difference with its interval beside the line of no difference."""
    tested = table[table["obstacle"] == ""].reset_index(drop=True)
    if not len(tested):
        raise NothingToShowError("no contrast could be tested")
    question = evidence.question
    factor, colour = words.scale(question), style.colours(evidence.arms)
    made, (axes,) = style.figure(7.0, 1.1 + 0.42 * len(tested))
    if question.margin:
        axes.axvspan(-question.margin * factor, question.margin * factor, color=style.GRID, lw=0)
    axes.axvline(0, color=style.MUTED, lw=1)
    for place, row in enumerate(tested.to_dict("records")):
        delta, low, high = (row[name] * factor for name in ("delta", "low", "high"))
        ink = colour[row["first"] if question.sign * delta >= 0 else row["second"]]
        inside = ink if row["verdict"] in ("better", "worse") else "white"
        axes.plot([low, high], [place, place], lw=2, color=ink, solid_capstyle="butt")
        axes.plot([delta], [place], "o", ms=7, color=ink, mfc=inside, mew=1.5)
    names = map(style.versus, tested["first"], tested["second"])
    notes = [f"p_Holm {words.probability(p)}" for p in tested["p_holm"]]
    style.label_rows(axes, [*names], notes)
    better = "right" if question.is_max else "left"
    axes.set_xlabel(f"difference in {words.unit(question)} with 95 % interval; better is {better}")
    return made


OUTPUTS = (
    Output(
        name="contrasts",
        title="Contrasts",
        order=30,
        meaning=(
            "What stands for each architecture, compared by Welch's test; p_Holm is adjusted for "
            "the number of contrasts, a filled mark is a difference that it supports. It is about "
            "these tuned configurations; another search may find others."
        ),
        frame=frame,
        shown=(
            "first",
            "second",
            "kind",
            "n_first",
            "n_second",
            "delta",
            "low",
            "high",
            "p",
            "p_holm",
            "paired_p_holm",
            "improvement",
            "improvement_low",
            "improvement_high",
            "within_margin",
            "detectable",
            "seeds_needed",
            "test_delta",
            "verdict",
            "obstacle",
        ),
        draw=draw,
        sentences=sentences,
    ),
)

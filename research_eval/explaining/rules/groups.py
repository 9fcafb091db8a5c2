"""Where the difference lies: classes and domains of what `research-eval evaluate` predicted."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist, fmean

from research_eval.analysis.statistics import ALPHA
from research_eval.explaining.commands import evaluate
from research_eval.explaining.finding import Finding, Lack, Rule
from research_eval.explaining.pair import Pair
from research_eval.explaining.side import Side
from research_eval.quantities import number
from research_eval.records import RunRecord

_MANY = {"label": "classes", "domain": "domains"}

SHOWN = 3
"""Groups that a sentence names."""

Place = tuple[str, str | None, str]
"""Split, data and kind of weights: only equal ones are compared."""


@dataclass(frozen=True, slots=True)
class _Groups:
    """Scores of a side by the number of a group, means over its evaluated runs.

    Attributes:
        names: Of the groups.
    """

    scores: Mapping[int, float]
    rows: Mapping[int, float]
    names: tuple[str, ...]


def _score(pair: Pair, by: str) -> str:
    """Return the score whose mean over groups makes up the metric, or comes closest to it."""
    if pair.metric.endswith("f1"):
        return "f1" if by == "label" else "acc"
    return "acc" if pair.metric.endswith("acc") and by != "label" else "loss"


def concentrated(
    pair: Pair, side: Side, other: Side, threshold: float, *, by: str
) -> Finding | Lack | None:
    """Ask which groups make up the difference."""
    mine, theirs = (_by_place(each, by, _score(pair, by)) for each in (side, other))
    common = [place for place in mine if place in theirs]
    if not common:
        return _lack(side, other) if by == "label" else None
    first, second = mine[common[-1]], theirs[common[-1]]
    score = _score(pair, by)
    parts = _parts(pair, first, second, by)
    total = math.fsum(parts.values())
    if len(parts) < 2 or total <= 0:
        return None
    worst = sorted(parts, key=parts.__getitem__, reverse=True)[:SHOWN]
    heavy = [
        group
        for group in worst
        if parts[group] / total >= threshold / len(parts)
        and (score == "loss" or _is_beyond_rows(first, second, group, len(parts)))
    ]
    if not heavy:
        return None
    share = sum(parts[group] for group in heavy) / total
    said = [
        f"{first.names[group]} ({score} {number(first.scores[group])} against "
        f"{number(second.scores[group])}, {first.rows[group]:.0f} rows)"
        for group in heavy
    ]
    return Finding(
        sentence=f"{side.label} falls behind most on {len(heavy)} of {len(parts)} "
        f"{_MANY[by]} of the {common[-1][0]} split: {'; '.join(said)}; they make up {share:.0%} of "
        f"the difference in {score} there",
        numbers={first.names[group]: parts[group] for group in heavy},
        strength=max(parts[group] / total * len(parts) / threshold for group in heavy),
        effect=min(share, 1.0) * pair.gap if pair.gap > 0 else None,
        commands=(*evaluate(side, "--split", "train"), *evaluate(other, "--split", "train")),
    )


def _parts(pair: Pair, first: _Groups, second: _Groups, by: str) -> dict[int, float]:
    """Return what each group adds to the difference: labels alike, others by their rows."""
    score = _score(pair, by)
    sign = -1 if score == "loss" else 1
    groups = [group for group in first.scores if group in second.scores and first.rows[group]]
    rows = math.fsum(first.rows[group] for group in groups)
    is_macro = score == "f1"
    return {
        group: sign
        * (second.scores[group] - first.scores[group])
        * (1 / len(groups) if is_macro else first.rows[group] / rows)
        for group in groups
    }


def _is_beyond_rows(first: _Groups, second: _Groups, group: int, groups: int) -> bool:
    """Return whether scores differ by more than a sample of so many rows can, over all groups.

    Both are taken as shares of rows, which is exact for accuracy and near for F1.
    """
    variance = sum(
        each.scores[group] * (1 - each.scores[group]) / each.rows[group] for each in (first, second)
    )
    z = NormalDist().inv_cdf(1 - ALPHA / (2 * groups))
    return abs(first.scores[group] - second.scores[group]) > z * math.sqrt(max(variance, 0.0))


def _by_place(side: Side, by: str, score: str) -> dict[Place, _Groups]:
    """Return what was evaluated with the learned routing, the newest of each run."""
    runs: dict[Place, dict[str, RunRecord]] = {}
    selected = side.params.get("training_params.select")
    for run in side.evaluations:
        asked = run.params
        if _is_learned(run):
            weights = "selected" if asked.get("weights") == selected else str(asked.get("weights"))
            place = str(asked.get("split")), run.data_hash, weights
            runs.setdefault(place, {})[str(run.parent)] = run
    found = {place: _means(list(of.values()), by, score) for place, of in runs.items()}
    return {place: groups for place, groups in found.items() if groups.scores}


def _means(runs: list[RunRecord], by: str, score: str) -> _Groups:
    pattern = re.compile(rf"eval_{score}_{by}(\d+)")
    numbers = sorted(
        {int(m[1]) for run in runs for n in run.metrics if (m := pattern.fullmatch(n))}
    )

    def mean(kind: str, group: int) -> float:
        values = [run.value(f"eval_{kind}_{by}{group}") for run in runs]
        return fmean(math.nan if value is None else value for value in values)

    scores = {group: mean(score, group) for group in numbers}
    names = json.loads(runs[0].env_details_json).get(f"{by}_names", [])
    known = tuple(names) if len(names) > max(numbers, default=-1) else tuple(map(str, numbers))
    return _Groups(
        {group: value for group, value in scores.items() if math.isfinite(value)},
        {group: mean("rows", group) for group in numbers},
        known,
    )


def _lack(side: Side, other: Side) -> Lack | None:
    """Return what would make the sides comparable; None if that has to come from the other one."""
    splits = {
        each: [str(run.params.get("split")) for run in each.evaluations if _is_learned(run)]
        for each in (side, other)
    }
    if splits[side] and (splits[side][-1] in splits[other] or not splits[other]):
        return None
    split = ("--split", splits[other][-1]) if splits[other] else ()
    return Lack(f"on which classes or domains {side.label} is weak", evaluate(side, *split))


def _is_learned(run: RunRecord) -> bool:
    return bool(run.params.get("routing") == "learned")


RULES = tuple(
    Rule(
        name=f"worst_{many}",
        title=f"weak on a few {many}",
        evidence=f"scores by {by} of `evaluate`, on a split on which both were evaluated",
        threshold=2.0,
        limit=f"a {by} makes up {{}} times an even share of the difference, and differs by more "
        "than its number of rows lets chance make (accuracy and F1)",
        reason=f"below twice its share the difference is spread over the {many}",
        test="evaluates both on the training rows: what is weak there too was not learned",
        find=partial(concentrated, by=by),
        needs_end=True,
    )
    for by, many in _MANY.items()
)

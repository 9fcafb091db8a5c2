"""What each side was given: tokens, FLOPs, time."""

from __future__ import annotations

from statistics import median

import numpy as np

from research_eval.explaining.commands import at_cost_of, rerun
from research_eval.explaining.finding import MATTERS, UNEQUAL, Command, Finding, Lack, Rule
from research_eval.explaining.pair import Pair
from research_eval.explaining.side import Side, difference, exceeds, told
from research_eval.metrics import EQUAL_COST
from research_eval.quantities import amount, number

AXES = {"active_param_count": "active_params", "flops_per_token": "flops"}
"""Costs that are compared, and on which axis `match` makes them equal."""

WORDS = {"active_param_count": "active parameters", "flops_per_token": "FLOPs per token"}

SECONDS = "total_training_time_seconds"


def fewer_tokens(pair: Pair, side: Side, other: Side, threshold: float) -> Finding | Lack | None:
    """Compare tokens, and ask what the other side scored when it had seen as many."""
    mine, theirs = side.values("tokens_seen"), other.values("tokens_seen")
    if not len(mine) or not len(theirs):
        return None
    ratio = float(mine.mean() / theirs.mean())
    if not ratio < 1 - threshold:
        return None
    then, effect = _score_at(pair, other, "tokens_seen", float(mine.mean()))
    return Finding(
        sentence=f"{side.label} was trained on {amount(mine.mean())} tokens, {other.label} on "
        f"{amount(theirs.mean())}, {number(1 / ratio)} times as many{then}",
        numbers={"tokens": float(mine.mean()), "other": float(theirs.mean()), "ratio": ratio},
        strength=(1 - ratio) / threshold,
        effect=effect,
        commands=_with_tokens(side, 1 / ratio),
    )


def _score_at(pair: Pair, side: Side, metric: str, spent: float) -> tuple[str, float | None]:
    """Return what a side scored when it had spent no more, in words, and what it gained after.

    The gain is None if seed noise hides whether it matters.
    """
    scores = pair.score_when(side, metric, spent)
    own = pair.values[side.label]
    if not len(scores) or not len(own):
        return "", None
    gained, half = difference(pair.sign * own, pair.sign * scores)
    effect: float | None = max(gained, 0.0)
    if gained <= half and gained + half >= MATTERS * pair.gap:
        effect = None
    unit = "tokens" if metric == "tokens_seen" else "FLOPs"
    return (
        f"; when {side.label} had come to {amount(spent)} {unit}, its {pair.history} was "
        f"{told(scores)}",
        effect,
    )


def _with_tokens(side: Side, factor: float) -> tuple[Command, ...]:
    """Train longer by a factor than it did, with nothing that ends the training earlier."""
    if side.params.get("training_params.early_stopping_patience") is not None:
        taken = max(run.metrics["tokens_seen"].step for run in side.runs)
        longer = {"training_params.max_steps": round(taken * factor)}
        return rerun(side, {**longer, "training_params.early_stopping_patience": None})
    steps = side.params.get("training_params.max_steps")
    if steps:
        return rerun(side, {"training_params.max_steps": round(steps * factor)})
    return rerun(side, {"epochs": max(1, round(side.params.get("epochs", 1) * factor))})


def lower_cost(pair: Pair, side: Side, other: Side, threshold: float) -> Finding | None:
    """Compare what a token costs, and ask what the other side scored for as many FLOPs in all."""
    ratios: dict[str, float] = {}
    for name in AXES:
        mine, theirs = side.values(name), other.values(name)
        if len(mine) and len(theirs) and mine.mean() > 0:
            ratios[name] = float(theirs.mean() / mine.mean())
    if not ratios or max(ratios.values()) <= 1 + threshold:
        return None
    most = max(ratios, key=ratios.__getitem__)
    costs = [
        f"{amount(side.values(name).mean())} {WORDS[name]} against "
        f"{amount(other.values(name).mean())} ({ratio:.3g} times)"
        for name, ratio in ratios.items()
    ]
    spent = side.values("train_flops")
    then, effect = "", None
    if len(spent) and len(other.values("train_flops")) and ratios.get("flops_per_token", 0) > 1:
        then, effect = _score_at(pair, other, "train_flops", float(spent.mean()))
        if effect is not None and not effect >= MATTERS * pair.gap:
            then, effect = "", None  # not the FLOPs, but it may be the parameters
    return Finding(
        sentence=f"{side.label} costs less than {other.label}: {', '.join(costs)}"
        f"{_seconds(side, other)}{then}",
        numbers=ratios,
        strength=(ratios[most] - 1) / threshold,
        effect=effect,
        commands=at_cost_of(side, other, AXES[most]),
    )


def _seconds(side: Side, other: Side) -> str:
    """Return how long both trained, if on one kind of machine that nobody else used."""
    runs = [*side.runs, *other.runs]
    if len({run.hardware for run in runs}) > 1 or any(run.contended for run in runs):
        return ""
    mine, theirs = side.values(SECONDS), other.values(SECONDS)
    if not len(mine) or not len(theirs):
        return ""
    return f"; it trained {told(mine)} s, {other.label} {told(theirs)} s"


def still_improving(pair: Pair, side: Side, other: Side, threshold: float) -> Finding | Lack | None:
    """Ask what the last quarter of the training brought."""
    gains = {each: _last_quarter(pair, each) for each in (side, other)}
    if not len(gains[side]):
        few = any(0 < len(pair.curve(run, pair.history)[0]) < 4 for run in side.runs)
        if not few:
            return None
        return Lack(
            f"whether {side.label} was still improving at the end (fewer than four evaluations)",
            rerun(side, {"training_params.eval_every": _often(pair, side)}),
        )
    gain = float(gains[side].mean())
    base = float(gains[other].mean()) if len(gains[other]) else 0.0
    effect = gain - max(base, 0.0)
    beside = gains[other] if base > 0 else np.zeros(len(gains[side]))
    if not pair.gap > 0 or not exceeds(gains[side], beside, threshold * pair.gap):
        return None
    return Finding(
        sentence=f"{side.label} was still improving: its {pair.history} gained "
        f"{told(gains[side])} in the last quarter of its steps, that of {other.label} "
        f"{told(gains[other])}",
        numbers={"gain": gain, "other": base},
        strength=effect / (threshold * pair.gap),
        effect=effect,
        commands=_with_tokens(side, 2.0),
    )


def _last_quarter(pair: Pair, side: Side) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    found = []
    for run in side.runs:
        steps, values = pair.score_curve(run)
        if len(values) >= 4:
            before = float(np.interp(0.75 * steps[-1], steps, values))
            found.append(pair.sign * (float(values[-1]) - before))
    return np.array(found)


def _often(pair: Pair, side: Side) -> int:
    """Return every how many steps to evaluate for eight points."""
    ends = [steps[-1] for run in side.runs if len(steps := pair.curve(run, pair.history)[0])]
    return max(1, int(median(ends)) // 8)


RULES = (
    Rule(
        name="fewer_tokens",
        title="fewer tokens",
        evidence="`tokens_seen`, and the validation curve of the other side",
        threshold=EQUAL_COST,
        limit="fewer by {} or more, as a share",
        reason="as `match` calls costs equal",
        test="trains it on as many",
        find=fewer_tokens,
        needs_end=True,
    ),
    Rule(
        name="lower_cost",
        title="it costs less",
        evidence="`active_param_count`, `flops_per_token`, `train_flops`, and the validation curve "
        "of the other side",
        threshold=EQUAL_COST,
        limit="the other costs more by {} or more, as a share",
        reason="as `match` calls costs equal",
        test="makes the other architecture as cheap as it, and runs that",
        find=lower_cost,
        needs_end=True,
    ),
    Rule(
        name="still_improving",
        title="still improving at the end",
        evidence="the validation curve of the metric, four points or more",
        threshold=MATTERS,
        limit="its last quarter gained more than that of the other, by {} of the difference",
        reason=UNEQUAL,
        test="trains it twice as long",
        find=still_improving,
        needs_end=True,
    ),
)

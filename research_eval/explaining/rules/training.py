"""How the training went: what was learned, what generalises, what was unstable."""

from __future__ import annotations

import numpy as np

from research_eval.explaining.commands import LR, again, rerun, sweep_around
from research_eval.explaining.finding import Command, Finding, Lack, Rule
from research_eval.explaining.pair import Pair
from research_eval.explaining.side import Floats, Side, exceeds, told
from research_eval.knobs import is_number

TENTH_OF_A_NAT = (
    "a tenth of a nat is a tenth of the probability that the true target is given, e^-0.1"
)

DROPOUT = "model_params.dropout"
DECAY = "optimizer_params.weight_decay"
CLIP = "optimizer_params.grad_clip_norm"

LEAST_POINTS = 20
"""Points of a training curve below which its shape says nothing: two in each tenth."""

CLIPPED_MORE = 0.25
"""Of the points, by which clipping must be more frequent than on the other side."""


def learned_less(pair: Pair, side: Side, other: Side, threshold: float) -> Finding | None:
    """Compare losses on the training rows themselves."""
    mine, theirs = side.values("train_loss"), other.values("train_loss")
    if not exceeds(mine, theirs, threshold):
        return None
    apart = float(mine.mean() - theirs.mean())
    return Finding(
        sentence=f"the training loss of {side.label} ends at {told(mine)} nats, that of "
        f"{other.label} at {told(theirs)}: it learned less, rather than generalising worse",
        numbers={"train_loss": float(mine.mean()), "other": float(theirs.mean())},
        strength=apart / threshold,
        effect=apart if _is_loss(pair) else None,
        commands=sweep_around(side, LR, (1 / 3, 3)),
    )


def overfitting(pair: Pair, side: Side, other: Side, threshold: float) -> Finding | None:
    """Compare the distances between training and validation loss."""
    gaps = {each: _train_val_gap(each) for each in (side, other)}
    if not exceeds(gaps[side], gaps[other], threshold) or gaps[side].mean() < threshold:
        return None
    apart = float(gaps[side].mean() - gaps[other].mean())
    last, train = side.values("last_val_loss"), side.values("train_loss")
    lowest = [run.metrics["val_loss"].minimum for run in side.runs if "val_loss" in run.metrics]
    least = np.array([value for value in lowest if value is not None])
    rose = f", {told(last - least)} above its lowest" if len(least) == len(last) else ""
    return Finding(
        sentence=f"{side.label} overfits: its validation loss ends at {told(last)} nats{rose}, "
        f"its training loss at {told(train)}; the gap is {told(gaps[side])} nats, that of "
        f"{other.label} {told(gaps[other])}",
        numbers={"gap": float(gaps[side].mean()), "other": float(gaps[other].mean())},
        strength=apart / threshold,
        effect=apart if _is_loss(pair) else None,
        commands=_more_regular(side),
    )


def _is_loss(pair: Pair) -> bool:
    """Whether nats of loss are what decides."""
    return pair.metric in ("final_val_loss", "last_val_loss", "val_loss")


def _train_val_gap(side: Side) -> Floats:
    """Return validation loss minus training loss of each run, both at the last step."""
    found = []
    for run in side.runs:
        last, train = run.value("last_val_loss"), run.value("train_loss")
        if last is not None and train is not None:
            found.append(last - train)
    return np.array([value for value in found if np.isfinite(value)])


def _more_regular(side: Side) -> tuple[Command, ...]:
    dropout = side.params.get(DROPOUT)
    if is_number(dropout):
        more = [round(min(dropout + step, 0.5), 3) for step in (0.1, 0.2)]
        return rerun(side, {}, sweep=f"{DROPOUT}={more[0]},{more[1]}")
    return sweep_around(side, DECAY, (10, 100))


def setbacks(pair: Pair, side: Side, other: Side, threshold: float) -> Finding | Lack | None:
    """Look for the largest setback of the training loss, as a share of all that was gained."""
    mine, theirs = (_setbacks(pair, each) for each in (side, other))
    if not len(mine):
        return _too_few_points(pair, side)
    if mine.mean() < threshold or (len(theirs) and not exceeds(mine, theirs, threshold / 2)):
        return None
    return Finding(
        sentence=f"the training of {side.label} was unstable: its loss rose again by "
        f"{told(mine)} of all that it had fallen (that of {other.label} by {told(theirs)})",
        numbers={"setback": float(mine.mean())},
        strength=float(mine.mean()) / threshold,
        commands=sweep_around(side, LR, (1 / 3, 1 / 10)),
    )


def _setbacks(pair: Pair, side: Side) -> Floats:
    """Return for each run the largest rise between tenths of its curve, over its whole fall.

    A rise within four standard errors of the means is none.
    """
    found = []
    for run in side.runs:
        _, values = pair.curve(run, "train_loss")
        if len(values) < LEAST_POINTS:
            continue
        tenths = np.array_split(values, 10)
        means = np.array([tenth.mean() for tenth in tenths])
        errors = [tenth.std(ddof=1) / np.sqrt(len(tenth)) for tenth in tenths]
        rise = float((means - np.minimum.accumulate(means)).max())
        fall = float(means[0] - means.min())
        is_noise = rise <= 4 * np.sqrt(2) * float(np.median(errors)) or fall <= 0
        found.append(0.0 if is_noise else rise / fall)
    return np.array(found)


def _too_few_points(pair: Pair, side: Side) -> Lack | None:
    """Return what would show the shape of a curve of too few points; None if there is no curve."""
    lengths = [len(pair.curve(run, "train_loss")[0]) for run in side.runs]
    if not any(0 < length < LEAST_POINTS for length in lengths):
        return None
    steps = int(max(pair.curve(run, "train_loss")[0][-1] for run in side.runs))
    often = max(1, steps // (2 * LEAST_POINTS))
    return Lack(
        f"whether the training of {side.label} was stable (fewer than {LEAST_POINTS} points)",
        again(rerun(side, {"training_params.log_every": often})),
    )


def clipping(pair: Pair, side: Side, other: Side, threshold: float) -> Finding | None:
    """Ask in what share of the training gradients were longer than their limit."""
    mine, theirs = (_clipped(pair, each) for each in (side, other))
    if not len(mine) or mine.mean() <= threshold:
        return None
    if len(theirs) and not exceeds(mine, theirs, CLIPPED_MORE):
        return None
    norms = np.concatenate([pair.curve(run, "grad_norm")[1] for run in side.runs])
    limit = side.params[CLIP]
    return Finding(
        sentence=f"the gradients of {side.label} were clipped at {limit:g} in {told(100 * mine)} % "
        f"of its training (median norm {np.median(norms):.3g}), those of {other.label} in "
        f"{told(100 * theirs) if len(theirs) else 0} %",
        numbers={"clipped": float(mine.mean())},
        strength=float(mine.mean()) / threshold,
        commands=rerun(side, {CLIP: float(f"{2 * np.median(norms):.2g}")}),
    )


def _clipped(pair: Pair, side: Side) -> Floats:
    """Return the share of recorded mean norms above the limit; no limit clips nothing."""
    limit = side.params.get(CLIP)
    found = []
    for run in side.runs:
        _, norms = pair.curve(run, "grad_norm")
        if len(norms) >= LEAST_POINTS:
            found.append(float((norms > limit).mean()) if is_number(limit) else 0.0)
    return np.array(found)


RULES = (
    Rule(
        name="learned_less",
        title="a higher training loss",
        evidence="`train_loss` of the last steps",
        threshold=0.1,
        limit="higher by {} nats",
        reason=TENTH_OF_A_NAT,
        test="runs it with a third and three times the learning rate",
        find=learned_less,
        needs_end=True,
    ),
    Rule(
        name="overfitting",
        title="a larger gap between training and validation",
        evidence="`last_val_loss` minus `train_loss`, the lowest `val_loss`",
        threshold=0.1,
        limit="{} nats, and larger than that of the other by as much",
        reason=TENTH_OF_A_NAT,
        test="runs it with more dropout (or weight decay, where there is no dropout)",
        find=overfitting,
        needs_end=True,
    ),
    Rule(
        name="setbacks",
        title="an unstable training loss",
        evidence=f"means of tenths of the curve of `train_loss`, {LEAST_POINTS} points or more",
        threshold=0.25,
        limit="rose again by {} of all that it fell, and half as much more than that of the other",
        reason="a quarter of all progress, and more than four standard errors of a tenth, is lost; "
        "a proposal of this project",
        test="runs it with a third and a tenth of the learning rate",
        find=setbacks,
    ),
    Rule(
        name="clipping",
        title="clipped gradients",
        evidence="the curve of `grad_norm`, as many points, and `grad_clip_norm`",
        threshold=0.5,
        limit=f"more than {{}} of the points, and {CLIPPED_MORE} more than of the other",
        reason="beyond half, the limit and not the gradient sets the length of most steps",
        test="runs it with twice the median norm as its limit",
        find=clipping,
    ),
)

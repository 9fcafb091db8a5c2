"""The best score against what was spent: trials, and seconds of training."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from research_eval.analysis import style, tuning_curves
from research_eval.analysis.arms import by_arm
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import NothingToShowError, Output
from research_eval.analysis.trials import are_independent, joint_studies, origins, trials_of
from research_eval.analysis.words import counted, listed

EXPECTED, SO_FAR = "expected best", "best so far"

MAX_BANDS = 3
"""Architectures up to which intervals are drawn; with more, they are in the table only."""

MAX_PAIRS = 5
"""Pairs of architectures whose crossings are told one by one."""


def frame(evidence: Evidence) -> pd.DataFrame:
    """Return the curve of each arm.

    Columns: `arm`; `trials`, 1..N; `seconds` of training that they took, the expected ones where
    the curve is an expectation; `statistic`, "expected best" (U-statistic) for independently drawn
    trials, else "best so far"; `best`; `v_statistic`, `low` and `high` (95 % interval of the median
    best, open where NaN) only for an expectation; `in_common_trials` and `in_common_seconds`,
    whether every arm had as much; `without_score`, trials of the arm that found nothing.

    Raises:
        NothingToShowError: If no arm has two trials with a score.
    """
    trials = trials_of(evidence)
    trials = trials[trials["score"].notna()]
    curves = [_curve(arm, own, evidence) for arm, own in by_arm(trials, evidence)]
    if max(map(len, curves), default=0) < 2:
        raise NothingToShowError(
            "no architecture has two trials with a score: a curve over trials needs a search"
        )
    found = pd.concat(curves, ignore_index=True)
    ends = found.groupby("arm")[["trials", "seconds"]].max().min()
    found["in_common_trials"] = found["trials"] <= ends["trials"]
    found["in_common_seconds"] = found["seconds"] <= ends["seconds"] * (1 + 1e-9)
    return found


def _curve(arm: str, trials: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    sign = evidence.question.sign
    quality = sign * trials["score"].to_numpy()
    number = np.arange(1, len(trials) + 1)
    curve = pd.DataFrame({"arm": arm, "trials": number})
    if are_independent(trials, evidence):
        ends = [sign * end for end in tuning_curves.median_best_interval(quality)][::sign]
        low, high = (np.where(np.isfinite(end), end, np.nan) for end in ends)
        curve = curve.assign(
            seconds=number * trials["seconds"].mean(),
            statistic=EXPECTED,
            best=sign * tuning_curves.expected_best(quality),
            v_statistic=sign * tuning_curves.expected_best_with_replacement(quality),
            low=low,
            high=high,
        )
    else:
        curve = curve.assign(
            seconds=trials["seconds"].cumsum().to_numpy(),
            statistic=SO_FAR,
            best=sign * tuning_curves.best_so_far(quality),
            v_statistic=np.nan,
            low=np.nan,
            high=np.nan,
        )
    return curve.assign(without_score=int((~trials["has_score"]).sum()))


def sentences(frame: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Say who leads at the budget that all had, and where the lead changes hands."""
    trials = trials_of(evidence)
    counts = frame.groupby("arm", sort=False)["trials"].max()
    said = [*_caveats(frame, trials, evidence)]
    joint = joint_studies(trials, evidence)
    if joint:
        return [
            f"{listed(joint)} shared one budget between architectures, so a difference between "
            "their curves says nothing about the architectures.",
            *said,
        ]
    if len(counts) < 2:
        return said
    least = int(counts.min())
    if counts.nunique() > 1:
        told = ", ".join(f"{arm} {count}" for arm, count in counts.items())
        said.append(
            f"Budgets are unequal (trials: {told}), so architectures are compared at {least}, and "
            "what was found later is drawn but not compared."
        )
    said.append(
        _leader(frame[frame["in_common_trials"]], f"{counted(least, 'trial')} each", evidence)
    )
    reason = _why_no_seconds(trials)
    if reason:
        said.append(reason)
    else:
        within = frame[frame["in_common_seconds"]]
        seconds = frame.groupby("arm")["seconds"].max().min()
        said.append(_leader(within, f"{seconds:,.0f} s of training each", evidence))
    return said + _crossings(frame, evidence)


def _caveats(frame: pd.DataFrame, trials: pd.DataFrame, evidence: Evidence) -> Iterator[str]:
    without = [
        f"{arm} {curve['without_score'].iloc[0]} of {len(curve)}"
        for arm, curve in by_arm(frame, evidence)
        if curve["without_score"].iloc[0]
    ]
    if without:
        yield (
            f"Trials that ended without a score count as the worst of their architecture: "
            f"{listed(without)}."
        )
    curves = by_arm(trials[trials["score"].notna()], evidence)
    so_far = [
        f"{arm}: {origins(own, evidence)}"
        for arm, own in curves
        if not are_independent(own, evidence)
    ]
    if so_far:
        yield (
            f"Trials were not all drawn at random ({'; '.join(so_far)}), so these curves are the "
            "best so far of one search, without a band: another search may go otherwise. --study "
            "NAME looks at one study alone."
        )


def _leader(within: pd.DataFrame, budget: str, evidence: Evidence) -> str:
    """Say who is ahead at the end of what all could afford."""
    last = within.groupby("arm", sort=False)["best"].last()
    missing = [arm for arm in evidence.arms if arm not in last and arm in set(within["arm"])]
    if len(last) < 2 or missing:
        return f"At {budget} there are not two architectures to compare."
    ranked = last.sort_values(ascending=not evidence.question.is_max)
    (first, best), *others = ranked.items()
    if best == others[0][1]:
        return f"At {budget}, {first} and {others[0][0]} are equal at {best:.4g}."
    rest = ", ".join(f"{value:.4g} of {arm}" for arm, value in others)
    return f"At {budget}, {first} leads with {evidence.question.metric} {best:.4g}, against {rest}."


def _why_no_seconds(trials: pd.DataFrame) -> str | None:
    """Say why seconds of different architectures cannot be compared, if they cannot."""
    untimed = int((~(trials["seconds"] > 0)).sum())
    if untimed == len(trials) or trials["seconds"].isna().any():
        return f"Seconds are not compared: {counted(untimed, 'trial')} recorded no time."
    machines = trials["hardware"].nunique()
    if machines > 1:
        return f"Seconds are not compared: the trials ran on {machines} kinds of machine."
    contended = int(trials["contended"].sum())
    if contended:
        return (
            f"Seconds are not compared: {contended} of {counted(len(trials), 'trial')} shared the "
            "machine with other work."
        )
    return None


def _crossings(frame: pd.DataFrame, evidence: Evidence) -> list[str]:
    found = []
    common = frame[frame["in_common_trials"]]
    curves = {arm: own["best"].to_numpy() for arm, own in by_arm(common, evidence)}
    for (one, its), (other, theirs) in combinations(curves.items(), 2):
        places = tuning_curves.crossings(its, theirs)
        if places:
            found.append(f"{one} and {other} at {listed(map(str, places))} trials")
    if not found:
        return []
    more = len(found) - MAX_PAIRS
    told = "; ".join(found[:MAX_PAIRS] + ([f"{more} more pairs"] if more > 0 else []))
    return [f"Which one is better depends on the budget where curves cross: {told}."]


def draw(frame: pd.DataFrame, evidence: Evidence) -> Figure:
    """Return the curves over trials and, where they can be compared, over seconds."""
    has_seconds = _why_no_seconds(trials_of(evidence)) is None
    panels = {"trials": "trials", **({"seconds": "training time (s)"} if has_seconds else {})}
    columns = min(style.side_by_side(2), len(panels))
    rows = len(panels) // columns
    made, axes = style.figure(
        width=4.8 * columns if columns > 1 else 6.4,
        height=3.6 * rows,
        rows=rows,
        columns=columns,
        sharey=True,
    )
    for panel, (x, label) in zip(axes, panels.items(), strict=True):
        _panel(panel, frame, x, label, evidence)
    for panel in axes[::columns]:
        panel.set_ylabel(f"best {evidence.question.label}")
    return made


def _panel(axes: Axes, frame: pd.DataFrame, x: str, label: str, evidence: Evidence) -> None:
    colour = style.colours(evidence.arms)
    common = frame.groupby("arm")[x].max().min()
    is_left = common**2 <= frame[x].min() * frame[x].max()
    has_bands = frame["arm"].nunique() <= MAX_BANDS
    ends = []
    for arm, curve in by_arm(frame, evidence):
        steps = "default" if (curve["statistic"] == EXPECTED).all() else "steps-post"
        axes.plot(curve[x], curve["best"], color=colour[arm], alpha=0.35, drawstyle=steps)
        within = curve[curve[f"in_common_{x}"]]
        mark = "o" if len(within) == 1 else None
        axes.plot(within[x], within["best"], marker=mark, color=colour[arm], drawstyle=steps)
        if has_bands:
            _band(axes, within[x], within, colour[arm])
        ends.append((arm, float(curve[x].iloc[-1]), float(curve["best"].iloc[-1])))
    if frame["arm"].nunique() > 1:
        axes.axvline(common, color=style.MUTED, linestyle=":", linewidth=1)
        axes.annotate(
            f"common budget: {common:,.0f}",
            (common, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="left" if is_left else "right",
            va="bottom",
            color=style.MUTED,
        )
    style.log_scale(axes, x=True)
    axes.set_xlabel(label)
    style.label_ends(axes, ends, colour)


def _band(axes: Axes, x: pd.Series[float], curve: pd.DataFrame, colour: str) -> None:
    """Fill the interval, and draw its ends: where one of them is open, the other still holds."""
    axes.fill_between(x, curve["low"], curve["high"], color=colour, alpha=0.15, linewidth=0)
    for end in ("low", "high"):
        axes.plot(x, curve[end], color=colour, linewidth=0.6, linestyle=":")


OUTPUTS = (
    Output(
        name="budget_curve",
        title="Best score against budget",
        order=40,
        meaning=(
            "What a search has found after so many trials. For random search it is the expected "
            "best of n trials (U-statistic; the CSV has the V-statistic too) with the 95 % "
            "interval of the median best of n fresh trials: open where the trials are too few to "
            "say, and drawn for up to three architectures; of skewed scores the mean may lie "
            "outside of it. For any other search the curve is the best so far. Beyond the budget "
            "that all had, curves are pale and are not compared. A lead on a curve is no verdict: "
            "that is what the contrasts are for."
        ),
        frame=frame,
        max_rows=8,
        draw=draw,
        sentences=sentences,
    ),
)

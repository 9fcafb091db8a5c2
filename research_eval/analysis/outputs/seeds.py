"""What the seeds of each configuration say: mean, interval, and how many came through."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from research_eval.analysis import style, words
from research_eval.analysis.arms import choose_all
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import NothingToShowError, Output
from research_eval.analysis.statistics import t_interval
from research_eval.quantities import number


def frame(evidence: Evidence) -> pd.DataFrame:
    """Return a row for each configuration and phase, first those that stand for their arm.

    `n_ok` of `n_started` runs have a score. The interval is Student's, of the mean over seeds; a
    single seed has none.
    """
    chosen = {arm: each.configuration for arm, each in choose_all(evidence).items()}
    groups = evidence.table.groupby(["arm", "configuration", "phase"], sort=False)
    rows = []
    for (arm, configuration, phase), runs in groups:
        values = runs["value"].dropna().to_numpy(float)
        low, high = t_interval(values) if len(values) else (np.nan, np.nan)
        rows.append(
            {
                "arm": arm,
                "configuration": configuration,
                "phase": phase,
                "is_chosen": chosen.get(str(arm)) == configuration,
                "n_ok": int((runs["outcome"] == "ok").sum()),
                "n_started": len(runs),
                "n_failed": int((runs["outcome"] == "failed").sum()),
                "mean": values.mean() if len(values) else np.nan,
                "sd": values.std(ddof=1) if len(values) > 1 else np.nan,
                "low": float(low),
                "high": float(high),
                "min": values.min() if len(values) else np.nan,
                "max": values.max() if len(values) else np.nan,
                "seeds": " ".join(str(int(seed)) for seed in runs["seed"].dropna()),
            }
        )
    if not rows:
        raise NothingToShowError("there are no runs")
    sign = evidence.question.sign
    table = pd.DataFrame(rows)
    order = table.assign(quality=-sign * table["mean"], place=table["arm"].map(_place(evidence)))
    order = order.sort_values(
        ["is_chosen", "place", "phase", "quality"], ascending=[False, True, True, True]
    )
    return table.loc[order.index].reset_index(drop=True)


def _place(evidence: Evidence) -> dict[str, int]:
    return {arm: place for place, arm in enumerate(evidence.arms)}


def draw(_table: pd.DataFrame, evidence: Evidence) -> Figure:
    """Draw every run of what stands for each arm, with mean and interval."""
    chosen = choose_all(evidence)
    if not chosen:
        raise NothingToShowError(f"no run came to a finite {evidence.question.metric}")
    made, (axes,) = style.figure(7.0, 0.9 + 0.42 * len(chosen))
    for row, (arm, each) in enumerate(chosen.items()):
        ink = style.colours(evidence.arms)[arm]
        axes.plot(
            each.values, np.full(len(each.values), row + 0.22), "o", color=ink, alpha=0.45, mew=0
        )
        axes.plot([each.values.mean()], [row], "|", ms=16, mew=2, color=ink)
        low, high = t_interval(each.values)
        if np.isfinite(low):
            axes.plot([low, high], [row, row], lw=2, color=ink, solid_capstyle="butt")
    notes = [
        f"{number(each.values.mean())}, n = {words.ok_of(len(each.values), each.started)}"
        for each in chosen.values()
    ]
    style.label_rows(axes, [*map(style.short, chosen)], notes)
    axes.set_xlabel(f"{evidence.question.label}; line: 95 % interval of the mean")
    return made


def sentences(table: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Say what stands for each arm, and where runs are missing."""
    told = []
    for arm, each in choose_all(evidence).items():
        low, high = t_interval(each.values)
        start = f"{arm} reaches {evidence.question.metric}"
        if np.isfinite(low):
            shown = words.plus_minus(each.values.mean(), float(high - low) / 2)
            told.append(f"{start} {shown} over {len(each.values)} seeds.")
        else:
            told.append(f"{start} {number(each.values.mean())} on one seed, so with no interval.")
    return told + _failed(table, evidence)


def _failed(table: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Say how many runs of each arm failed, and what stands for them in the means."""
    is_imputed = evidence.question.failed_as == "worst" and table["mean"].notna().any()
    told = []
    for name, runs in table.groupby("arm", sort=False):
        failed, started = (int(runs[column].sum()) for column in ("n_failed", "n_started"))
        start = f"{failed} of {words.counted(started, 'run')} of {name} failed and"
        are, count, they = ("is", "counts", "it") if failed == 1 else ("are", "count", "them")
        if failed and is_imputed:
            told.append(f"{start} {count} as the worst score of all, imputed into the means.")
        elif failed:
            told.append(
                f"{start} {are} in no mean; --failed-as worst counts {they} as the worst score."
            )
    return told


OUTPUTS = (
    Output(
        name="seeds",
        title="Seeds",
        order=20,
        meaning=(
            "How far the scores of one configuration spread between seeds. The interval is "
            "Student's; it is about the mean of all seeds, not about the next run."
        ),
        frame=frame,
        draw=draw,
        sentences=sentences,
    ),
)

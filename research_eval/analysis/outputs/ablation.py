"""What each part contributes: every variant of a group against the configuration as it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from research_eval.analysis import statistics, style, words
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import NothingToShowError, Output

Changes = tuple[tuple[str, str], ...]
"""Dotted paths and new values as JSON, as `origin.changed` says them."""


def frame(evidence: Evidence) -> pd.DataFrame:
    """Return a row for each variant of the group; `delta` is variant minus base."""
    group = evidence.question.ablation
    if group is None:
        raise NothingToShowError("--ablation GROUP compares the runs of a group with their base")
    runs = evidence.table[evidence.table["group"] == group]
    if not len(runs):
        groups = sorted(set(evidence.table["group"]) - {""})
        known = f"groups: {', '.join(groups)}" if groups else "no run belongs to a group"
        raise NothingToShowError(f"no run belongs to the group '{group}'; {known}")
    members: dict[tuple[str, Changes], list[str]] = {}
    for run, arm in runs["arm"].items():
        members.setdefault((arm, _changes(evidence, str(run))), []).append(str(run))
    variants = {key: runs.loc[ids] for key, ids in members.items()}
    pairs = [(key, _base(key, variants)) for key in variants]
    tested = [(key, base) for key, base in pairs if base is not None]
    if not tested:
        raise NothingToShowError(f"no run of the group '{group}' is the base of another one")
    rows = [_row(variants[key], variants[(key[0], base)], key, base) for key, base in tested]
    table = pd.DataFrame(rows)
    table["p_holm"] = statistics.holm(list(table["p"]))
    return table


def _changes(evidence: Evidence, run: str) -> Changes:
    config = json.loads(evidence.runs[run].full_config_json)
    changed: Mapping[str, Any] = (config.get("origin") or {}).get("changed") or {}
    return tuple(sorted((path, json.dumps(value)) for path, value in changed.items()))


def _base(key: tuple[str, Changes], variants: Mapping[tuple[str, Changes], Any]) -> Changes | None:
    """Return the changes of the variant that lacks exactly one of this one's; None for a base."""
    arm, changes = key
    without = [tuple(c for c in changes if c != change) for change in changes]
    return next((base for base in without if (arm, base) in variants), None)


def _row(
    runs: pd.DataFrame, base_runs: pd.DataFrame, key: tuple[str, Changes], base: Changes
) -> dict[str, Any]:
    scores = [each["value"].dropna().to_numpy(float) for each in (runs, base_runs)]
    row: dict[str, Any] = {
        "arm": key[0],
        "base": _told(base) or "as it is",
        "change": _told([change for change in key[1] if change not in base]),
        "n": len(scores[0]),
        "n_started": len(runs),
        "n_base": len(scores[1]),
        "mean": scores[0].mean() if len(scores[0]) else np.nan,
        "mean_base": scores[1].mean() if len(scores[1]) else np.nan,
        "delta": np.nan,
        "low": np.nan,
        "high": np.nan,
        "p": np.nan,
    }
    if len(scores[0]) and len(scores[1]):
        found = statistics.welch(*scores)
        row |= {name: float(getattr(found, name)) for name in ("delta", "low", "high", "p")}
    return row


def _told(changes: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{path}={value}" for path, value in changes)


def sentences(table: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Say what each change does."""
    question, told = evidence.question, []
    for row in table.to_dict("records"):
        start = f"{row['arm']} with {row['change']}"
        if not np.isfinite(row["delta"]):
            told.append(f"{start}: no run came to a score.")
        elif not np.isfinite(row["p_holm"]):
            by = words.difference(row["delta"], question)
            why = "on too few seeds, or too like ones, for a test"
            told.append(f"{start} differs by {by} from {row['base']}, {why}.")
        else:
            half = (row["high"] - row["low"]) / 2
            by = words.difference_with_half(row["delta"], half, question)
            is_shown = row["p_holm"] <= statistics.ALPHA
            way = "better" if question.sign * row["delta"] > 0 else "worse"
            what = f"is {way} than {row['base']} by" if is_shown else "shows no difference:"
            told.append(f"{start} {what} {by}, p_Holm {words.probability(row['p_holm'])}.")
    return told


def draw(table: pd.DataFrame, evidence: Evidence) -> Figure:
    """Draw what each change does to the score."""
    known = table[table["delta"].notna()]
    if not len(known):
        raise NothingToShowError("no variant and its base both came to a score")
    question, colour = evidence.question, style.colours(evidence.arms)
    made, (axes,) = style.figure(7.0, 1.1 + 0.42 * len(known))
    axes.axvline(0, color=style.MUTED, lw=1)
    factor = words.scale(question)
    for place, row in enumerate(known.to_dict("records")):
        ends = [row["low"] * factor, row["high"] * factor]
        axes.plot(ends, [place, place], lw=2, color=colour[row["arm"]], solid_capstyle="butt")
        axes.plot([row["delta"] * factor], [place], "o", ms=7, color=colour[row["arm"]])
    notes = [
        f"n = {n}" + (f", p_Holm {words.probability(p)}" if np.isfinite(p) else "")
        for n, p in zip(known["n"], known["p_holm"], strict=True)
    ]
    style.label_rows(axes, [*known["change"]], notes)
    better = "right" if question.is_max else "left"
    axes.set_xlabel(f"change in {words.unit(question)} with 95 % interval; better is {better}")
    return made


OUTPUTS = (
    Output(
        name="ablation",
        title="Ablation",
        order=95,
        meaning="Each change alone against the configuration without it, by Welch's test and Holm.",
        frame=frame,
        draw=draw,
        sentences=sentences,
    ),
)

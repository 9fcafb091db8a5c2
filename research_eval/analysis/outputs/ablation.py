"""What each part contributes: every variant of a group against the configuration as it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from research_eval.analysis import statistics, style, words
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import NothingToShowError, Output

Changes = tuple[tuple[str, str], ...]
"""Dotted paths and new values as JSON, as `origin.changed` says them."""


@dataclass(frozen=True, slots=True, eq=False)
class _Variant:
    """What runs of one configuration in the group share.

    Attributes:
        name: Of the experiment.
        settings: By dotted path, those of how it is carried out left out.
    """

    arm: str
    name: str
    configuration: str
    changes: Changes
    settings: Mapping[str, Any]
    runs: pd.DataFrame


def frame(evidence: Evidence) -> pd.DataFrame:
    """Return a row for each variant of the group and its base; `delta` is variant minus base.

    A base differs from the variant in nothing but one change. `base` says what it has changed
    itself, and its name where several configurations have the same changes.
    """
    group = evidence.question.ablation
    if group is None:
        raise NothingToShowError("--ablation GROUP compares the runs of a group with their base")
    runs = evidence.table[evidence.table["group"] == group]
    if not len(runs):
        groups = sorted(set(evidence.table["group"]) - {""})
        known = f"groups: {', '.join(groups)}" if groups else "no run belongs to a group"
        raise NothingToShowError(f"no run belongs to the group '{group}'; {known}")
    variants = _variants(evidence, runs)
    rows = [
        _row(variant, base, _name(base, variants))
        for variant in variants
        for base in _bases(variant, variants)
    ]
    if not rows:
        raise NothingToShowError(f"no run of the group '{group}' is the base of another one")
    table = pd.DataFrame(rows)
    table["p_holm"] = statistics.holm(list(table["p"]))
    return table


def _variants(evidence: Evidence, runs: pd.DataFrame) -> list[_Variant]:
    members: dict[tuple[str, str, Changes], list[str]] = {}
    for run, arm, configuration in zip(runs.index, runs["arm"], runs["configuration"], strict=True):
        members.setdefault((arm, configuration, _changes(evidence, run)), []).append(run)
    return [
        _Variant(
            arm=arm,
            name=evidence.runs[ids[0]].experiment_name,
            configuration=configuration,
            changes=changes,
            settings=evidence.settings(ids[0]),
            runs=runs.loc[ids],
        )
        for (arm, configuration, changes), ids in members.items()
    ]


def _changes(evidence: Evidence, run: str) -> Changes:
    config = json.loads(evidence.runs[run].full_config_json)
    changed: Mapping[str, Any] = (config.get("origin") or {}).get("changed") or {}
    return tuple(sorted((path, json.dumps(value)) for path, value in changed.items()))


def _bases(variant: _Variant, variants: Iterable[_Variant]) -> list[_Variant]:
    """Return what lacks exactly one change of a variant and is like it in everything else."""
    for change in variant.changes:
        without = tuple(each for each in variant.changes if each != change)
        rest = _without(variant.settings, change[0])
        found = [
            base
            for base in variants
            if (base.arm, base.changes) == (variant.arm, without)
            and _without(base.settings, change[0]) == rest
        ]
        if found:
            return found
    return []


def _without(settings: Mapping[str, Any], changed: str) -> dict[str, Any]:
    """Return the settings but for one, which may be a whole section."""
    return {
        path: value
        for path, value in settings.items()
        if path != changed and not path.startswith(f"{changed}.")
    }


def _name(base: _Variant, variants: Iterable[_Variant]) -> str:
    told = _told(base.changes) or "as it is"
    alike = [v for v in variants if (v.arm, v.changes) == (base.arm, base.changes)]
    if len(alike) == 1:
        return told
    is_named = [each.name for each in alike].count(base.name) == 1
    return f"{told} in {base.name if is_named else f'{base.name} {base.configuration[:8]}'}"


def _row(variant: _Variant, base: _Variant, base_name: str) -> dict[str, Any]:
    scores = [each.runs["value"].dropna().to_numpy(float) for each in (variant, base)]
    row: dict[str, Any] = {
        "arm": variant.arm,
        "base": base_name,
        "change": _told([change for change in variant.changes if change not in base.changes]),
        "n": len(scores[0]),
        "n_started": len(variant.runs),
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
    has_several = known["base"].nunique() > 1
    labels = known["change"] + "\nvs " + known["base"] if has_several else known["change"]
    style.label_rows(axes, [*labels], notes)
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

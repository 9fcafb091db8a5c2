"""What makes a comparison another one than was meant: data, settings, code, seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from research_eval.analysis.statistics import ALPHA, seeds_needed
from research_eval.analysis.words import counted, listed, probability
from research_eval.explaining.commands import EVERY_SEED, LR, more_seeds, rerun, sweep_around
from research_eval.explaining.finding import Finding, Lack, Rule
from research_eval.explaining.pair import Pair
from research_eval.explaining.side import Side, is_more_frequent
from research_eval.quantities import number
from research_eval.records import RunStatus
from research_eval.schemas import marked_fields

SHOWN = 4
"""Settings that a sentence names."""

_MODEL = ("model_type", "model_params")
_DATA = ("dataset_name", "dataset_type", "dataset_params")
_BESIDE = ("experiment_name", "project", "tags", "seed", "origin", "$schema", "schema_ref")


def _differing(side: Side, other: Side, *, of_data: bool) -> dict[str, tuple[Any, Any]]:
    """Return what differs of the data, or of everything but data and model, by path."""
    passed_over = {*_MODEL, *_BESIDE}
    for each in (side, other):
        passed_over |= {*marked_fields(each.schema, "x-execution-only")}
    found = {}
    for path in dict.fromkeys((*side.params, *other.params)):
        first = path.partition(".")[0]
        parents = set(accumulate(path.split("."), "{}.{}".format))
        values = side.params.get(path), other.params.get(path)
        if (first in _DATA) == of_data and not parents & passed_over and values[0] != values[1]:
            found[path] = values
    return found


def in_words(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """Return values of both sides by path, the first few of them."""
    shown = [
        f"{path} {json.dumps(one)} against {json.dumps(two)}"
        for path, (one, two) in list(changed.items())[:SHOWN]
    ]
    more = len(changed) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def different_data(_pair: Pair, side: Side, other: Side, threshold: float) -> Finding | None:
    """Look at the fingerprints of the data, and at what was asked of it."""
    del threshold
    if side.run.data_hash == other.run.data_hash:
        return None
    changed = _differing(side, other, of_data=True)
    theirs = {path: pair[1] for path, pair in changed.items() if pair[1] is not None}
    if "dataset_name" in theirs:
        whole = json.loads(other.run.full_config_json).get("dataset_params", {})
        theirs = {"dataset_name": other.component("dataset_name"), "dataset_params": whole}
    theirs.pop("dataset_type", None)
    how = in_words(changed) or "the same settings, but other fingerprints"
    return Finding(
        sentence=f"{side.label} and {other.label} learned different data: {how}",
        numbers={"settings": float(len(changed))},
        commands=rerun(side, theirs),
    )


def other_settings(_pair: Pair, side: Side, other: Side, threshold: float) -> Finding | None:
    """Look for settings that differ although they belong to no model."""
    changed = _differing(side, other, of_data=False)
    if len(changed) < threshold or not side.params or not other.params:
        return None
    theirs = {path: pair[1] for path, pair in changed.items() if path in other.params}
    return Finding(
        sentence=f"{side.label} and {other.label} differ in more than the model: "
        f"{in_words(changed)}",
        numbers={"settings": float(len(changed))},
        strength=len(changed) / threshold,
        commands=rerun(side, theirs),
    )


def other_code(_pair: Pair, side: Side, other: Side, threshold: float) -> Finding | None:
    """Look at the versions of one and the same model."""
    del threshold
    components = ("model_type", "model_params.router", "dataset_name")
    is_same = all(side.params.get(each) == other.params.get(each) for each in components)
    if not is_same or side.run.code_hash == other.run.code_hash:
        return None
    hashes = [str(each.run.code_hash)[:8] for each in (side, other)]
    return Finding(
        sentence=f"both are {side.run.model_type or 'one model'}, but of different code: "
        f"{' and '.join(hashes)}",
        commands=rerun(side, {}),
    )


def seed_noise(pair: Pair, side: Side, other: Side, threshold: float) -> Finding | None:
    """Test the difference itself, where both sides have several seeds."""
    test = pair.test
    if test is None or math.isnan(float(test.p)) or float(test.p) <= threshold:
        return None
    first, second = (pair.values[each.label] for each in (side, other))
    deviations = float(first.std(ddof=1)), float(second.std(ddof=1))
    needed = seeds_needed(pair.gap, deviations) if pair.gap else None
    enough = (
        f"{counted(needed, 'seed')} of each would find a difference of this size"
        if needed
        else "no number of seeds that anyone would run would find a difference of this size"
    )
    return Finding(
        sentence=f"the difference, {number(pair.gap)} ± {number(pair.half)}, is within seed noise "
        f"(p {probability(float(test.p))} with {len(first)} and {len(second)} seeds); {enough}",
        numbers={"difference": pair.gap, "half": pair.half, "p": float(test.p)}
        | ({"seeds_needed": float(needed)} if needed else {}),
        strength=float(test.p) / threshold,
        commands=(*more_seeds(side, needed), *more_seeds(other, needed)) if needed else (),
    )


def one_seed(pair: Pair, side: Side, other: Side, threshold: float) -> Lack | None:
    """Look for sides whose seed noise nobody knows."""
    counts = {each: len(pair.values[each.label]) for each in (side, other)}
    few = [each for each in (side, other) if 0 < counts[each] < threshold]
    if not few:
        return None
    names = listed(each.label for each in few)
    commands = tuple(c for each in few for c in more_seeds(each, EVERY_SEED))
    return Lack(f"how far seeds of {names} lie apart (one seed shows no spread)", commands)


def failures(pair: Pair, side: Side, other: Side, threshold: float) -> Finding | None:
    """Count runs that ended badly."""
    begun = [len(each.runs) + len(each.others) for each in (side, other)]
    is_more = is_more_frequent(len(side.failed), begun[0], len(other.failed), begun[1])
    if len(side.failed) < threshold or not is_more:
        return None
    ends = [str(run.status) for run in side.failed]
    how = listed(f"{ends.count(end)} {end}" for end in dict.fromkeys(ends))
    error = next((run.error.strip().splitlines()[-1] for run in side.failed if run.error), "")
    return Finding(
        sentence=f"of {counted(begun[0], 'run')} of {side.label}, {how} "
        f"({len(other.failed)} of {begun[1]} of {other.label})"
        + (f"; the last words of one: {error[:120]}" if error else "")
        + ("; they are in no mean" if pair.is_final else ""),
        numbers={"failed": float(len(side.failed)), "begun": float(begun[0])},
        strength=len(side.failed) / threshold,
        commands=sweep_around(side, LR, (1 / 3, 1 / 10))
        if RunStatus.DIVERGED in ends
        else rerun(side, {}),
    )


RULES = (
    Rule(
        name="different_data",
        title="different data",
        evidence="fingerprints of the data, `dataset_params`",
        threshold=1,
        limit="{} fingerprint that is another one",
        reason="scores on different data measure different things",
        test="runs it on the data of the other one",
        find=different_data,
        is_premise=True,
    ),
    Rule(
        name="other_code",
        title="one model, different code",
        evidence="hashes of the source that each run used",
        threshold=1,
        limit="{} hash that is another one, of the same model and router",
        reason="the change between two versions of the code may be what differs",
        test="runs it by the code that is installed",
        find=other_code,
        is_premise=True,
    ),
    Rule(
        name="other_settings",
        title="more differs than the model",
        evidence="the configurations, without model, data and what changes no result",
        threshold=1,
        limit="{} setting or more",
        reason="what differs besides the model may be what makes the difference",
        test="runs it with the settings of the other one",
        find=other_settings,
        is_premise=True,
    ),
    Rule(
        name="seed_noise",
        title="no more than seed noise",
        evidence="scores of two or more seeds of each",
        threshold=ALPHA,
        limit="Welch's p > {}",
        reason="the level at which `analyze` gives a verdict",
        test="runs as many seeds of both as find such a difference four times in five",
        find=seed_noise,
        is_premise=True,
        needs_end=True,
    ),
    Rule(
        name="one_seed",
        title="seed noise is not known",
        evidence="the number of seeds",
        threshold=2,
        limit="fewer than {} seeds",
        reason="a spread takes two; never a finding, but named as missing",
        test="runs more seeds",
        find=one_seed,
        is_premise=True,
        needs_end=True,
    ),
    Rule(
        name="failures",
        title="runs that failed",
        evidence="the status of every run that was begun",
        threshold=1,
        limit="{} run or more, and a larger share than of the other (Fisher's test)",
        reason="a mean over those that came through flatters what is fragile",
        test="runs it again, with lower learning rates if its loss diverged",
        find=failures,
    ),
)

"""What the search for each side's configuration was given, and what it left untried."""

from __future__ import annotations

import json
import math
from typing import Any

from research_eval.analysis.arms import EQUAL_BUDGET, are_equal
from research_eval.analysis.evidence import configuration_of
from research_eval.comparison import compare
from research_eval.explaining.commands import EVERY_SEED, LR, more_seeds, sweep_around
from research_eval.explaining.finding import MATTERS, UNEQUAL, Command, Finding, Lack, Rule
from research_eval.explaining.pair import Pair
from research_eval.explaining.rules.premises import in_words
from research_eval.explaining.side import Side, exceeds, told
from research_eval.knobs import is_number
from research_eval.quantities import number
from research_eval.records import RunRecord

OPTIMIZER = "optimizer_params.name"

SEARCHED = 3
"""Different learning rates from which on somebody searched for one."""


def edge(pair: Pair, side: Side, other: Side, threshold: float) -> Finding | Lack | None:
    """Ask whether the best learning rate lies at an end of the range that was searched."""
    rate = side.params.get(LR)
    if not side.is_ours or not is_number(rate):
        return None
    if (side.run.model_type, rate) == (other.run.model_type, other.params.get(LR)):
        return None  # what both share explains no difference
    runs = _searched_with(pair, side)
    rates = {run.experiment_id: run.params.get(LR) for run in runs}
    values = sorted({value for value in rates.values() if is_number(value)})
    if len(values) < SEARCHED:
        return Lack(
            f"whether {side.label} has a good learning rate ({len(values)} tried on this data)",
            sweep_around(side, LR, (1 / 3, 1, 3)),
        )
    ends = _declared(pair, side) or (values[0], values[-1])
    low, high = min(ends[0], rate), max(ends[1], rate)
    place = math.log(rate / low) / math.log(high / low)
    at_end = min(place, 1 - place)
    if at_end > threshold or not _is_best(pair, side, runs):
        return None
    is_upper = place > 0.5
    factors = (2.0, 5.0) if is_upper else (1 / 2, 1 / 5)
    return Finding(
        sentence=f"the best learning rate of {side.label}, {number(rate)}, lies at the "
        f"{'upper' if is_upper else 'lower'} end of what was searched, {number(low)} to "
        f"{number(high)} ({len(values)} tried); better ones may lie beyond",
        numbers={"lr": rate, "low": low, "high": high, "from_end": at_end},
        strength=min(threshold / at_end, 2.0) if at_end else 2.0,
        commands=sweep_around(side, LR, factors),
    )


def _searched_with(pair: Pair, side: Side) -> list[RunRecord]:
    """Return the runs of a side's study, or all of its model on its data if it has none.

    Those of another optimizer have rates of another kind.
    """
    study, optimizer = side.run.study, side.params.get(OPTIMIZER)
    runs = [run for run in pair.tried(side) if run.params.get(OPTIMIZER) == optimizer]
    return [run for run in runs if run.study == study] if study else runs


def _declared(pair: Pair, side: Side) -> tuple[float, float] | None:
    """Return the range that the side's study searched; None if it has none."""
    spec = pair.studies.get(side.run.study or "", {})
    knob: dict[str, Any] = spec.get("spaces", {}).get(side.run.model_type, {}).get(LR, {})
    if "low" in knob:
        return knob["low"], knob["high"]
    options = [option for option in knob.get("options", ()) if is_number(option)]
    return (min(options), max(options)) if len(options) > 1 else None


def _is_best(pair: Pair, side: Side, runs: list[RunRecord]) -> bool:
    """Return whether nothing that was tried has a better mean."""
    means = {each: float(v.mean()) for each, v in pair.scores(runs).items()}
    own = means.get(configuration_of(side.run))
    return own is not None and all(pair.sign * own >= pair.sign * mean for mean in means.values())


def better_on_record(pair: Pair, side: Side, other: Side, threshold: float) -> Finding | None:
    """Look for a configuration of the same model that did better."""
    values = pair.values[side.label]
    if not side.is_ours or not len(values) or not pair.gap > 0:
        return None
    if side.run.model_type == other.run.model_type:
        return None  # of one model the other side is the better configuration
    runs = pair.tried(side)
    scores = pair.scores(runs)
    scores.pop(configuration_of(side.run), None)
    if not scores:
        return None
    best = max(scores, key=lambda each: pair.sign * float(scores[each].mean()))
    signed = pair.sign * scores[best], pair.sign * values
    if not exceeds(*signed, threshold * pair.gap):
        return None
    effect = float(signed[0].mean() - signed[1].mean())
    run = next(run for run in reversed(runs) if configuration_of(run) == best)
    beside = compare([run, side.run], ()).params
    passed_over = {"seed", "experiment_name", *(path for path in beside if "origin" in path)}
    changed = {path: values for path, values in beside.items() if path not in passed_over}
    return Finding(
        sentence=f"another configuration of {side.run.model_type} on record did better: run "
        f"{run.experiment_id} with {pair.metric} {told(scores[best])}, {side.label} has "
        f"{told(values)}; the best of {len(scores) + 1} flatters itself. It has "
        f"{in_words(changed)}",
        numbers={"best": float(scores[best].mean()), "own": float(values.mean())},
        strength=effect / (threshold * pair.gap),
        effect=effect,
        commands=more_seeds(_alone(side, run), EVERY_SEED),
    )


def _alone(side: Side, run: RunRecord) -> Side:
    return Side(side.label, (run,), (), (), side.schema)


def tuned_less(pair: Pair, side: Side, other: Side, threshold: float) -> Finding | None:
    """Count the configurations that were tried of each model."""
    del threshold  # `are_equal` has it
    if side.run.model_type == other.run.model_type or side.run.model_type is None:
        return None
    mine, theirs = (
        len({configuration_of(r) for r in _searched_with(pair, s)}) for s in (side, other)
    )
    if mine >= theirs or are_equal((mine, theirs)):
        return None
    return Finding(
        sentence=f"fewer configurations of {side.run.model_type} than of {other.run.model_type} "
        f"were tried on this data: {mine} against {theirs}",
        numbers={"configurations": float(mine), "other": float(theirs)},
        strength=theirs / mine,
        commands=_suggest(side, theirs - mine),
    )


def _suggest(side: Side, count: int) -> tuple[Command, ...]:
    if not side.is_ours:
        return ()
    data, model = str(side.run.dataset_name), str(side.run.model_type)
    named = ("--dataset-name", data, "--model-type", model)
    condition = f"data_hash == {json.dumps(side.run.data_hash)}"
    return (Command(("suggest", *named, "--filter", condition, "--n", str(count), "--run")),)


RULES = (
    Rule(
        name="lr_at_edge",
        title="the best learning rate at the edge of its range",
        evidence="learning rates and scores of the study, or of all runs of the model on this data;"
        " the range that the study declares, or else what was tried",
        threshold=0.05,
        limit="within {} of the logarithmic range from an end, and nothing that was tried is "
        "better; three rates or more",
        reason="a best rate that lies anywhere by chance is so close to an end once in ten",
        test="runs it with rates beyond that end",
        find=edge,
    ),
    Rule(
        name="better_on_record",
        title="a better configuration is on record",
        evidence="scores of all runs of the model on this data",
        threshold=MATTERS,
        limit="better by {} of the difference, where the models differ",
        reason=UNEQUAL,
        test="runs that configuration on five seeds",
        find=better_on_record,
        needs_end=True,
    ),
    Rule(
        name="tuned_less",
        title="tuned less",
        evidence="the different configurations of the study, or of the model on this data",
        threshold=EQUAL_BUDGET,
        limit="fewer by more than {}, as a share, and by more than one",
        reason="as `analyze` calls budgets equal",
        test="suggests and runs as many more",
        find=tuned_less,
    ),
)

"""One call from two names to findings in order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from research_eval.analysis.evidence import read_schema
from research_eval.analysis.gathering import is_evaluation
from research_eval.analysis.question import DEFAULT_METRICS
from research_eval.errors import ConfigError
from research_eval.explaining.choosing import Chooser, Chosen, read_runs
from research_eval.explaining.finding import (
    MATTERS,
    Bearing,
    Explained,
    Finding,
    Lack,
    Rule,
    in_order,
)
from research_eval.explaining.pair import Pair
from research_eval.explaining.rules import RULES
from research_eval.explaining.side import Floats, Side
from research_eval.metrics import find_metric, parse_goal
from research_eval.records import RunRecord, RunStatus
from research_eval.store import Store
from research_eval.store.location import locate


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Why one side is ahead of the other, as far as the records say.

    Attributes:
        pair: What was compared.
        findings: In order: premises, then by how much of the difference they could be worth.
        lacks: What the records do not say, and what would record it.
        waiting: Rules that were left out because a side has not ended.
    """

    pair: Pair
    findings: tuple[Explained, ...]
    lacks: tuple[Lack, ...]
    waiting: tuple[Rule, ...]

    def __str__(self) -> str:
        from research_eval.explaining.telling import lines  # noqa: PLC0415 - it needs this module

        return "\n".join(lines(self))


def explain(
    first: str,
    second: str,
    *,
    metric: str | None = None,
    all_seeds: bool = False,
    db: str | Path | None = None,
) -> Explanation:
    """Say why one run, or group of seeds, is ahead of another.

    Args:
        first: An id, its beginning, a name of a run or of several seeds of one configuration,
            "last", "best", or `study:arm` for the winner of a study.
        second: Likewise.
        metric: What decides, as `name` or `name:max`; final_val_f1 or final_val_loss by default.
        all_seeds: Take every recorded seed of the configuration of a run that is named.
        db: The store, by path or URL; by default the one that the commands would use.

    Raises:
        ConfigError: If both are the same runs, learned different tasks, or the metric is unknown.
        StoreError: If there is no such store, or no such run in it.
    """
    with Store.open(db or locate(create=False), mode="ro") as store, store.kept_open():
        return explain_in(store, first, second, metric=metric, all_seeds=all_seeds)


def explain_in(
    store: Store, first: str, second: str, *, metric: str | None = None, all_seeds: bool = False
) -> Explanation:
    """Do what `explain` does in a store that is open."""
    if metric is not None:
        metric = ":".join(parse_goal(metric))
    chooser = Chooser(store, metric, all_seeds=all_seeds)
    chosen = chooser.choose(first), chooser.choose(second)
    if set(chosen[0].ids) & set(chosen[1].ids):
        raise ConfigError(
            f"'{first}' and '{second}' are the same runs, so there is nothing to explain; name two "
            "different ones (research-eval runs list)"
        )
    pair = _pair(store, chosen, metric)
    if pair.is_one_configuration:
        return Explanation(pair, (), (), ())
    return _explained(pair)


def _pair(store: Store, chosen: Sequence[Chosen], goal: str | None) -> Pair:
    records = read_runs(store, [each for side in chosen for each in side.ids])
    tasks = {_task(run) for run in records if not is_evaluation(run)} - {""}
    if len(tasks) > 1:
        raise ConfigError(
            f"they learned different tasks, {' and '.join(sorted(tasks))}, whose scores have "
            "nothing in common; name two runs of one task"
        )
    recorded = {name for run in records for name in run.metrics}
    default = next((name for name in DEFAULT_METRICS if name in recorded), None)
    if goal is None and default is None:
        curves = ("val_f1", "val_loss")
        default = next((f"final_{name}" for name in curves if name in recorded), DEFAULT_METRICS[0])
    metric, direction = parse_goal(goal or str(default))
    known = find_metric(metric)
    history = (known.history if known else None) or metric
    step = _common_step(store, records, chosen, metric, history)
    curves_of = {} if step is None else _values_at(store, records, history, step)
    made, values = [], {}
    for side, label in zip(chosen, _labels(chosen), strict=True):
        own = [run for run in records if run.experiment_id in side.ids]
        counting = {
            run.experiment_id: value
            for run in own
            if (value := curves_of.get(run.experiment_id, _final(run, metric))) is not None
        }
        values[label] = np.array([*counting.values()], dtype=float)
        made.append(_side(store, side, label, own, counting, records))
    name = metric if step is None else history
    return Pair(made[0], made[1], name, direction, values, step, store)


def _side(
    store: Store,
    chosen: Chosen,
    label: str,
    own: Sequence[RunRecord],
    counting: Mapping[str, float],
    records: Sequence[RunRecord],
) -> Side:
    """Return the side; of runs without any score all stand for it."""
    kept = [run for run in own if run.experiment_id in counting] or list(own)
    ids = {run.experiment_id for run in kept}
    return Side(
        label=label,
        runs=tuple(kept),
        others=tuple(run for run in own if run.experiment_id not in ids),
        evaluations=tuple(run for run in records if is_evaluation(run) and run.parent in ids),
        schema=read_schema(store, kept[-1].experiment_id),
        notes=chosen.notes,
    )


def _labels(chosen: Sequence[Chosen]) -> list[str]:
    """Return what the sides are called; of one name with the id of a run."""
    if chosen[0].label != chosen[1].label:
        return [each.label for each in chosen]
    return [f"{each.label} ({each.ids[-1][:8]})" for each in chosen]


def _task(run: RunRecord) -> str:
    """Return the task that a run learned, as far as its metrics tell."""
    names = {name.removeprefix("final_").removeprefix("last_") for name in run.metrics}
    if names & {"val_f1", "val_acc"}:
        return "classification"
    return "language modelling" if names & {"val_perplexity", "val_bits_per_byte"} else ""


def _final(run: RunRecord, metric: str) -> float | None:
    value = run.value(metric)
    is_ok = run.status is RunStatus.COMPLETED and value is not None and math.isfinite(value)
    return value if is_ok else None


def _common_step(
    store: Store, records: Iterable[RunRecord], chosen: Sequence[Chosen], metric: str, history: str
) -> int | None:
    """Return the last step that all curves reach, if a side has no finished run."""
    runs = [run for run in records if not is_evaluation(run)]
    finished = {run.experiment_id for run in runs if _final(run, metric) is not None}
    if all(finished & set(side.ids) for side in chosen):
        return None
    found = store.histories(history, [run.experiment_id for run in runs])
    ends = {run: int(each.steps[-1]) for run, each in found.items() if len(each.steps)}
    if not all(ends.keys() & set(side.ids) for side in chosen):
        return None
    return min(ends.values())


def _values_at(
    store: Store, records: Iterable[RunRecord], history: str, step: int
) -> dict[str, float]:
    """Return the value of each curve at a step, of what was evaluated last before it."""
    ids = [run.experiment_id for run in records if not is_evaluation(run)]
    values: dict[str, float] = {}
    for run, each in store.histories(history, ids).items():
        reached: Floats = each.values[(each.steps <= step) & np.isfinite(each.values)]
        if len(reached):
            values[run] = float(reached[-1])
    return values


def _explained(pair: Pair) -> Explanation:
    behind = pair.behind or pair.a
    found: list[Explained] = []
    lacks: dict[str, Lack] = {}
    waiting = [rule for rule in RULES if rule.needs_end and not pair.is_final]
    for rule in RULES:
        if rule in waiting or (pair.is_shown is False and not rule.is_premise):
            continue  # a difference within seed noise is not there to be explained
        for side in (behind,) if rule.is_premise else (behind, pair.other(behind)):
            result = rule.find(pair, side, pair.other(side), rule.threshold)
            if isinstance(result, Lack):
                lacks.setdefault(result.what, result)
            elif result is not None and _matters(result, pair):
                named = "" if rule.is_premise else side.label
                bearing = (
                    Bearing.PREMISE
                    if rule.is_premise
                    else Bearing.EXPLAINS
                    if side is behind
                    else Bearing.DESPITE
                )
                share = None if pair.is_shown is False else _share(result.effect, pair.gap)
                found.append(Explained(rule, bearing, named, result, share))
    return Explanation(pair, in_order(found), tuple(lacks.values()), tuple(waiting))


def _matters(finding: Finding, pair: Pair) -> bool:
    """Return whether what was measured is worth enough of the difference; unmeasured may be."""
    share = _share(finding.effect, pair.gap)
    return share is None or share >= MATTERS


def _share(effect: float | None, gap: float) -> float | None:
    return effect / gap if effect is not None and gap > 0 else None

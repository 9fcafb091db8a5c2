"""The experts: who works, whether they differ, which paths are taken, and what was flagged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from research_eval.analysis.words import counted
from research_eval.explaining.commands import LR, evaluate, rerun, sweep_around
from research_eval.explaining.finding import Command, Finding, Rule
from research_eval.explaining.pair import Pair
from research_eval.explaining.side import Side, exceeds, is_more_frequent, told

AUX, BIAS, DIVERSITY = (
    f"model_params.{name}"
    for name in ("aux_loss_weight", "bias_update_rate", "diversity_loss_weight")
)


def balanced_more(side: Side) -> tuple[Command, ...]:
    """Run a side with more weight on whatever keeps its experts busy."""
    balance = side.params.get("model_params.balance")
    if balance == "none":
        return rerun(side, {"model_params.balance": "aux"}, sweep=f"{AUX}=0.01,0.1")
    for path in (BIAS,) if balance == "bias" else (AUX, DIVERSITY):
        if side.params.get(path):
            return sweep_around(side, path, (3, 10))
        if path in side.params:
            return rerun(side, {}, sweep=f"{path}=0.01,0.1")
    return evaluate(side, "--routing", "uniform")


def _slower(side: Side) -> tuple[Command, ...]:
    return sweep_around(side, LR, (1 / 3, 1 / 10))


def _calmer(side: Side) -> tuple[Command, ...]:
    if side.params.get("model_params.z_loss_weight"):
        return sweep_around(side, "model_params.z_loss_weight", (3, 10))
    return _slower(side)


def _chance(side: Side) -> tuple[Command, ...]:
    return evaluate(side, "--routing", "random")


FLAGS: Mapping[str, Callable[[Side], tuple[Command, ...]]] = {
    "routing_collapse": balanced_more,
    "dead_experts": balanced_more,
    "one_path": balanced_more,
    "identical_experts": _chance,
    "router_without_gradient": _chance,
    "uninformative_router": _chance,
    "premature_saturation": _slower,
    "router_logits_grow": _calmer,
}
"""Flags of the rules about collapse (R1 to R8), and what tests each."""


def flagged(_pair: Pair, side: Side, other: Side, threshold: float) -> Finding | None:
    """Look for collapse that was noticed in training, and not on the other side."""
    mine = [run for run in (*side.runs, *side.others) if not FLAGS.keys().isdisjoint(run.flags)]
    names = [name for run in mine for name in run.flags if name in FLAGS]
    theirs = {name for run in (*other.runs, *other.others) for name in run.flags}
    total, of = (len(each.runs) + len(each.others) for each in (side, other))
    only = [
        name
        for name in dict.fromkeys(names)
        if name not in theirs and is_more_frequent(names.count(name), total, 0, of)
    ]
    if len(only) < threshold:
        return None
    mine = [run for run in mine if not run.flags.keys().isdisjoint(only)]
    reasons = {name: run.flags[name] for run in mine for name in only if name in run.flags}
    listed = "; ".join(f"{name.replace('_', ' ')}, {why}" for name, why in reasons.items())
    return Finding(
        sentence=f"{counted(len(mine), 'run')} of {total} of {side.label} "
        f"{'was' if len(mine) == 1 else 'were'} flagged in training: {listed}",
        numbers={name: float(names.count(name)) for name in only},
        strength=len(only) / threshold,
        commands=FLAGS[only[0]](side),
    )


def dead(_pair: Pair, side: Side, other: Side, threshold: float) -> Finding | None:
    """Count experts with next to no tokens at the end."""
    mine, theirs = (_dead(each) for each in (side, other))
    if not len(mine) or mine.mean() < threshold:
        return None
    if len(theirs) and not exceeds(mine, theirs, threshold):
        return None
    experts = side.params.get("model_params.num_experts")
    layers = sum(name.startswith("val_dead_experts_layer") for name in side.run.metrics) or 1
    of = f" of {experts * layers}" if isinstance(experts, int) else ""
    return Finding(
        sentence=f"{told(mine)}{of} experts of {side.label} have less than a tenth of an even "
        "share at the end" + (f", {told(theirs)} of {other.label}" if len(theirs) else ""),
        numbers={"dead": float(mine.mean())},
        strength=float(mine.mean()) / threshold,
        commands=balanced_more(side),
    )


def _dead(side: Side) -> Any:
    pool = side.values("val_pool_dead_experts")
    return pool if len(pool) else side.over_layers("val_dead_experts_layer")


def dropped(_pair: Pair, side: Side, other: Side, threshold: float) -> Finding | None:
    """Ask what share of its choices the capacity of experts turned away."""
    mine, theirs = (each.by_layer("train_drop_rate_layer") for each in (side, other))
    theirs = theirs if len(theirs) else np.zeros(1)
    if not len(mine) or not exceeds(mine, theirs, threshold):
        return None
    return Finding(
        sentence=f"the experts of {side.label} turned away {told(100 * mine)} % of what was sent "
        f"to them in training, those of {other.label} {told(100 * theirs)} %",
        numbers={"dropped": float(mine.mean())},
        strength=float(mine.mean()) / threshold,
        commands=rerun(side, {"model_params.capacity_factor": None}),
    )


RULES = (
    Rule(
        name="collapse",
        title="a collapse was flagged",
        evidence="the flags R1 to R8 that `run` raises: "
        + ", ".join(f"`{name}`" for name in FLAGS),
        threshold=1,
        limit="{} flag or more that no run of the other has, and more often than by chance "
        "(Fisher's test)",
        reason="the thresholds of the flags themselves, in `research_eval/diagnostics/collapse.py`",
        test="changes what the first flag is about: the balance, the learning rate, the z-loss",
        find=flagged,
    ),
    Rule(
        name="dead_experts",
        title="dead experts",
        evidence="`val_dead_experts` over layers, `val_pool_dead_experts`",
        threshold=1,
        limit="{} expert or more, and as many more than of the other",
        reason="each is paid for and does nothing",
        test="runs it with more weight on balance",
        find=dead,
    ),
    Rule(
        name="dropped_tokens",
        title="dropped tokens",
        evidence="`train_drop_rate` of each layer",
        threshold=0.05,
        limit="{} of the choices more than of the other",
        reason="one in twenty tokens loses an expert; a proposal of this project",
        test="runs it without a capacity",
        find=dropped,
    ),
)

"""The router: whether it gets a gradient, prefers anything, and is worth anything."""

from __future__ import annotations

import numpy as np

from research_eval.analysis.words import counted
from research_eval.evaluation.comparing import Cost, recorded_costs, verdict
from research_eval.explaining.commands import evaluate, rerun
from research_eval.explaining.finding import Command, Finding, Lack, Rule
from research_eval.explaining.pair import Pair
from research_eval.explaining.side import Floats, Side, exceeds, told
from research_eval.records import RunRecord

ROUTER = "model_params.router"
DECIDES = ("val_router_entropy", "val_path_length", "val_coupling_entropy")
"""Beginnings of what only networks record in which something decides."""


def is_routed(side: Side) -> bool:
    """Return whether something decides which experts work, so that it can be replaced."""
    return any(map(side.has, DECIDES)) and side.params.get("model_params.coupling") != "mean"


def without_router(side: Side) -> tuple[Command, ...]:
    """Train with random choices, where the model can; else evaluate with them."""
    if side.params.get(ROUTER) not in (None, "random"):
        return rerun(side, {ROUTER: "random"})
    return evaluate(side, "--routing", "random")


def no_gradient(pair: Pair, side: Side, other: Side, threshold: float) -> Finding | None:
    """Compare the router's gradient with that of the whole network."""
    mine, theirs = (_gradient_share(pair, each) for each in (side, other))
    if not len(mine) or mine.mean() >= threshold or _matters(side, pair):
        return None
    if len(theirs) and not exceeds(theirs, mine, 0.0):
        return None
    beside = f", that of {other.label} {told(theirs)}" if len(theirs) else ""
    return Finding(
        sentence=f"the router of {side.label} hardly gets a gradient: its norm is {told(mine)} of "
        f"that of the whole network{beside}",
        numbers={"share": float(mine.mean())},
        strength=min(threshold / max(float(mine.mean()), 1e-12), 1e6),
        commands=without_router(side),
    )


def _gradient_share(pair: Pair, side: Side) -> Floats:
    found = []
    for run in side.runs:
        _, router = pair.curve(run, "train_router_grad_norm")
        _, whole = pair.curve(run, "grad_norm")
        if len(router) and len(whole) and np.median(whole) > 0:
            found.append(float(np.median(router) / np.median(whole)))
    return np.array(found)


def undecided(pair: Pair, side: Side, other: Side, threshold: float) -> Finding | None:
    """Look for routers that prefer no expert."""
    mine, theirs = (each.by_layer("val_router_entropy_layer") for each in (side, other))
    if not side.has("train_router_grad_norm") or not len(mine) or mine.mean() <= threshold:
        return None
    if _matters(side, pair):
        return None
    if len(theirs) and other.has("train_router_grad_norm") and not exceeds(mine, theirs, 0.0):
        return None
    return Finding(
        sentence=f"the router of {side.label} hardly prefers any expert: the entropy of a token's "
        f"distribution is {told(mine)} of its maximum"
        + (f", that of {other.label} {told(theirs)}" if len(theirs) else ""),
        numbers={"entropy": float(mine.mean())},
        strength=(1 - threshold) / max(1 - float(mine.mean()), 1e-6),
        commands=without_router(side),
    )


def routing_worth(pair: Pair, side: Side, other: Side, threshold: float) -> Finding | Lack | None:
    """Ask what it costs to replace what the router decides by chance."""
    if not is_routed(side):
        return None
    mine = _costs(side, pair)
    if not mine:
        example = evaluate(side, "--routing", "random")
        return Lack(f"what the routing of {side.label} is worth", example) if example else None
    if any(cost.low > threshold for _, cost in mine):
        return None
    evaluation, first = mine[-1]
    learned = evaluation.params.get("learned_part", "what it learned")
    said = verdict([first], "random", learned, int(evaluation.value("eval_rows") or 0))
    theirs = _costs(other, pair)
    values = [np.array([cost.value for _, cost in each]) for each in (mine, theirs)]
    beside, effect = "", None
    if theirs and exceeds(values[1], values[0], 0.0):
        effect = float(values[1].mean() - max(values[0].mean(), 0.0))
        beside = f"; in {other.label} it costs {told(values[1])}"
    elif theirs:
        return None
    return Finding(
        sentence=f"the routing of {side.label} is worth nothing that can be shown ("
        f"{evaluation.params.get('split')} split, {len(mine)} of "
        f"{counted(len(side.runs), 'run')} evaluated): {said}{beside}",
        numbers={"cost": first.value, "low": first.low, "high": first.high},
        strength=1.0,
        effect=effect if effect and pair.metric.endswith(first.score) else None,
        commands=_other_control(side),
    )


def _costs(side: Side, pair: Pair) -> list[tuple[RunRecord, Cost]]:
    """Return the newest cost of random routing for each run, in the kind of the metric."""
    found: dict[str, tuple[RunRecord, Cost]] = {}
    for evaluation in side.evaluations:
        costs = recorded_costs(evaluation)
        if evaluation.params.get("routing") == "random" and costs:
            kind = next((c for c in costs if pair.metric.endswith(c.score)), costs[0])
            found[str(evaluation.parent)] = evaluation, kind
    return list(found.values())


def _matters(side: Side, pair: Pair) -> bool:
    """Return whether an evaluation showed that the routing is worth something."""
    return any(cost.low > 0 for _, cost in _costs(side, pair))


def _other_control(side: Side) -> tuple[Command, ...]:
    trained = without_router(side)
    if trained and "--routing" not in trained[-1].words:
        return trained
    return evaluate(side, "--routing", "shuffled")


RULES = (
    Rule(
        name="router_gradient",
        title="a router without gradient",
        evidence="the curves of `train_router_grad_norm` and `grad_norm`",
        threshold=1e-3,
        limit="its median below {} of that of the whole network, and less than of the other; "
        "not if random routing was found to cost something",
        reason="a thousandth of the gradient moves a thousandth of what the other weights move, "
        "unless the optimizer rescales it; a proposal of this project",
        test="trains with random choices, or evaluates with them: is it as good without a router?",
        find=no_gradient,
    ),
    Rule(
        name="router_entropy",
        title="a router that prefers nothing",
        evidence="`val_router_entropy` of each layer, of a router that learns",
        threshold=0.95,
        limit="above {} of the maximum, and above that of the other; not if random routing was "
        "found to cost something",
        reason="of 8 experts, at 0.95 the first has three times the probability of each other one",
        test="trains with random choices, or evaluates with them",
        find=undecided,
    ),
    Rule(
        name="routing_worth",
        title="routing that is worth nothing",
        evidence="`eval_routing_cost_f1` or `_loss` of `evaluate --routing random`",
        threshold=0.0,
        limit="the 95 % interval of the cost reaches down to {}, and the cost is below that of the "
        "other",
        reason="an interval that holds 0 shows no worth",
        test="trains with a random router, or evaluates with shuffled decisions",
        find=routing_worth,
    ),
)

"""Rules that tell a mixture of experts from one in name only.

Each returns a reason in words, which stands as a flag beside the run's scores. The thresholds are
proposals of this project, normalised so that they mean the same for every number of experts E and
of choices K. A rule about an evaluation must hold three times in a row, so that a bad moment is
no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from research_eval.diagnostics.routing import saturation
from research_eval.diagnostics.totals import ExpertReport

Choices: TypeAlias = npt.NDArray[np.generic]

IN_A_ROW = 3
DEAD_FOR_STEPS = 500
EARLY_SHARE = 0.05
Z_GROWTH = 10.0
Z_LIMIT = 2500.0
"""Mean squared logsumexp at which single scores are around 50."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When a rule is asked.

    Attributes:
        warmup_steps: Before them nothing is dead yet.
        is_last: Whether training is over.
    """

    step: int
    warmup_steps: int
    is_last: bool = False


class CollapseWatch:
    """Applies the rules over a training.

    Args:
        memory: What it must remember between evaluations; filled here, kept in resume points.
        learned: Whether there is a router that should learn; controls are not judged for that.
    """

    def __init__(self, memory: dict[str, float], *, learned: bool) -> None:
        self._memory = memory
        self._learned = learned

    def evaluation(self, report: ExpertReport, moment: Moment) -> dict[str, str]:
        """Return the flags that an evaluation raises, reasons by name."""
        flags = {}
        for name, key, reason in self._suspicions(report, moment):
            seen = self._memory.get(f"before:{key}", 0) + 1
            self._memory[f"now:{key}"] = seen
            if seen >= IN_A_ROW:
                flags[name] = f"{reason}, {seen:.0f} evaluations in a row"
        self._forget_what_passed()
        flags |= self._dead(report, moment)
        if moment.is_last and self._learned:
            flags |= _uninformative(report)
        return flags

    def _suspicions(self, report: ExpertReport, moment: Moment) -> Iterator[tuple[str, str, str]]:
        """Yield flag, key and reason of each rule that this evaluation breaks."""
        if moment.step <= moment.warmup_steps:
            return
        for layer, experts, chosen in _routed_layers(report):
            evenness = _evenness(report.scores[f"load_entropy_layer{layer}"], experts, chosen)
            excess = _excess(report.scores[f"load_max_violation_layer{layer}"], experts, chosen)
            if evenness < 0.5 or excess > 0.5:
                reason = f"layer {layer} sends most tokens to the same few of {experts} experts"
                yield "routing_collapse", f"R1:{layer}", reason
        for name, value in report.scores.items():
            if name.startswith("expert_similarity") and value > 0.99:
                where = name.rpartition("layer")[2]
                reason = f"the experts of layer {where} all compute the same ({value:.3f})"
                yield "identical_experts", f"R5:{where}", reason
        usage = report.arrays.get("path_usage", {})
        if report.scores.get("top_path_share", 0) > 0.9 and len(usage[0]) > 1:
            yield "one_path", "R8:path", "more than 90 % take the same path through the experts"
        if report.scores.get("path_ended_at_once", 0) == 1:
            yield "one_path", "R8:end", "every path ends before it visits an expert"

    def _forget_what_passed(self) -> None:
        for key in [key for key in self._memory if key.startswith("before:")]:
            del self._memory[key]
        for key in [key for key in self._memory if key.startswith("now:")]:
            self._memory[key.replace("now:", "before:", 1)] = self._memory.pop(key)

    def _dead(self, report: ExpertReport, moment: Moment) -> dict[str, str]:
        flags = {}
        for name, value in report.scores.items():
            if "dead_experts" not in name:
                continue
            key = f"dead:{name}"
            if value == 0 or moment.step <= moment.warmup_steps:
                self._memory.pop(key, None)
                continue
            since = self._memory.setdefault(key, moment.step)
            if moment.step - since >= DEAD_FOR_STEPS:
                where = name.replace("dead_experts_layer", "layer ").replace(
                    "pool_dead_experts", "the pool"
                )
                flags["dead_experts"] = (
                    f"{value:.0f} experts of {where} have had almost no tokens since step "
                    f"{since:.0f}"
                )
        return flags

    def training(self, means: Mapping[str, float]) -> dict[str, str]:
        """Return the flags that a window of training raises.

        Args:
            means: Averages over its steps, by name; `router_grad_norm` and `aux_router_z` count.
        """
        flags = {}
        if self._learned and means.get("router_grad_norm") == 0:
            flags["router_without_gradient"] = "the task loss does not reach the router"
        z = means.get("aux_router_z")
        if z is not None:
            first = self._memory.setdefault("first_z", z)
            if z > Z_LIMIT or (z > Z_GROWTH * first and z > 100):
                flags["router_logits_grow"] = (
                    f"mean logsumexp² of the router is {z:.3g}, from {first:.3g} at first; "
                    "a larger z_loss_weight holds it"
                )
        return flags


def _routed_layers(report: ExpertReport) -> Iterator[tuple[int, int, int]]:
    """Yield layer, E and K of the layers in which there is something to choose."""
    chosen = report.arrays.get("chosen", {})
    for layer, share_E in report.arrays.get("load_share", {}).items():
        experts, choices = len(share_E), chosen[layer].shape[1]
        if experts > choices:
            yield layer, experts, choices


def _evenness(load_entropy: float, experts: int, chosen: int) -> float:
    """Return the load entropy rescaled so that 0 is the least that K choices allow."""
    least = math.log(chosen) / math.log(experts)
    return (load_entropy - least) / (1 - least)


def _excess(max_violation: float, experts: int, chosen: int) -> float:
    """Return MaxVio as a share of the most that K choices allow; few experts are never judged."""
    return max_violation / (experts / chosen - 1) if experts / chosen >= 4 else 0.0


def _uninformative(report: ExpertReport) -> dict[str, str]:
    for layer, _, _ in _routed_layers(report):
        entropy = report.scores.get(f"router_entropy_layer{layer}", 0)
        margin = report.scores[f"router_margin_layer{layer}"]
        if entropy > 0.98 and margin < 1e-3:
            return {
                "uninformative_router": f"the router of layer {layer} prefers no expert; "
                "compare with router=random"
            }
    return {}


def premature_saturation(
    early: Mapping[int, Choices], entropies: Mapping[int, float], final: Mapping[int, Choices]
) -> dict[str, str]:
    """Return a flag if a router was certain and never changed after the first 5 % of training.

    Args:
        early: Choices [T, K] for some tokens in the first `EARLY_SHARE` of the steps, by layer.
        entropies: Mean normalised entropy of the router at that time, by layer.
        final: Choices for the same tokens at the end, by layer.
    """
    for layer, early_TK in early.items():
        kept = saturation(torch.from_numpy(early_TK), torch.from_numpy(final[layer]))
        if kept > 0.99 and entropies[layer] < 0.05:
            return {
                "premature_saturation": f"the router of layer {layer} decided in the first 5 % "
                "of training and never changed"
            }
    return {}

"""Adds up what experts did over an evaluation pass, on the device, and says it in numbers.

B rows of a batch, T real tokens, E experts, K experts chosen per token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from research_eval.diagnostics import coupling, load, paths, routing
from research_eval.diagnostics.specialisation import specialisation
from research_eval.spec import CouplingRecord, PathRecord, RoutingRecord

SAMPLED_TOKENS = 2048
"""Tokens at the start of the split whose choices are kept, to compare routers over time."""

_Part = TypeVar("_Part", "_Layer", "_Coupling")

Arrays: TypeAlias = Mapping[str, Mapping[int, npt.NDArray[np.generic]]]


@dataclass(frozen=True, slots=True)
class ExpertReport:
    """What experts did over one pass.

    Attributes:
        scores: Numbers by name, `load_entropy_layer0` and the like.
        arrays: Arrays by name and layer: load_share, coactivation, chosen, by_group, coupling,
            similarity, members, path_usage (layer = step), transitions.
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)


class ExpertTotals:
    """Running totals of one pass; empty for a model without experts."""

    def __init__(self) -> None:
        self._layers: dict[int, _Layer] = {}
        self._couplings: dict[int, _Coupling] = {}
        self._paths: list[Tensor] = []
        self._pool = 0
        self._groups: list[Tensor] = []

    def add(
        self,
        routing_records: tuple[RoutingRecord, ...],
        couplings: tuple[CouplingRecord, ...],
        path: PathRecord | None,
        mask_BL: Tensor | None,
        shape: tuple[int, int],
        groups_B: Tensor | None,
    ) -> None:
        """Add one batch.

        Args:
            routing_records: Of its routed layers.
            couplings: Of its coupled layers.
            path: Of its pool of experts.
            mask_BL: True at real tokens; None if there is no padding.
            shape: Rows and length of the batch.
            groups_B: Domain, or else label, of each row.
        """
        if routing_records:
            row_T = routing.row_of_tokens(mask_BL, shape, routing_records[0].chosen_TK.device)
        for record in routing_records:
            self._layers.setdefault(record.layer, _Layer(record)).add(record, row_T, shape[0])
        tokens = shape[0] * shape[1] if mask_BL is None else int(mask_BL.sum())
        for made in couplings:
            self._couplings.setdefault(made.layer, _Coupling(made)).add(made, tokens)
        if path is not None:
            self._paths.append(path.chosen_NP)
            self._pool = path.num_experts
        if groups_B is not None:
            self._groups.append(groups_B)

    def extend(self, later: ExpertTotals) -> None:
        """Add the totals of the rows that come next."""
        for number, layer in later._layers.items():
            _add_or_extend(self._layers, number, layer)
        for number, made in later._couplings.items():
            _add_or_extend(self._couplings, number, made)
        self._paths += later._paths
        self._pool = self._pool or later._pool
        self._groups += later._groups

    def report(self) -> ExpertReport:
        """Return the numbers."""
        scores: dict[str, float] = {}
        arrays: dict[str, dict[int, npt.NDArray[np.generic]]] = {}
        groups_N = torch.cat(self._groups).cpu() if self._groups else None
        parts = [layer.report(number, groups_N) for number, layer in self._layers.items()]
        parts += [made.report(number) for number, made in self._couplings.items()]
        if self._paths:
            parts.append(_path_report(torch.cat(self._paths).cpu(), self._pool))
        for part in parts:
            scores |= part.scores
            for name, by_layer in part.arrays.items():
                arrays.setdefault(name, {}).update(by_layer)
        return ExpertReport(scores, arrays)


def _add_or_extend(totals: dict[int, _Part], number: int, later: _Part) -> None:
    if number in totals:
        totals[number].extend(later)
    else:
        totals[number] = later


class _Layer:
    def __init__(self, record: RoutingRecord) -> None:
        device, experts = record.chosen_TK.device, record.num_experts
        self.num_experts = experts
        self.sums = torch.zeros(3, device=device)  # entropy, margin, fallen through
        self.together_EE = torch.zeros(experts, experts, dtype=torch.int64, device=device)
        self.rows: list[Tensor] = []
        self.sample: list[Tensor] = []
        self.tokens = self.sampled = 0

    def add(self, record: RoutingRecord, row_T: Tensor, rows: int) -> None:
        entropy, margin = routing.token_entropy(record).sum(), routing.token_margin(record).sum()
        self.sums += torch.stack([entropy, margin, routing.fallen_through(record)])
        self.together_EE += routing.coactivation(record)
        self.rows.append(routing.row_load(record, row_T, rows))
        if self.sampled < SAMPLED_TOKENS:
            self.sample.append(record.chosen_TK[: SAMPLED_TOKENS - self.sampled])
            self.sampled += len(self.sample[-1])
        self.tokens += len(record.chosen_TK)

    def extend(self, later: Self) -> None:
        self.sums += later.sums
        self.together_EE += later.together_EE
        self.rows += later.rows
        sample_TK = torch.cat([*self.sample, *later.sample])[:SAMPLED_TOKENS]
        self.sample, self.sampled = [sample_TK], len(sample_TK)
        self.tokens += later.tokens

    def report(self, number: int, groups_N: Tensor | None) -> ExpertReport:
        counts_NE = torch.cat(self.rows).cpu()
        load_E = counts_NE.sum(dim=0)
        entropy, margin, fallen = (self.sums / max(self.tokens, 1)).tolist()
        scores = {
            "load_entropy": load.load_entropy(load_E),
            "effective_experts": load.effective_experts(load_E),
            "load_variation": load.variation(load_E),
            "load_max_violation": load.max_violation(load_E),
            "dead_experts": load.dead_experts(load_E),
            "fall_through_rate": fallen,
            "router_margin": margin,
        }
        if self.num_experts > 1:
            scores["router_entropy"] = entropy / math.log(self.num_experts)
        chosen_TK = torch.cat(self.sample).cpu().to(torch.int16)
        arrays = {
            "load_share": (load_E / load_E.sum().clamp(min=1)).numpy(),
            "coactivation": self.together_EE.cpu().numpy(),
            "chosen": chosen_TK.numpy(),
        }
        if groups_N is not None and len(groups_N) == len(counts_NE):
            found = specialisation(groups_N, counts_NE)
            scores["specialisation"] = found.information
            scores["specialisation_chance"] = found.chance_high
            arrays["by_group"] = found.counts_GE.numpy()
        return _of_layer(number, scores, arrays)


class _Coupling:
    def __init__(self, record: CouplingRecord) -> None:
        self.weights_EE = torch.zeros_like(record.weights_EE)
        self.similarity_EE = torch.zeros_like(record.similarity_EE)
        self.members_HE = record.members_HE
        self.tokens = 0

    def add(self, record: CouplingRecord, tokens: int) -> None:
        self.weights_EE += record.weights_EE * tokens
        self.similarity_EE += record.similarity_EE * tokens
        self.tokens += tokens

    def extend(self, later: Self) -> None:
        self.weights_EE += later.weights_EE
        self.similarity_EE += later.similarity_EE
        self.tokens += later.tokens

    def report(self, number: int) -> ExpertReport:
        weights_EE = (self.weights_EE / max(self.tokens, 1)).cpu().float()
        similarity_EE = (self.similarity_EE / max(self.tokens, 1)).cpu().float()
        scores = {
            "coupling_entropy": coupling.row_entropy(weights_EE),
            "coupling_asymmetry": coupling.asymmetry(weights_EE),
            "expert_similarity": coupling.mean_similarity(similarity_EE),
        }
        arrays = {"coupling": weights_EE.numpy(), "similarity": similarity_EE.numpy()}
        if self.members_HE is not None:
            arrays["members"] = self.members_HE.cpu().float().numpy()
        return _of_layer(number, scores, arrays)


def _of_layer(
    number: int, scores: Mapping[str, float], arrays: Mapping[str, npt.NDArray[np.generic]]
) -> ExpertReport:
    return ExpertReport(
        {f"{name}_layer{number}": value for name, value in scores.items()},
        {name: {number: values} for name, values in arrays.items()},
    )


def _path_report(chosen_NP: Tensor, num_experts: int) -> ExpertReport:
    found = paths.summarise(chosen_NP, num_experts)
    usage_E = found.usage_PE.sum(dim=0)
    scores = {
        "path_length": found.mean_length,
        "path_ended_early": found.ended_early,
        "path_ended_at_once": found.ended_at_once,
        "effective_paths": found.effective_paths,
        "top_path_share": found.top_share,
        "pool_load_entropy": load.load_entropy(usage_E),
        "pool_dead_experts": float(load.dead_experts(usage_E)),
    }
    steps = {step: usage_E.numpy() for step, usage_E in enumerate(found.usage_PE)}
    return ExpertReport(
        scores, {"path_usage": steps, "transitions": {0: found.transitions_EE.numpy()}}
    )

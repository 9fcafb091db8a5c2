"""Controls for what a router learned: its decisions replaced, everything else as it was trained.

A control stands in for the decisions of one module while a network is evaluated
(`Network.routing_replaced`). What the experts make of a token, how much they add, and when a path
ends stays as learned; which expert it is does not. What quality this costs is what the learned
decisions are worth.

T tokens, E experts, K chosen experts per token, M decision makers whose path goes on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from research_eval.spec import RouterOutput

Replacement = Literal["random", "uniform", "shuffled"]

_POSITION_STRIDE = 2**32  # token ids are below it, so (id, position) pairs do not collide
_PLACES = _STEPS = 2**10

# Multipliers of splitmix64's finaliser (Steele et al. 2014), as signed 64-bit integers.
_FIRST, _SECOND = -4658895280553007687, -7723592293110705685


@dataclass(frozen=True, slots=True)
class RoutingControl(ABC):
    """Decides instead of a router, a path's controller, or a coupling of experts.

    Attributes:
        seed: Another seed gives another draw.
        place: Which of a network's deciding modules it stands in for; they draw independently.
    """

    seed: int
    place: int

    @abstractmethod
    def experts(
        self, routed: RouterOutput, num_experts: int, keys_T: Tensor, positions_T: Tensor
    ) -> RouterOutput:
        """Replace which experts each token is sent to.

        Args:
            routed: What the router decided.
            num_experts: E.
            keys_T: `token_keys`.
            positions_T: Position of each token in its row.
        """

    @abstractmethod
    def step(
        self,
        chosen_M: Tensor,
        allowed_ME: Tensor,
        keys_M: Tensor,
        positions_M: Tensor,
        index: int,
    ) -> Tensor:
        """Replace which expert each path visits next.

        Args:
            chosen_M: What the controller decided.
            allowed_ME: Which experts a path may visit; at least one.
            keys_M: Equal for decision makers that read the same.
            positions_M: Of tokens in their rows; 0 for samples.
            index: Of the step, from 0.
        """

    @abstractmethod
    def coupling(self, weights: Tensor) -> Tensor:
        """Replace from which other experts each expert takes; how much, and its own, stay.

        Args:
            weights: [E, E] or [T, E, E]; row i is what expert i takes.
        """

    def stream(self, index: int = 0) -> int:
        """Return what tells this module's draws, and those of its steps, from all others."""
        return (self.seed * _PLACES + self.place) * _STEPS + index


class RandomRouting(RoutingControl):
    """Experts by chance, as in THOR (Zuo et al. 2022, arXiv 2110.04260, section 3).

    A token gets k different experts, each set equally probable, combined with the weights that
    its own k experts had. A path visits any expert that it may. A coupling takes from the others
    in shares drawn uniformly from the simplex, the same for all tokens. Decisions are a fixed
    function of (token id, position, module), of all a sample's tokens where samples decide: they
    repeat, are causal, and depend on no other row.
    """

    def experts(
        self, routed: RouterOutput, num_experts: int, keys_T: Tensor, positions_T: Tensor
    ) -> RouterOutput:
        """See the base class."""
        del positions_T
        scores_TE = fixed_scores(keys_T, num_experts, self.stream())
        chosen_TK = scores_TE.topk(routed.chosen_TK.shape[1], dim=-1).indices
        return replace(routed, chosen_TK=chosen_TK)

    def step(
        self,
        chosen_M: Tensor,
        allowed_ME: Tensor,
        keys_M: Tensor,
        positions_M: Tensor,
        index: int,
    ) -> Tensor:
        """See the base class."""
        del chosen_M, positions_M
        scores_ME = fixed_scores(keys_M, allowed_ME.shape[1], self.stream(index))
        lowest = torch.iinfo(scores_ME.dtype).min
        return scores_ME.masked_fill(~allowed_ME, lowest).argmax(dim=-1)

    def coupling(self, weights: Tensor) -> Tensor:
        """See the base class."""
        generator = torch.Generator().manual_seed(self.stream())
        drawn_EE = torch.empty(weights.shape[-2:]).exponential_(generator=generator)
        return _taken_from_others(weights, drawn_EE.to(weights))


class UniformRouting(RoutingControl):
    """Every expert alike.

    A token gets all experts, each with an equal part of the total weight that its own had: the
    mean of the experts. A path visits the experts in turn, from a start that is drawn as in
    `RandomRouting`, because it can visit only one at a time. A coupling takes from all others
    alike. Causal, and independent of other rows.
    """

    def experts(
        self, routed: RouterOutput, num_experts: int, keys_T: Tensor, positions_T: Tensor
    ) -> RouterOutput:
        """See the base class."""
        del keys_T, positions_T
        total_T1 = routed.weights_TK.sum(dim=1, keepdim=True)
        everyone_E = torch.arange(num_experts, device=total_T1.device)
        shape = (len(total_T1), num_experts)
        return replace(
            routed,
            chosen_TK=everyone_E.expand(shape).contiguous(),
            weights_TK=(total_T1 / num_experts).expand(shape).contiguous(),
        )

    def step(
        self,
        chosen_M: Tensor,
        allowed_ME: Tensor,
        keys_M: Tensor,
        positions_M: Tensor,
        index: int,
    ) -> Tensor:
        """See the base class."""
        del chosen_M, positions_M
        num_experts = allowed_ME.shape[1]
        first_M1 = fixed_scores(keys_M, 1, self.stream()) % num_experts
        experts_E = torch.arange(num_experts, device=keys_M.device)
        turn_ME = (experts_E - first_M1 - index) % num_experts
        return turn_ME.masked_fill(~allowed_ME, num_experts).argmin(dim=-1)

    def coupling(self, weights: Tensor) -> Tensor:
        """See the base class."""
        return _taken_from_others(weights, torch.ones_like(weights))


class ShuffledRouting(RoutingControl):
    """Decisions of others: what a permuted feature is to importance (Breiman 2001, section 10).

    Tokens exchange their decisions, experts and weights, with tokens at the same position in
    other rows of the batch; samples with other samples. Every expert keeps its load, and no token
    learns of a later one of its row; but a result depends on the batch. A path keeps its own
    decision where it may not visit the other's expert. Experts that are coupled exchange givers:
    what an expert took from one, it takes from the next one.
    """

    def experts(
        self, routed: RouterOutput, num_experts: int, keys_T: Tensor, positions_T: Tensor
    ) -> RouterOutput:
        """See the base class."""
        del num_experts, keys_T
        partner_T = self._partners(positions_T, self.stream())
        return replace(
            routed,
            chosen_TK=routed.chosen_TK[partner_T],
            weights_TK=routed.weights_TK[partner_T],
        )

    def step(
        self,
        chosen_M: Tensor,
        allowed_ME: Tensor,
        keys_M: Tensor,
        positions_M: Tensor,
        index: int,
    ) -> Tensor:
        """See the base class."""
        del keys_M
        other_M = chosen_M[self._partners(positions_M, self.stream(index))]
        may_M = allowed_ME.gather(1, other_M[:, None]).squeeze(1)
        return torch.where(may_M, other_M, chosen_M)

    def coupling(self, weights: Tensor) -> Tensor:
        """See the base class."""
        num_experts = weights.shape[-1]
        own_E1 = torch.arange(num_experts, device=weights.device)[:, None]
        giver_EE = own_E1.t().expand(num_experts, -1)
        before_EE = (giver_EE - 1) % num_experts
        before_EE = torch.where(before_EE == own_E1, (own_E1 - 1) % num_experts, before_EE)
        source_EE = torch.where(giver_EE == own_E1, own_E1, before_EE)
        return weights.gather(-1, source_EE.expand_as(weights))

    @staticmethod
    def _partners(positions_M: Tensor, stream: int) -> Tensor:
        """Return a permutation in which those at one position form one random cycle."""
        lots_M = fixed_scores(torch.arange(len(positions_M), device=positions_M.device), 1, stream)
        order_M = lots_M.squeeze(1).argsort()
        order_M = order_M[positions_M[order_M].argsort(stable=True)]
        sorted_M = positions_M[order_M]
        is_last_M = torch.ones_like(sorted_M, dtype=torch.bool)
        is_last_M[:-1] = sorted_M[1:] != sorted_M[:-1]
        first_M = torch.searchsorted(sorted_M, sorted_M)
        next_M = torch.where(is_last_M, order_M[first_M], order_M.roll(-1))
        return torch.empty_like(order_M).index_copy_(0, order_M, next_M)


CONTROLS: Mapping[Replacement, type[RoutingControl]] = {
    "random": RandomRouting,
    "uniform": UniformRouting,
    "shuffled": ShuffledRouting,
}


def _taken_from_others(weights: Tensor, shares: Tensor) -> Tensor:
    """Return weights in which each row's sum over the others is divided by the given shares."""
    is_own_EE = torch.eye(weights.shape[-1], dtype=torch.bool, device=weights.device)
    shares = shares.masked_fill(is_own_EE, 0.0)
    shares = shares / shares.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)
    total = weights.masked_fill(is_own_EE, 0.0).sum(dim=-1, keepdim=True)
    return torch.where(is_own_EE, weights, total * shares)


# --------------------------------------------------------------------- fixed pseudo-random numbers


def token_keys(ids_: Tensor, positions_: Tensor) -> Tensor:
    """Return int64 keys that differ where token id or position does."""
    return ids_ + positions_ * _POSITION_STRIDE


def fixed_scores(keys_T: Tensor, num_experts: int, stream: int) -> Tensor:
    """Return int64 scores [T, E] that look random and depend on (key, expert, stream) only.

    Args:
        keys_T: Any int64 numbers.
        num_experts: E.
        stream: For example a layer; streams get independent scores.
    """
    stream_ = _mix(torch.full((), stream + 1, device=keys_T.device))
    experts_E = _mix(torch.arange(1, num_experts + 1, device=keys_T.device))
    return _mix(_mix(keys_T ^ stream_)[:, None] ^ experts_E)


def _mix(numbers: Tensor) -> Tensor:
    """Apply splitmix64's finaliser, a permutation of the 64-bit integers; products wrap."""
    numbers = _xor_shifted(numbers, 30) * _FIRST
    numbers = _xor_shifted(numbers, 27) * _SECOND
    return _xor_shifted(numbers, 31)


def _xor_shifted(numbers: Tensor, bits: int) -> Tensor:
    return numbers ^ ((numbers >> bits) & ((1 << (64 - bits)) - 1))  # `>>` alone carries the sign

"""What the models share in which each sample, or each token, takes a path through experts.

In each step every decision maker chooses one expert of a shared pool, and only that expert runs
for it. Decision makers are samples for classification. For language modelling they are tokens,
and what they know is a summary of the positions up to their own.

An expert is a whole block, attention included. Its queries and its feed-forward run for the
tokens that chose it. Its keys and values are those of all tokens of the samples in which some
token chose it: one *row* per such pair of a sample and an expert.

B batch, L length, D width, E experts, H heads, d head width, F feed-forward width, G = F, or 2F
with a gate.
N decision makers, M those that still choose, R rows, V visitors: what passes through an expert,
Q tokens of a visitor (L for a sample, 1 for a token).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from research_eval.models._blocks import (
    AttentionPattern,
    Block,
    activate,
    attend,
    feed_forward_params,
)
from research_eval.models._grouped import Slices, grouped_product, slices_of
from research_eval.routing_controls import RoutingControl, fixed_scores, token_keys
from research_eval.spec import BodyInput, TransformerParams


@dataclass(frozen=True, slots=True)
class Visits:
    """Who passes through which expert in one step, sorted by expert.

    Attributes:
        sample_R: Sample of each row.
        expert_R: Expert of each row.
        row_slices: Each expert's slice of the flattened [R, L].
        place_V: Where each visitor is in the batch seen as [-1, Q, D].
        expert_V: Expert of each visitor.
        member_V: Which of the N decision makers each visitor is.
        own_V: Where each visitor is in the flattened [R, L]; None if visitors are whole rows.
        own_slices: Each expert's slice of the flattened [V, Q].
    """

    sample_R: Tensor
    expert_R: Tensor
    row_slices: Slices
    place_V: Tensor
    expert_V: Tensor
    member_V: Tensor
    own_V: Tensor | None
    own_slices: Slices

    def own(self, rows_RLD: Tensor) -> Tensor:
        """Return the visitors among the rows' tokens, [V, Q, D]."""
        if self.own_V is None:
            return rows_RLD
        return rows_RLD.flatten(0, 1).index_select(0, self.own_V).unsqueeze(1)

    def spread(self, own_VQC: Tensor, length: int) -> Tensor:
        """Return [R, L, C]: the visitors at their places in the rows, zeros elsewhere."""
        if self.own_V is None:
            return own_VQC
        rows, channels = len(self.sample_R), own_VQC.shape[2]
        flat = own_VQC.new_zeros(rows * length, channels)
        return flat.index_copy_(0, self.own_V, own_VQC.squeeze(1)).view(rows, length, channels)

    def put(self, rows_RLD: Tensor, own_VQD: Tensor) -> Tensor:
        """Return the rows with their visitors replaced."""
        if self.own_V is None:
            return own_VQD
        flat = rows_RLD.flatten(0, 1).index_copy(0, self.own_V, own_VQD.squeeze(1))
        return flat.view_as(rows_RLD)


class Deciders:
    """Who chooses a path: samples with a real token, or real tokens where time is causal.

    Args:
        batch: What the body reads.
        causal: Whether each token decides for itself.

    Attributes:
        place_N: Sample of each decision maker, or its place in the flattened [B, L].
    """

    def __init__(self, batch: BodyInput, *, causal: bool) -> None:
        self.causal = causal
        self.mask_BL, self.ids_BL = batch.mask_BL, batch.ids_BL
        self.rows, self.length = batch.ids_BL.shape
        if batch.mask_BL is None:
            count = self.rows * self.length if causal else self.rows
            self.place_N = torch.arange(count, device=batch.ids_BL.device)
        else:
            real = batch.mask_BL.flatten() if causal else batch.mask_BL.any(dim=1)
            self.place_N = real.nonzero().squeeze(1)

    def __len__(self) -> int:
        return len(self.place_N)

    def select(self, x_: Tensor) -> Tensor:
        """Return the decision makers' values of a tensor [B, ...], or [B, L, ...] if causal."""
        return (x_.flatten(0, 1) if self.causal else x_).index_select(0, self.place_N)

    def positions(self) -> Tensor:
        """Return [N]: where a token that decides is in its row; 0 for samples."""
        return self.place_N % self.length if self.causal else torch.zeros_like(self.place_N)

    def keys(self) -> Tensor:
        """Return [N]: numbers that depend on a token and its position, or on a sample's tokens."""
        positions_L = torch.arange(self.length, device=self.ids_BL.device)
        keys_BL = token_keys(self.ids_BL, positions_L)
        if self.causal:
            return self.select(keys_BL)
        keys_BL = fixed_scores(keys_BL.flatten(), 1, 0).view(keys_BL.shape)
        if self.mask_BL is not None:
            keys_BL = keys_BL * self.mask_BL
        return self.select(keys_BL.sum(dim=1))

    def mean(self, x_BLD: Tensor) -> Tensor:
        """Return [N, D]: the mean over the real tokens, up to its own for a token that decides."""
        if self.mask_BL is None:
            real_BL1 = x_BLD.new_ones(1, self.length, 1)
        else:
            real_BL1 = self.mask_BL.unsqueeze(-1).to(x_BLD.dtype)
            x_BLD = x_BLD * real_BL1
        if self.causal:
            return self.select(x_BLD.cumsum(dim=1) / real_BL1.cumsum(dim=1).clamp(min=1))
        return self.select(x_BLD.sum(dim=1) / real_BL1.sum(dim=1).clamp(min=1))

    def maximum(self, x_BLD: Tensor) -> Tensor:
        """Return [N, D]: the largest values of the same tokens."""
        if self.mask_BL is not None:
            x_BLD = x_BLD.masked_fill(~self.mask_BL.unsqueeze(-1), torch.finfo(x_BLD.dtype).min)
        return self.select(x_BLD.cummax(dim=1).values if self.causal else x_BLD.amax(dim=1))

    def mean_of_visitors(self, x_VQC: Tensor, visits: Visits) -> Tensor:
        """Return [V, 1, C]: a sample's mean, or a token's over what its row has up to itself."""
        if self.causal:
            totals = visits.spread(x_VQC, self.length).cumsum(dim=1)
            counts = visits.spread(torch.ones_like(x_VQC), self.length).cumsum(dim=1)
            return visits.own(totals) / visits.own(counts)
        if self.mask_BL is None:
            return x_VQC.mean(dim=1, keepdim=True)
        real_VL1 = self.mask_BL.index_select(0, visits.place_V).unsqueeze(-1)
        return (x_VQC * real_VL1).sum(dim=1, keepdim=True) / real_VL1.sum(dim=1, keepdim=True)

    def visits(self, member_M: Tensor, chosen_M: Tensor, num_experts: int) -> Visits:
        """Return the visits of some decision makers.

        Args:
            member_M: Which of the N they are, ascending.
            chosen_M: The expert that each chose.
            num_experts: E.
        """
        place_M = self.place_N.index_select(0, member_M)
        sample_M = place_M // self.length if self.causal else place_M
        row_M = chosen_M * self.rows + sample_M
        order_V = row_M.argsort(stable=True)
        place_V, expert_V = place_M[order_V], chosen_M[order_V]
        counts_E = torch.bincount(chosen_M, minlength=num_experts)
        if not self.causal:
            slices = slices_of(counts_E * self.length)
            member_V = member_M[order_V]
            return Visits(place_V, expert_V, slices, place_V, expert_V, member_V, None, slices)
        row_R, row_V = torch.unique_consecutive(row_M[order_V], return_inverse=True)
        expert_R = row_R // self.rows
        return Visits(
            sample_R=row_R % self.rows,
            expert_R=expert_R,
            row_slices=slices_of(torch.bincount(expert_R, minlength=num_experts) * self.length),
            place_V=place_V,
            expert_V=expert_V,
            member_V=member_M[order_V],
            own_V=row_V * self.length + place_V % self.length,
            own_slices=slices_of(counts_E),
        )


class StackedNorm(nn.Module):
    """One LayerNorm per expert; gains and biases are flat, as weight decay leaves vectors alone."""

    def __init__(self, num_experts: int, width: int) -> None:
        super().__init__()
        self.shape = (num_experts, width)
        self.gain = nn.Parameter(torch.ones(num_experts * width))
        self.bias = nn.Parameter(torch.zeros(num_experts * width))

    def forward(self, x_VQD: Tensor, expert_V: Tensor) -> Tensor:
        """Return each visitor's tokens as its expert normalises them."""
        gain_VD = self.gain.view(self.shape).index_select(0, expert_V)
        bias_VD = self.bias.view(self.shape).index_select(0, expert_V)
        normed_VQD = F.layer_norm(x_VQD, x_VQD.shape[-1:])
        return torch.addcmul(bias_VD.unsqueeze(1), normed_VQD, gain_VD.unsqueeze(1))


class StackedBlocks(nn.Module):
    """E transformer blocks of which each runs for its visitors only.

    They start as copies of one block, as in sparse upcycling (Komatsuzaki et al. 2023): until the
    router has learned something, a path is random, and what one step makes of a sample must suit
    whichever expert comes next. Different samples soon make them different.

    Args:
        params: What the blocks are built from.
        num_experts: E.
    """

    def __init__(self, params: TransformerParams, num_experts: int) -> None:
        super().__init__()
        self.params, self.num_experts = params, num_experts
        block = Block(params)
        attention, feed_forward = block.attention.attention, block.feed_forward
        self.attention_norm = StackedNorm(num_experts, params.embed_dim)
        self.qkv_EDM = copies(attention.qkv, num_experts)
        self.mixed_EDD = copies(attention.out, num_experts)
        self.norm = StackedNorm(num_experts, params.embed_dim)
        self.into_EDG = copies(feed_forward.into, num_experts)
        self.out_EFD = copies(feed_forward.out, num_experts)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, rows_RLD: Tensor, visits: Visits, pattern: AttentionPattern) -> Tensor:
        """Return the visitors as their experts leave them, [V, Q, D].

        Args:
            rows_RLD: All tokens of each row.
            visits: Who passes through which expert.
            pattern: Which positions of a row may look at which.
        """
        normed_RLD = self.attention_norm(rows_RLD, visits.expert_R)
        gathered_VQD = self._attend(normed_RLD, visits, pattern)
        added_VQD = self.attention_update(visits.own(normed_RLD), gathered_VQD, visits)
        x_VQD = visits.own(rows_RLD) + self.dropout(added_VQD)
        hidden = self.product(self.norm(x_VQD, visits.expert_V), self.into_EDG, visits)
        hidden = activate(hidden, self.params.activation)
        updated_VQD: Tensor = x_VQD + self.dropout(self.product(hidden, self.out_EFD, visits))
        return updated_VQD

    def attention_update(
        self, _normed_VQD: Tensor, gathered_VQD: Tensor, _visits: Visits
    ) -> Tensor:
        """Return what the attention sublayer adds: what was gathered."""
        return gathered_VQD

    def product(self, x_VQA: Tensor, weight_EAB: Tensor, visits: Visits) -> Tensor:
        """Return [V, Q, B]: each visitor's tokens times the matrix of its expert."""
        flat = grouped_product(x_VQA.flatten(0, 1), weight_EAB, visits.own_slices)
        return flat.view(*x_VQA.shape[:2], weight_EAB.shape[2])

    def _attend(self, normed_RLD: Tensor, visits: Visits, pattern: AttentionPattern) -> Tensor:
        """Return [V, Q, D]: what the visitors gathered from the tokens of their rows.

        Attention runs over whole rows, with queries of zeros for tokens that chose another
        expert: the products are what costs, and the causal form needs no mask.
        """
        rows, length, width = normed_RLD.shape
        heads = self.params.num_heads
        if visits.own_V is None:
            query_RLD, key_RLD, value_RLD = self.product(normed_RLD, self.qkv_EDM, visits).chunk(
                3, dim=2
            )
        else:
            query_EDD, key_value_EDM = self.qkv_EDM.tensor_split([width], dim=2)
            query_VQD = self.product(visits.own(normed_RLD), query_EDD, visits)
            query_RLD = visits.spread(query_VQD, length)
            key_value = grouped_product(normed_RLD.flatten(0, 1), key_value_EDM, visits.row_slices)
            key_RLD, value_RLD = key_value.view(rows, length, 2 * width).chunk(2, dim=2)
        q_RHLd, k_RHLd, v_RHLd = (
            x_RLD.view(rows, length, heads, width // heads).transpose(1, 2)
            for x_RLD in (query_RLD, key_RLD, value_RLD)
        )
        bias = pattern.bias
        if bias is not None:
            bias = bias.index_select(0, visits.sample_R)
        mixed_RHLd = attend(
            self,
            q_RHLd,
            k_RHLd,
            v_RHLd,
            AttentionPattern(pattern.is_causal, bias),
            rotary=self.params.positions == "rope",
        )
        mixed_RLD = mixed_RHLd.transpose(1, 2).reshape(rows, length, width)
        return self.product(visits.own(mixed_RLD), self.mixed_EDD, visits)


def visit_flops(params: TransformerParams, num_experts: int, length: int, *, causal: bool) -> float:
    """Return forward FLOPs per token of one visit to a block.

    When causal, keys, values and attention are counted for each expert that some token of the row
    may have chosen: all of them, or as many as there are tokens. That is the most there can be.
    """
    width = params.embed_dim
    experts = min(num_experts, length) if causal else 1
    seen = (length + 1) / 2 if causal else length
    own = 4.0 * width**2 + 2 * feed_forward_params(params)
    return own + experts * (4.0 * width**2 + 4.0 * seen * width)


def copies(linear: nn.Linear, num_experts: int) -> nn.Parameter:
    """Return E times the matrix of a projection, [E, inputs, outputs]."""
    return nn.Parameter(linear.weight.detach().t().repeat(num_experts, 1, 1))


@dataclass(frozen=True, slots=True)
class Decision:
    """One step's choice.

    Attributes:
        chosen_M: The action of each decision maker.
        probs_MA: The distribution over actions that it was drawn from.
        relaxed_MA: softmax(logits / tau + noise): what a gradient sees in place of the choice.
    """

    chosen_M: Tensor
    probs_MA: Tensor
    relaxed_MA: Tensor

    def gate(self) -> Tensor:
        """Return 1 for each decision maker, with the gradient of the chosen probability."""
        return straight_through(self.relaxed_MA.gather(1, self.chosen_M[:, None]).squeeze(1))


def straight_through(probs_: Tensor) -> Tensor:
    """Return ones with the gradient of `probs_` (Bengio et al. 2013)."""
    return 1 + (probs_ - probs_.detach())


def gumbel_noise(like_: Tensor) -> Tensor:
    """Return independent samples of the standard Gumbel distribution."""
    return -torch.empty_like(like_).exponential_().log()


def decide(logits_MA: Tensor, noise_MA: Tensor | None, tau: float) -> Decision:
    """Draw from softmax(logits / tau) by adding Gumbel noise, or take the best without noise.

    Jang et al. 2017 and Maddison et al. 2017. A low temperature makes the choice greedy, and not
    only its gradient sharp: the paths of training become those of evaluation.
    """
    logits_MA = logits_MA / tau
    noisy_MA = logits_MA if noise_MA is None else logits_MA + noise_MA
    return Decision(noisy_MA.argmax(dim=-1), logits_MA.softmax(dim=-1), noisy_MA.softmax(dim=-1))


def replaced(
    control: RoutingControl,
    decision: Decision,
    deciders: Deciders,
    member_M: Tensor,
    allowed_ME: Tensor,
    index: int,
) -> Decision:
    """Return the decision of step `index` with other experts for those whose path goes on."""
    goes_on_M = decision.chosen_M < allowed_ME.shape[1]
    member_ = member_M[goes_on_M]
    chosen_ = control.step(
        decision.chosen_M[goes_on_M],
        allowed_ME[goes_on_M],
        deciders.keys()[member_],
        deciders.positions()[member_],
        index,
    )
    return replace(decision, chosen_M=decision.chosen_M.masked_scatter(goes_on_M, chosen_))


def updated(
    x_BLD: Tensor, before_VQD: Tensor, after_VQD: Tensor, gate_N: Tensor, visits: Visits
) -> Tensor:
    """Return the batch in which visitors are x + gate * (expert(x) - x).

    The gate is 1, so the value is expert(x). Its gradient compares the expert with leaving x as
    it is; gate * expert(x) would credit the choice with all of x, which no choice changes.
    """
    gate_V11 = gate_N.index_select(0, visits.member_V)[:, None, None]
    new_VQD = before_VQD + gate_V11 * (after_VQD - before_VQD)
    seen = x_BLD.view(-1, *new_VQD.shape[1:])
    return seen.index_copy(0, visits.place_V, new_VQD.to(seen.dtype)).view_as(x_BLD)

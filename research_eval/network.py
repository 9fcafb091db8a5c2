"""The frame that all models share: embedding, positions, head and loss around a body.

A comparison of two architectures compares their bodies only, because everything else is here.

B batch, L length, T = real tokens of a batch, D width, C classes, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from research_eval.counting import LiveBytes, count_flops
from research_eval.errors import ConfigError, Issue
from research_eval.routing_controls import CONTROLS, Replacement
from research_eval.spec import (
    IGNORED_LABEL,
    INIT_STD,
    AuxLoss,
    BodyContext,
    BodyInput,
    BodyOutput,
    CouplingRecord,
    ModelSpec,
    Past,
    PathRecord,
    RoutingRecord,
    Task,
    TransformerParams,
)
from research_eval.vocabulary_loss import vocabulary_loss, working_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOutput:
    """What a forward pass returns.

    Attributes:
        loss: Mean task loss over the targets, fp32 scalar, in nats; no auxiliary terms. Zero if
            there is no target.
        num_targets: Number of targets, int64 scalar on the network's device.
        aux_losses: Auxiliary terms of the body by name.
        routing: One record per routed layer.
        couplings: One record per layer that couples its experts.
        path: The path through a pool of experts.
        logits_BC: Scores of the classes, fp32; None for language modelling.
        losses: Task loss of each row [B], or at each position [B, L], 0 where there is no
            target; no gradient.
    """

    loss: Tensor
    num_targets: Tensor
    aux_losses: Mapping[str, AuxLoss] = field(default_factory=dict)
    routing: tuple[RoutingRecord, ...] = ()
    couplings: tuple[CouplingRecord, ...] = ()
    path: PathRecord | None = None
    logits_BC: Tensor | None = None
    losses: Tensor


class Network(nn.Module):
    """A body between embedding and head.

    Weights are drawn from torch's global generator: seed it before building.

    Args:
        spec: The model.
        params: Of the class `spec.params`.
        context: What the body is told.
        task: Decides the head: mean over real positions and a linear layer for classification,
            the vocabulary for language modelling.
        num_classes: Classes to tell apart; not used for language modelling.

    Raises:
        ConfigError: If the data set is longer than the model has positions.
    """

    def __init__(
        self,
        spec: ModelSpec,
        params: TransformerParams,
        context: BodyContext,
        *,
        task: Task,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.spec, self.params, self.context, self.task = spec, params, context, task
        self.num_positions = num_positions(params, context.max_length)
        width = params.embed_dim
        self.embedding = nn.Embedding(context.vocab_size, width)
        if params.positions == "learned":
            self.positions = nn.Embedding(self.num_positions, width)
        self.dropout = nn.Dropout(params.dropout)
        self.body = spec.build(params, context)
        self.norm = nn.LayerNorm(width)
        if task == "classification":
            self.head = nn.Linear(width, num_classes)
            nn.init.zeros_(self.head.bias)
        else:
            self.head = nn.Linear(width, context.vocab_size, bias=False)
            if params.tie_embeddings:
                self.head.weight = self.embedding.weight
        for module in self.children():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=INIT_STD)

    def forward(
        self, ids_BL: Tensor, mask_BL: Tensor | None, labels: Tensor, progress: float = 1.0
    ) -> NetworkOutput:
        """Return the loss and what the body reports.

        Args:
            ids_BL: Token ids, int64.
            mask_BL: True at real tokens; None if there is no padding.
            labels: [B] classes, or [B, L] next tokens with `IGNORED_LABEL` where there is
                nothing to predict; all classes, or none.
            progress: Share of the training that is done, for what a body anneals.
        """
        found = self._run_body(ids_BL, mask_BL, progress)
        hidden_BLD = self.norm(found.hidden_BLD)
        logits_BC = None
        if self.task == "classification":
            logits_BC = self._classify(hidden_BLD, mask_BL)
            losses = F.cross_entropy(logits_BC, labels, reduction="none")
            loss = losses.mean()
            num_targets = (labels != IGNORED_LABEL).sum()
        else:
            loss, num_targets, losses = self._language_loss(hidden_BLD, mask_BL, labels)
        aux_losses = dict(found.aux_losses)
        if self.training and found.after_loss is not None:
            aux_losses |= found.after_loss(losses.detach())
        return NetworkOutput(
            loss=loss,
            num_targets=num_targets,
            aux_losses=aux_losses,
            routing=found.routing,
            couplings=found.couplings,
            path=found.path,
            logits_BC=logits_BC,
            losses=losses.detach(),
        )

    def _language_loss(
        self, hidden_BLD: Tensor, mask_BL: Tensor | None, targets_BL: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mean loss, the number of targets, and the loss at each position [B, L]."""
        hidden_TD, targets_T = hidden_BLD.flatten(0, 1), targets_BL.flatten()
        if mask_BL is None:
            loss, num_targets, losses_T = vocabulary_loss(hidden_TD, self.head.weight, targets_T)
            return loss, num_targets, losses_T.view(targets_BL.shape)
        real_T = mask_BL.flatten()
        loss, num_targets, losses_T = vocabulary_loss(
            hidden_TD[real_T], self.head.weight, targets_T[real_T]
        )
        losses_BL = losses_T.new_zeros(targets_BL.shape).masked_scatter(mask_BL, losses_T)
        return loss, num_targets, losses_BL

    def logits(self, ids_BL: Tensor, mask_BL: Tensor | None) -> Tensor:
        """Return fp32 scores: [B, C] of the classes, or [B, L, V] of the next token."""
        hidden_BLD = self.norm(self._run_body(ids_BL, mask_BL).hidden_BLD)
        if self.task == "classification":
            return self._classify(hidden_BLD, mask_BL)
        with torch.autocast(hidden_BLD.device.type, enabled=False):
            logits_BLV: Tensor = self.head(hidden_BLD.float())
        return logits_BLV

    def takes_past(self) -> bool:
        """Return whether rows can be read piece by piece; see `next_logits`."""
        return bool(getattr(self.body, "takes_past", False))

    def next_logits(self, ids_BL: Tensor, past: Past | None = None) -> Tensor:
        """Return fp32 scores [B, V] of the token that follows each row, in evaluation.

        Args:
            ids_BL: Token ids without padding: the rows, or what was added to them since `past`.
            past: What was kept of the rows so far; these positions are added to it.
        """
        hidden_BLD = self._run_body(ids_BL, None, past=past).hidden_BLD
        if past is not None:
            past.length += ids_BL.shape[1]
        with torch.autocast(hidden_BLD.device.type, enabled=False):
            logits_BV: Tensor = self.head(self.norm(hidden_BLD[:, -1]).float())
        return logits_BV

    def param_count(self) -> int:
        """Return the number of parameters; a tied output layer counts once."""
        return sum(p.numel() for p in self.parameters())

    def active_param_count(self) -> int:
        """Return the parameters that take part in one token's forward pass.

        Experts that a token is not sent to are left out. The embedding table counts whole. A
        body that does not declare its cost counts whole too.
        """
        if self.spec.cost is None:
            return self.param_count()
        body = sum(p.numel() for p in self.body.parameters())
        declared = self.spec.cost(self.params, self.context, self.context.max_length)
        return self.param_count() - body + declared.active_params

    def flops_per_token(self, length: int) -> float:
        """Return forward FLOPs per token of an unpadded row: declared, or else counted."""
        if self.spec.cost is None:
            return self.counted_flops_per_token(length)
        if self.task == "classification":
            head = 2 * self.head.weight.numel() / length
        else:
            head = 2 * self.head.weight.numel()
        return self.spec.cost(self.params, self.context, length).flops_per_token + head

    def counted_flops_per_token(self, length: int) -> float:
        """Return forward FLOPs per token, counted in one evaluation of a row of `length`."""
        with torch.no_grad(), _evaluating(self):
            return count_flops(lambda: self.logits(self._sample_row(length), None)) / length

    def step_bytes(
        self, batch_size: int, length: int, autocast: Callable[[], AbstractContextManager[object]]
    ) -> int:
        """Estimate the memory of a training step: weights, gradients, AdamW's two means, the rest.

        One row and two rows pass through the body, forward and backward, and what they need is
        scaled up. The peak is where a language model's head works on top of all that the body
        keeps, or in the body's backward pass, where gradients come up. What an allocator holds
        beyond its tensors is not in it. No random number is drawn; gradients of the body are lost.

        Args:
            batch_size: Rows of a batch.
            length: Tokens of a row.
            autocast: Makes the context of a forward pass.
        """
        one, two = (self._body_bytes(rows, length, autocast) for rows in (1, 2))
        kept, highest = (a + (batch_size - 1) * (b - a) for a, b in zip(one, two, strict=True))
        weights, head, gradient = 4 * self.param_count(), 0, 0
        if self.task == "language_modeling":
            with autocast():
                head = working_bytes(batch_size * length, self.head.weight)
            gradient = 4 * self.head.weight.numel()  # again, of the embedding or for its scaling
        return max(3 * weights + kept + head, 4 * weights + gradient + highest)

    def _body_bytes(
        self, rows: int, length: int, autocast: Callable[[], AbstractContextManager[object]]
    ) -> tuple[int, int]:
        """Return what the body keeps for its backward pass, and the peak of that pass."""
        ids_BL = self._sample_row(length).repeat(rows, 1)
        dropping = [
            p.register_post_accumulate_grad_hook(_drop_gradient)  # type: ignore[no-untyped-call]  # of torch
            for p in self.body.parameters()
            if p.requires_grad
        ]
        with _evaluating(self), LiveBytes([*self.parameters(), *self.buffers()]) as live:
            hidden_BLD = self.embedding(ids_BL).detach().requires_grad_()
            with torch.enable_grad(), autocast():
                hidden_BLD = self.body(BodyInput(hidden_BLD, ids_BL, None)).hidden_BLD
            kept = live.peak = live.now
            hidden_BLD.backward(torch.ones_like(hidden_BLD))
        for hook in dropping:
            hook.remove()
        return kept, live.peak

    def _sample_row(self, length: int) -> Tensor:
        """Return ids [1, length] that touch many tokens and use no random numbers."""
        ids = torch.arange(length, device=self.embedding.weight.device)
        return (ids % self.context.vocab_size)[None]

    def after_step(self) -> None:
        """Tell the body's modules that an optimizer step is done, for example to move a bias."""
        for module in self.body.modules():
            step = getattr(module, "after_step", None)
            if step is not None:
                step()

    def routing_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that decide which experts work; empty if none do."""
        found: list[nn.Parameter] = []
        for module in self.body.modules():
            declared = getattr(module, "routing_parameters", None)
            if declared is not None:
                found += declared()
        return found

    def deciding_modules(self) -> list[Any]:  # Any: torch takes every attribute for a tensor
        """Return the modules of the body whose decisions can be replaced.

        Raises:
            ConfigError: If there are none.
        """
        found = [m for m in self.body.modules() if hasattr(m, "routing_control")]
        if not found:
            raise ConfigError(
                f"model {self.spec.name}, as it is configured, has no routing that could be "
                "replaced: its experts, if any, neither are chosen nor take from each other "
                "(or its body gives no module a `routing_control`)"
            )
        return found

    @contextmanager
    def routing_replaced(self, by: Replacement, *, seed: int = 0) -> Iterator[None]:
        """Replace what decides which experts work, for as long as the context lasts.

        Args:
            by: Which control of `research_eval.routing_controls`.
            seed: Of its draws.

        Raises:
            ConfigError: If there is nothing to replace.
        """
        deciding = self.deciding_modules()
        for place, module in enumerate(deciding):
            module.routing_control = CONTROLS[by](seed, place)
        try:
            yield
        finally:
            for module in deciding:
                module.routing_control = None

    def waives(self) -> dict[str, str]:
        """Return the promises that do not hold in training, each with its reason."""
        waived = dict(self.spec.waives)
        for module in self.body.modules():
            declared = getattr(module, "waives", None)
            if declared is not None:
                waived |= declared()
        return waived

    def _run_body(
        self,
        ids_BL: Tensor,
        mask_BL: Tensor | None,
        progress: float = 1.0,
        past: Past | None = None,
    ) -> BodyOutput:
        start = 0 if past is None else past.length
        end = start + ids_BL.shape[1]
        hidden_BLD = self.embedding(ids_BL)
        if self.params.positions == "learned":
            _fits(end, self.num_positions)
            hidden_BLD = hidden_BLD + self.positions.weight[start:end]
        found: BodyOutput = self.body(
            BodyInput(self.dropout(hidden_BLD), ids_BL, mask_BL, progress, past)
        )
        return found

    def _classify(self, hidden_BLD: Tensor, mask_BL: Tensor | None) -> Tensor:
        """Return fp32 class scores of the mean over real positions; of zeros if there are none."""
        if mask_BL is None:
            pooled_BD = hidden_BLD.float().mean(dim=1)
        else:
            mask_BL1 = mask_BL.unsqueeze(-1)
            total_BD = (hidden_BLD.float() * mask_BL1).sum(dim=1)
            pooled_BD = total_BD / mask_BL1.sum(dim=1).clamp(min=1)
        with torch.autocast(hidden_BLD.device.type, enabled=False):
            logits_BC: Tensor = self.head(pooled_BD)
        return logits_BC


def num_positions(params: TransformerParams, length: int) -> int:
    """Return the positions that a model tells apart when its data is `length` tokens long.

    Raises:
        ConfigError: If the data is longer than the model has positions.
    """
    if params.max_positions is None:
        return length
    _fits(length, params.max_positions)
    return params.max_positions


def _fits(length: int, num_positions: int) -> None:
    if length > num_positions:
        advice = (
            f"the model has {num_positions} positions, but the data set's sequences have {length} "
            f"tokens; set max_positions to {length} or more, or shorten the sequences in "
            "dataset_params"
        )
        raise ConfigError(
            "the data set is longer than the model", [Issue("model_params.max_positions", advice)]
        )


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Switch to evaluation, which draws no random numbers, and back."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None

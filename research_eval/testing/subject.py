"""What a check of a model works on: a small network of it, and batches for its task.

B batch, L length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from research_eval.models._dispatch import Experts
from research_eval.network import Network
from research_eval.registry import ROUTERS_MAP
from research_eval.spec import (
    IGNORED_LABEL,
    BodyContext,
    ModelSpec,
    RouterSpec,
    Task,
    TransformerParams,
)

SMALL = {"embed_dim": 32, "num_layers": 2, "num_heads": 4, "ff_factor": 2.0}
"""Sizes at which a model is checked."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What `Network.forward` reads."""

    ids_BL: Tensor
    mask_BL: Tensor | None
    labels: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model with parameters and a task, small enough to be built many times.

    Attributes:
        find_router: Returns the `RouterSpec` of a name.
        vocab_size: Token ids are below it; 0 fills padding.
        max_length: Longest row.
    """

    spec: ModelSpec
    params: TransformerParams
    task: Task
    find_router: Callable[[str], RouterSpec]
    vocab_size: int = 17
    max_length: int = 12
    num_classes: int = 3

    @classmethod
    def of(
        cls, spec: ModelSpec, task: Task, base_dir: Path | None = None, **fields: Any
    ) -> Subject:
        """Return a subject of width 32 and 2 layers; `fields` are further parameters.

        Args:
            spec: The model.
            task: What it is checked for.
            base_dir: Folder that a router's file starts from.
            **fields: Parameters other than the defaults.
        """
        folder = base_dir or Path.cwd()
        return cls(
            spec=spec,
            params=spec.params(**{**SMALL, **fields}),
            task=task,
            find_router=lambda name: ROUTERS_MAP.find(name, folder),
        )

    def having(self, **fields: Any) -> Subject:
        """Return the same with some parameters replaced."""
        params = self.spec.params(**{**self.params.model_dump(), **fields})
        return replace(self, params=params)

    def network(self, *, seed: int = 0, stirred: bool = True) -> Network:
        """Return a new network in training mode.

        Args:
            seed: Governs its weights.
            stirred: Whether noise is added to every weight. Fresh weights are so small that
                attention is even and experts are alike, and most mistakes would not show.
        """
        torch.manual_seed(seed)
        context = BodyContext(
            vocab_size=self.vocab_size,
            max_length=self.max_length,
            causal=self.task == "language_modeling",
            find_router=self.find_router,
        )
        network = Network(
            self.spec, self.params, context, task=self.task, num_classes=self.num_classes
        )
        if stirred:
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.add_(0.15 * torch.randn_like(parameter))
        return network

    def batch(
        self, rows: int = 4, length: int | None = None, *, seed: int = 1, padded: bool = False
    ) -> Batch:
        """Return random tokens with random labels.

        Args:
            rows: B.
            length: L; the longest by default.
            seed: Governs tokens, labels and lengths.
            padded: Whether rows end early, each at another place; the first is full.
        """
        length = length or self.max_length
        rng = torch.Generator().manual_seed(seed)
        ids_BL = torch.randint(1, self.vocab_size, (rows, length), generator=rng)
        mask_BL = None
        if padded:
            lengths_B = torch.randint(1, length + 1, (rows,), generator=rng)
            lengths_B[0] = length
            mask_BL = torch.arange(length) < lengths_B[:, None]
            ids_BL = ids_BL * mask_BL
        if self.task == "classification":
            labels = torch.randint(0, self.num_classes, (rows,), generator=rng)
        else:
            labels = torch.randint(1, self.vocab_size, (rows, length), generator=rng)
            if mask_BL is not None:
                labels = labels.masked_fill(~mask_BL, IGNORED_LABEL)
        return Batch(ids_BL, mask_BL, labels)


def task_loss(network: Network, batch: Batch) -> Tensor:
    """Return the loss of a batch, without auxiliary terms."""
    loss: Tensor = network(batch.ids_BL, batch.mask_BL, batch.labels).loss
    return loss


def gradients(network: Network, batch: Batch) -> dict[str, Tensor]:
    """Return the task loss's gradient for every parameter by name, zeros where it has none."""
    network.zero_grad()
    task_loss(network, batch).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in network.named_parameters()
    }


def stacked_experts(network: Network) -> Iterator[tuple[str, Experts]]:
    """Yield the network's stacks of experts by name, in the order of layers."""
    for name, module in network.named_modules():
        if isinstance(module, Experts):
            yield name, module


def assert_close(actual: Tensor, expected: Tensor, what: str) -> None:
    """Fail if two results differ by more than fp32 rounding of the largest value.

    Raises:
        AssertionError: With `what` and by how much they differ.
    """
    scale = expected.abs().max().item() if expected.numel() else 0.0
    apart = (actual - expected).abs().max().item() if expected.numel() else 0.0
    if not apart <= 2e-5 * max(scale, 1e-3):
        raise AssertionError(f"{what}: differs by {apart:.2g} where values reach {scale:.2g}")

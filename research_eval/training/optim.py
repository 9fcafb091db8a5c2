"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from research_eval.config.experiment import (
    AdamWParams,
    OptimizerParams,
    SchedulerParams,
    SGDParams,
    WarmupParams,
)

_FUSED_DEVICES = frozenset({"cpu", "cuda", "mps"})


def build_optimizer(
    network: nn.Module, params: OptimizerParams, device: torch.device
) -> torch.optim.Optimizer:
    """Return the optimizer, fused where torch has it; vectors (norms, biases) are not decayed."""
    trained = [p for p in network.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": params.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    fused = device.type in _FUSED_DEVICES
    match params:
        case AdamWParams():
            betas = (params.beta1, params.beta2)
            return torch.optim.AdamW(groups, lr=params.lr, betas=betas, fused=fused)
        case SGDParams():
            return torch.optim.SGD(groups, lr=params.lr, momentum=params.momentum, fused=fused)
        case _:
            raise AssertionError(f"no optimizer is built for {type(params).__name__}")


def lr_factor(step: int, total_steps: int, params: SchedulerParams) -> float:
    """Return the share of the peak learning rate that a step uses.

    Args:
        step: Optimizer step, from 0.
        total_steps: Steps of the whole run.
        params: The schedule.

    Returns:
        A number in 0..1; 1 everywhere without a schedule.
    """
    if not isinstance(params, WarmupParams):
        return 1.0
    warmup_steps = round(params.warmup_factor * total_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    if params.name == "cosine_warmup":
        left = 0.5 * (1 + math.cos(math.pi * progress))
    else:
        left = 1 - progress
    return params.min_factor + (1 - params.min_factor) * left

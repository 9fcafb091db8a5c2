"""Weights and resume points as safetensors files, always replaced in one piece."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from research_eval.errors import RunError


@dataclass(slots=True)
class Counters:
    """How far a training has come; all that a resumed one must know besides tensors.

    Attributes:
        step: Optimizer steps done.
        tokens: Real tokens trained on.
        train_seconds: Time spent in optimizer steps.
        total_seconds: Time since the start, evaluation included, over all attempts.
        best_score: Best value of the monitored metric so far.
        evaluations_since_best: For early stopping.
        best_seen: Best value of each validation score so far, selected or not.
        window: Sums since the last recorded training point.
        collapse: What the rules about collapse must remember.
    """

    step: int = 0
    tokens: int = 0
    train_seconds: float = 0.0
    total_seconds: float = 0.0
    best_score: float | None = None
    best_step: int = 0
    evaluations_since_best: int = 0
    best_seen: dict[str, float] = field(default_factory=dict)
    window: dict[str, float] = field(default_factory=dict)
    collapse: dict[str, float] = field(default_factory=dict)


def write_atomically(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file so that `path` is at any time the old file or the new one.

    Raises:
        RunError: If it cannot be written, for example because the disk is full.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, part, metadata=dict(metadata))
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    except Exception as error:  # safetensors reports a full disk as an error of its own
        part.unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error}; the file of before is untouched") from error


def save_weights(path: Path, network: nn.Module, *, config_json: str, step: int) -> None:
    """Write a network's weights, with the configuration that rebuilds it in the metadata."""
    write_atomically(path, _own_state(network), {"config": config_json, "step": str(step)})


def load_weights(path: Path, network: nn.Module, device: torch.device) -> None:
    """Read weights written by `save_weights` into a network of the same shape."""
    _load_own_state(network, load_file(path, device=str(device)))


def _own_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the state with each shared tensor, such as a tied embedding, under one name only."""
    once = {name for name, _ in network.named_parameters()}
    once |= {name for name, _ in network.named_buffers()}
    return {name: tensor for name, tensor in network.state_dict().items() if name in once}


def _load_own_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what `_own_state` returned; the other names of shared tensors follow by themselves."""
    if state.keys() != _own_state(network).keys():
        raise ValueError("the file holds the weights of another model")
    network.load_state_dict(state, strict=False)


def save_resume_point(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    counters: Counters,
) -> None:
    """Write everything from which training continues as if it had never stopped."""
    optimizer_state = optimizer.state_dict()
    tensors = {f"network.{name}": tensor for name, tensor in _own_state(network).items()}
    for index, slots in optimizer_state["state"].items():
        tensors.update({f"optimizer.{index}.{name}": t for name, t in slots.items()})
    tensors.update({f"rng.{name}": state for name, state in _generator_states().items()})
    metadata = {
        "counters": json.dumps(asdict(counters)),
        "groups": json.dumps(optimizer_state["param_groups"]),
        "scaler": json.dumps(scaler.state_dict()),
    }
    write_atomically(path, tensors, metadata)


def load_resume_point(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> Counters:
    """Restore a resume point into freshly built objects and return the counters.

    Raises:
        RunError: If the file is damaged or belongs to another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # safe_open is no mapping
        _load_own_state(network, _below("network.", tensors))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _below("optimizer.", tensors).items():
            index, slot = name.split(".", 1)
            slots.setdefault(int(index), {})[slot] = tensor
        groups = json.loads(metadata["groups"])
        optimizer.load_state_dict({"state": slots, "param_groups": groups})
        scaler.load_state_dict(json.loads(metadata["scaler"]))
        _restore_generators(_below("rng.", tensors))
        return Counters(**json.loads(metadata["counters"]))
    except Exception as error:  # damage shows itself in many ways; all mean the same to a user
        raise _cannot_continue(path, error) from error


def resume_step(path: Path) -> int:
    """Return the optimizer step that a resume point holds.

    Raises:
        RunError: If the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return int(json.loads(file.metadata()["counters"])["step"])
    except Exception as error:  # damage shows itself in many ways; all mean the same to a user
        raise _cannot_continue(path, error) from error


def _cannot_continue(path: Path, error: Exception) -> RunError:
    return RunError(f"cannot continue from {path}: {error}; start the run anew with --again")


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _generator_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _restore_generators(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    cuda = [state for name, state in sorted(states.items()) if name.startswith("cuda")]
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(cuda)

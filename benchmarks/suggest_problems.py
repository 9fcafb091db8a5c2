"""Three made-up spaces of twelve parameters on which suggestions are compared.

They look like searches over mixtures of experts: hard constraints (`num_heads` divides
`embed_dim`, `top_k` is at most `num_experts`), a learning rate whose best value falls with the
width, a cliff behind which training diverges, and noise of 0.02 between seeds. `moe` is smooth,
`rugged` has ripples over it, and in `needle` one pair of architecture and optimizer stands out. An
instance draws all constants from its number. They were frozen before anything was tuned on them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from research_eval.knobs import AtMost, Choice, Constraint, Divides, LogUniform, Params, Uniform

NOISE = 0.02
"""Standard deviation of a loss between seeds."""

SPACES = ("moe", "rugged", "needle")
ARCHITECTURES = ("dense", "moe", "goe", "goe_original", "gnn_moe", "hgnn_moe")
OPTIMIZERS = ("adamw", "sgd", "lion")


class Knobs(Params):
    """What is searched: five numbers, three whole numbers, four choices."""

    lr: Annotated[float, LogUniform(1e-5, 1e-1)] = 1e-3
    weight_decay: Annotated[float, LogUniform(1e-6, 1e-1)] = 1e-2
    aux_loss_weight: Annotated[float, LogUniform(1e-4, 1.0)] = 1e-2
    dropout: Annotated[float, Uniform(0.0, 0.5)] = 0.1
    warmup: Annotated[float, Uniform(0.0, 0.3)] = 0.1
    num_layers: Annotated[int, Uniform(1, 8)] = 2
    num_experts: Annotated[int, Uniform(2, 16)] = 8
    top_k: Annotated[int, Uniform(1, 8)] = 2
    embed_dim: Annotated[int, Choice(32, 64, 96, 128, 192, 256)] = 64
    num_heads: Annotated[int, Choice(1, 2, 3, 4, 6, 8)] = 4
    architecture: Annotated[
        Literal["dense", "moe", "goe", "goe_original", "gnn_moe", "hgnn_moe"],
        Choice(*ARCHITECTURES),
    ] = "moe"
    optimizer: Annotated[Literal["adamw", "sgd", "lion"], Choice(*OPTIMIZERS)] = "adamw"

    constraints: ClassVar[tuple[Constraint, ...]] = (
        Divides("num_heads", "embed_dim"),
        AtMost("top_k", "num_experts"),
    )


NUMBERS = tuple(name for name in Knobs.model_fields if name not in ("architecture", "optimizer"))
KNOBS = Knobs.knobs()
INTEGERS = frozenset({"num_layers", "num_experts", "top_k", "embed_dim", "num_heads"})


def position(name: str, value: float) -> float:
    """Return where a number lies in its range, 0 to 1, on the declared scale."""
    match KNOBS[name]:
        case LogUniform(low=low, high=high):
            return math.log(value / low) / math.log(high / low)
        case Uniform(low=low, high=high):
            return (value - low) / (high - low)
        case Choice(options=options):
            return options.index(value) / (len(options) - 1)
    raise TypeError(name)


class Instance:
    """One landscape: a loss to be minimised.

    Args:
        space: One of `SPACES`.
        number: Which of them.
    """

    def __init__(self, space: str, number: int) -> None:
        rng = np.random.default_rng([SPACES.index(space), number])
        self.space = space
        self._best = {name: rng.uniform(0.15, 0.85) for name in NUMBERS}
        self._weight = {name: rng.uniform(0.2, 1.0) for name in NUMBERS}
        self._weight["lr"] = rng.uniform(1.5, 3.0)
        self._slope = rng.uniform(0.2, 0.4)
        self._cliff = rng.uniform(0.25, 0.4)
        self._ripples = {name: int(rng.integers(2, 5)) for name in NUMBERS}
        self._height = {name: rng.uniform(0.05, 0.15) for name in NUMBERS}
        spread = 1.2 if space == "needle" else 0.4
        self._pair = rng.uniform(0.3, 1.0, (len(ARCHITECTURES), len(OPTIMIZERS))) * spread
        if space != "needle":
            self._pair = rng.uniform(0, spread, len(ARCHITECTURES))[:, None] + rng.uniform(
                0, 0.3, len(OPTIMIZERS)
            )
        else:
            self._pair[rng.integers(len(ARCHITECTURES)), rng.integers(len(OPTIMIZERS))] = 0.0
        self._shift = rng.uniform(-0.15, 0.15, len(OPTIMIZERS))

    def loss(self, params: Mapping[str, Any]) -> float:
        """Return the loss without noise; NaN where training diverges."""
        at = {name: position(name, params[name]) for name in NUMBERS}
        architecture = ARCHITECTURES.index(params["architecture"])
        optimizer = OPTIMIZERS.index(params["optimizer"])
        best_lr = self._best["lr"] + self._shift[optimizer]
        best_lr -= self._slope * (at["embed_dim"] - 0.5)
        if at["lr"] > best_lr + self._cliff:
            return math.nan
        loss = 1.0 + float(self._pair[architecture, optimizer])
        for name in NUMBERS:
            away = at[name] - (best_lr if name == "lr" else self._best[name])
            loss += self._weight[name] * away**2
            if self.space == "rugged":
                wave = math.cos(2 * math.pi * self._ripples[name] * away)
                loss += self._height[name] * (1 - wave) / 2
        return loss

    def optimum(self) -> float:
        """Return the lowest loss of a legal configuration.

        Given architecture, optimizer and width, the other parameters add up one by one (experts
        and their chosen ones as a pair, heads among the divisors of the width), so each is
        minimised alone: whole numbers by trying all, the others on 501 points of their range.
        """
        found = math.inf
        start = Knobs(num_heads=1, top_k=1, lr=1e-5).model_dump()
        free = ["weight_decay", "aux_loss_weight", "dropout", "warmup"]
        changes = [[{name: v} for v in _fine(name)] for name in free]
        changes.append([{"num_layers": n} for n in range(1, 9)])
        pairs = itertools.product(range(2, 17), range(1, 9))
        changes.append([{"num_experts": e, "top_k": k} for e, k in pairs if k <= e])
        apart = sum(self._gain(start, each) for each in changes)
        widths = KNOBS["embed_dim"].corners()
        for architecture, optimizer, width in itertools.product(ARCHITECTURES, OPTIMIZERS, widths):
            case = {**start, "architecture": architecture, "optimizer": optimizer}
            case["embed_dim"] = width
            heads = [h for h in KNOBS["num_heads"].corners() if width % h == 0]
            gain = self._gain(case, [{"lr": v} for v in _fine("lr")])
            gain += self._gain(case, [{"num_heads": h} for h in heads])
            found = min(found, self.loss(case) + apart + gain)
        return found

    def _gain(self, start: Mapping[str, Any], changes: list[dict[str, Any]]) -> float:
        """Return by how much the best of some changes alters the loss."""
        return float(np.nanmin([self.loss({**start, **c}) for c in changes])) - self.loss(start)


def _fine(name: str) -> list[float]:
    low, high = KNOBS[name].corners()
    share = np.linspace(0, 1, 501)
    is_log = isinstance(KNOBS[name], LogUniform)
    values = low * (high / low) ** share if is_log else low + (high - low) * share
    return [min(float(value), high) for value in values]

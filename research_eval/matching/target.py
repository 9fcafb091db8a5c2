"""What is to be equal, and how exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from research_eval.config.experiment import CostAxis
from research_eval.errors import ConfigError, did_you_mean
from research_eval.metrics import EQUAL_COST, EQUAL_TIME
from research_eval.quantities import amount, parse_amount

AXES: tuple[CostAxis, ...] = get_args(CostAxis)

WORDS: Mapping[CostAxis, str] = {
    "params": "parameters",
    "active_params": "active parameters",
    "flops": "FLOPs per token",
    "step_time": "seconds per step",
}


def tolerance(axis: CostAxis) -> float:
    """Return the relative difference up to which costs on an axis are called equal."""
    return EQUAL_TIME if axis == "step_time" else EQUAL_COST


@dataclass(frozen=True, slots=True)
class Target:
    """A cost on an axis."""

    axis: CostAxis
    value: float

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read `axis=amount` as in active_params=5M, for an axis that is counted.

        Raises:
            ConfigError: If there is no such axis, or the amount is none.
        """
        name, _, wanted = text.partition("=")
        try:
            value = parse_amount(wanted)
        except ValueError as error:
            raise ConfigError(f"'{text}' is no cost as in active_params=5M: {error}") from None
        if value <= 0:
            raise ConfigError(f"'{text}': a cost is more than 0")
        axis = parse_axis(name.strip())
        if axis == "step_time":
            raise ConfigError("step_time is measured for one pair by `match`; take a counted axis")
        return cls(axis, value)

    def __str__(self) -> str:
        shown = amount(self.value) if self.axis != "step_time" else f"{self.value:.3g}"
        return f"{shown} {WORDS[self.axis]}"


def parse_axis(name: str) -> CostAxis:
    """Return the axis of this name.

    Raises:
        ConfigError: If there is none.
    """
    for axis in AXES:
        if axis == name:
            return axis
    raise ConfigError(f"nothing can be matched on '{name}'; {did_you_mean(name, AXES)}")

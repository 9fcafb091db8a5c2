"""What a network would cost: counted without weights wherever that is possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from research_eval.config import Experiment
from research_eval.config.experiment import CostAxis
from research_eval.errors import PluginError
from research_eval.network import Network
from research_eval.prepare import new_network
from research_eval.spec import BodyContext, Dataset, TransformerParams


@dataclass(frozen=True, slots=True)
class Cost:
    """What a configuration costs; the names are those of the axes.

    Attributes:
        params: All parameters.
        active_params: Parameters that take part in one token's forward pass.
        flops: Forward FLOPs per token of a row of full length.
        step_time: Seconds of a training step; None if it was not measured.
    """

    params: int
    active_params: int
    flops: float
    step_time: float | None = None

    def on(self, axis: CostAxis) -> float:
        """Return the cost on an axis.

        Raises:
            ValueError: If it was not measured.
        """
        value: float | None = getattr(self, axis)
        if value is None:
            raise ValueError(f"{axis} was not measured")
        return value


class Counter:
    """Counts what an experiment's model would cost with other parameters.

    Parameters are counted on torch's meta device, which has shapes and no numbers. Where the model
    declares its cost, active parameters and FLOPs need no body at all; where it does not, all
    parameters are active, and FLOPs are counted by running the network once.

    Args:
        experiment: The model, and where its plug-ins are.
        dataset: Says what the embedding and the head must hold.
    """

    def __init__(self, experiment: Experiment, dataset: Dataset) -> None:
        self.experiment = experiment
        self.dataset = dataset

    def cost(self, params: TransformerParams) -> Cost:
        """Return all that can be counted.

        Raises:
            ConfigError: If no network can be built from these parameters.
        """
        network = self.network(params)
        return Cost(
            params=network.param_count(),
            active_params=network.active_param_count(),
            flops=self.on("flops", params),
        )

    def on(self, axis: CostAxis, params: TransformerParams) -> float:
        """Return the cost on an axis that is counted.

        Raises:
            ConfigError: If no network can be built from these parameters.
        """
        length = self.dataset.max_length
        if axis == "params" or (axis == "active_params" and self._is_counted):
            return self.network(params).param_count()
        if axis == "active_params":
            return self._frame(params).active_param_count()
        if axis == "flops":
            if self._is_counted:
                return new_network(self._with(params), self.dataset).flops_per_token(length)
            return self._frame(params).flops_per_token(length)
        raise ValueError(f"{axis} is measured, not counted")

    def network(self, params: TransformerParams) -> Network:
        """Return the network without weights, where its code allows that.

        Raises:
            ConfigError: If it cannot be built.
        """
        return _without_weights(self._with(params), self.dataset)

    @property
    def _is_counted(self) -> bool:
        return self.experiment.model.cost is None

    def _frame(self, params: TransformerParams) -> Network:
        """Return the network without its body, which declares its own share of the cost."""
        experiment = self._with(params)
        model = replace(experiment.model, build=_no_body)
        return _without_weights(replace(experiment, model=model), self.dataset)

    def _with(self, params: TransformerParams) -> Experiment:
        config = self.experiment.config.model_copy(update={"model_params": params})
        return replace(self.experiment, config=config)


def _no_body(_params: TransformerParams, _context: BodyContext) -> nn.Module:
    return nn.Identity()


class _Undrawn(TorchFunctionMode):
    """Fills no initial weights: on the meta device, to draw nothing is what takes the time."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Return the tensor that was to be filled, or else what the function returns."""
        given = kwargs or {}
        if func is torch.Tensor.normal_ or getattr(func, "__module__", "") == "torch.nn.init":
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)


def _without_weights(experiment: Experiment, dataset: Dataset) -> Network:
    try:
        with torch.device("meta"), _Undrawn():
            return new_network(experiment, dataset)
    except PluginError:  # code that looks at the numbers it makes needs some
        return new_network(experiment, dataset)

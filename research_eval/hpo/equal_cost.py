"""Scales every configuration of a study to one cost, so that tuned arms cost the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from research_eval.config import Experiment
from research_eval.config.experiment import MatchedCost
from research_eval.errors import ConfigError
from research_eval.hpo.space import Space
from research_eval.matching.cost import Counter
from research_eval.matching.scaling import Scaling, moved
from research_eval.matching.target import Target
from research_eval.spec import Dataset

_SECTION = "model_params."


@dataclass(frozen=True, slots=True)
class Equal:
    """What was done to a configuration.

    Attributes:
        changes: New values by dotted path.
        match: The cost that it has now.
    """

    changes: Mapping[str, Any]
    match: MatchedCost


class EqualCost:
    """Scales the configurations of one arm.

    Args:
        target: What each of them is to cost.
        experiment: The base of the arm.
        space: What would be searched in it.

    Attributes:
        solved: Path of the first field that is moved; it is not searched.

    Raises:
        ConfigError: If the base leaves no field open that could be moved.
    """

    def __init__(self, target: Target, experiment: Experiment, space: Space) -> None:
        self._target = target
        said = {f"{_SECTION}{name}" for name in experiment.config.model_params.model_fields_set}
        fixed = (said | set(space.fixed or {})) - set(space.knobs)
        self._scaling = Scaling(
            experiment.model,
            [path.removeprefix(_SECTION) for path in fixed if path.startswith(_SECTION)],
        )
        self.solved = _SECTION + next(iter(self._scaling.fields))

    def space(self, space: Space, search: Iterable[str]) -> Space:
        """Return the space without the field that is solved.

        Raises:
            ConfigError: If a range is asked for it.
        """
        asked = {re.sub(r"\[[^\]]*\]", "", text.partition("=")[0]).strip() for text in search}
        if self.solved in asked:
            raise ConfigError(f"{self.solved} is what --match solves, so it cannot be searched")
        knobs = {path: knob for path, knob in space.knobs.items() if path != self.solved}
        return replace(space, knobs=knobs, integers=space.integers - {self.solved})

    def scale(self, experiment: Experiment, dataset: Dataset) -> Equal:
        """Return what must change for a configuration to cost what is asked.

        Raises:
            NoMatchError: If nothing does.
        """
        counter, axis = Counter(experiment, dataset), self._target.axis
        before = experiment.config.model_params
        scaled = self._scaling.solve(
            before, self._target, lambda params: counter.on(axis, params), builds=counter.network
        )
        changes = {f"{_SECTION}{n}": value for n, value in moved(before, scaled.params).items()}
        return Equal(changes, MatchedCost.of(axis, self._target.value, scaled.cost))

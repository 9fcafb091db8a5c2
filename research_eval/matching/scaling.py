"""Scales a model to a cost by the fields that its `SPEC.scale` names, in their order.

A field is moved by at most `SHAPE` from where it starts, as long as a later one can help: a
feed-forward of two units would cost what is asked and be no fair opponent. So the first field is
tried alone, then each later one alone and together with the first; then the same without limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from research_eval.errors import ConfigError, NoMatchError, PluginError, did_you_mean
from research_eval.knobs import validates
from research_eval.matching.search import CostAt, Found, Point, Range, closest
from research_eval.matching.target import Target, tolerance
from research_eval.parameters import NumberRange, number_range
from research_eval.repair import check
from research_eval.spec import ModelSpec, TransformerParams

SHAPE = 8.0
"""By which factor a field is moved at most while a later field can be moved instead."""

EXACT = 1e-4
"""Relative error of a counted cost at which nothing better is looked for."""

DIGITS = 4
"""Significant digits of fractions."""

FARTHEST = 2048
"""How far from the best value of a whole number others are looked at."""

CostOf = Callable[[TransformerParams], float]


@dataclass(frozen=True, slots=True)
class Scaled:
    """Parameters, and what they cost."""

    params: TransformerParams
    cost: float


def moved(before: TransformerParams, after: TransformerParams) -> dict[str, Any]:
    """Return the parameters that are not the same, with their new values."""
    names = type(after).model_fields
    return {n: getattr(after, n) for n in names if getattr(after, n) != getattr(before, n)}


class Scaling:
    """Scales the parameters of a model.

    Args:
        model: Its `scale` says by which fields.
        fixed: Fields that must stay as they are.

    Raises:
        ConfigError: If no field is left to move.
    """

    def __init__(self, model: ModelSpec, fixed: Collection[str] = ()) -> None:
        self.model = model
        self.fields = _ranges(model)
        if not self.fields:
            raise ConfigError(
                f"'{model.name}' cannot be matched: its SPEC.scale names no field; "
                'name those that change its cost, for example scale=("ff_factor", "embed_dim")'
            )
        for name in set(self.fields) & set(fixed):
            del self.fields[name]
        if not self.fields:
            raise ConfigError(
                f"'{model.name}' cannot be matched: {', '.join(model.scale)} would be changed for "
                "that, and they are set; leave one of them open"
            )

    def solve(
        self,
        start: TransformerParams,
        target: Target,
        cost_of: CostOf,
        *,
        builds: Callable[[TransformerParams], object],
        exact: float = EXACT,
    ) -> Scaled:
        """Return the parameters that cost what is asked.

        Args:
            start: Where to begin.
            target: What is asked.
            cost_of: The cost of parameters on the target's axis. Like `builds` it raises a
                `ConfigError` if there is no such network.
            builds: Tries to build the network.
            exact: Relative error at which nothing better is looked for.

        Raises:
            NoMatchError: With the nearest cost there is.
        """
        return _Attempt(self.fields, start, target, cost_of, builds, exact).solve(self.model.name)


def _ranges(model: ModelSpec) -> dict[str, NumberRange]:
    schema = model.params.model_json_schema()["properties"]
    found: dict[str, NumberRange] = {}
    for name in model.scale:
        if name not in schema:
            raise PluginError(
                f"SPEC.scale of '{model.name}' names '{name}', which is none of its parameters; "
                f"{did_you_mean(name, schema)}"
            )
        numbers = number_range(schema[name])
        if numbers is None:
            raise PluginError(f"SPEC.scale of '{model.name}' names '{name}', which is not a number")
        found[name] = numbers
    return found


@dataclass(frozen=True, slots=True)
class _Tried:
    """Parameters that were looked at, and the fields that led there."""

    params: TransformerParams
    found: Found


@dataclass(slots=True)
class _Attempt:
    """One search over all fields."""

    fields: Mapping[str, NumberRange]
    start: TransformerParams
    target: Target
    cost_of: CostOf
    builds: Callable[[TransformerParams], object]
    exact: float
    tried: list[_Tried] = field(default_factory=list)
    known: dict[tuple[float, ...], float | None] = field(default_factory=dict)
    refusal: str = ""

    def solve(self, name: str) -> Scaled:
        for limit in (SHAPE, math.inf) if len(self.fields) > 1 else (math.inf,):
            for each in self._proposals(limit):
                error = each.found.best.cost / self.target.value - 1
                if abs(error) <= tolerance(self.target.axis) and self._is_built(each.params):
                    return Scaled(each.params, each.found.best.cost)
                if len(self.tried) == 1 and each.found.lacking == "below" and self._is_below_all():
                    raise self._no_match(name)
        raise self._no_match(name)

    def _is_below_all(self) -> bool:
        """Return whether the target is less than what the smallest of all fields costs."""
        first, *others = self.fields
        params = self.start
        for other in others:
            least = self._nearest_legal(other, params, max(self.fields[other].low, 0))
            params = params if least is None else self._with(params, other, least)
        return any(each.found.lacking == "below" for each in self._moved(first, params, math.inf))

    def _proposals(self, limit: float) -> Iterator[_Tried]:
        """Yield points of ever more fields."""
        first, *others = self.fields
        yield from self._moved(first, self.start, limit)
        for other in others:
            for alone in self._moved(other, self.start, limit):
                yield alone
                yield from self._together(first, other, alone.found.best.value, limit)

    def _together(self, first: str, other: str, centre: float, limit: float) -> Iterator[_Tried]:
        """Yield the first field's best for each value of the other one, from the centre outwards.

        Where even the least of the first costs too much, larger values of the other need not be
        looked at; where its most costs too little, smaller ones need not.
        """
        is_open = {1: True, -1: True}
        for side, value in self._outwards(other, centre, limit):
            if not is_open[side]:
                if not any(is_open.values()):
                    return
                continue
            for each in self._moved(first, self._with(self.start, other, value), limit):
                if each.found.lacking == "below":
                    is_open[1] = False
                elif each.found.lacking == "above":
                    is_open[-1] = False
                yield each

    def _moved(self, name: str, params: TransformerParams, limit: float) -> Iterator[_Tried]:
        """Yield the best point of one field, if there is any legal one."""
        low, high = self._limits(name, limit)
        within = Range(low, getattr(self.start, name), high)
        found = closest(self._cost_at(name, params), self.target.value, within, self.exact)
        if found is not None:
            self.tried.append(_Tried(self._with(params, name, found.best.value), found))
            yield self.tried[-1]

    def _cost_at(self, name: str, params: TransformerParams) -> CostAt:
        def cost_at(value: float) -> Point | None:
            legal = self._nearest_legal(name, params, value)
            cost = None if legal is None else self._cost(self._with(params, name, legal))
            return None if legal is None or cost is None else Point(legal, cost)

        return cost_at

    def _cost(self, params: TransformerParams) -> float | None:
        """Return what parameters cost, None if there is no such network; each is asked once."""
        key = tuple(getattr(params, name) for name in self.fields)
        if key not in self.known:
            try:
                self.known[key] = self.cost_of(params)
            except PluginError:
                raise
            except ConfigError as error:
                self.known[key], self.refusal = None, str(error)
        return self.known[key]

    def _nearest_legal(self, name: str, params: TransformerParams, value: float) -> float | None:
        numbers = self.fields[name]
        if not numbers.is_integer:
            shortened = float(f"{value:.{DIGITS}g}")
            return shortened if validates(type(params), name, shortened) else None
        candidates = self._outwards(name, value, math.inf)
        return next((each for _side, each in candidates), None)

    def _outwards(self, name: str, centre: float, limit: float) -> Iterator[tuple[int, float]]:
        """Yield legal values and on which side they are, the nearest first."""
        if not self.fields[name].is_integer:
            yield 1, centre
            return
        low, high = self._limits(name, limit)
        middle = round(centre)
        for distance in range(FARTHEST):
            for side in (1, -1) if distance else (1,):
                value = middle + side * distance
                if low <= value <= high and self._is_legal(name, value):
                    yield side, value

    def _limits(self, name: str, limit: float) -> tuple[float, float]:
        numbers, start = self.fields[name], getattr(self.start, name)
        high = start * limit if start > 0 else math.inf
        return max(numbers.low, min(start / limit, start)), min(numbers.high, high)

    def _is_legal(self, name: str, value: int) -> bool:
        kind = type(self.start)
        values = {**self.start.model_dump(), name: value}
        return validates(kind, name, value) and not check(kind, values)

    def _with(self, params: TransformerParams, name: str, value: float) -> TransformerParams:
        return params.model_copy(update={name: value})

    def _is_built(self, params: TransformerParams) -> bool:
        try:
            self.builds(params)
        except PluginError:
            raise
        except ConfigError as error:
            self.refusal = str(error)
            return False
        return True

    def _no_match(self, name: str) -> NoMatchError:
        target, fields = self.target, ", ".join(self.fields)
        if self.known and len({*self.known.values()}) == 1 and self.tried:
            stays = Target(target.axis, self.tried[0].found.best.cost)
            told = f"'{name}' cannot cost {target}: it costs {stays}, whatever {fields}"
            return NoMatchError(told)
        by_error = sorted(self.tried, key=lambda each: abs(each.found.best.cost - target.value))
        nearest = next((each for each in by_error if self._is_built(each.params)), None)
        if nearest is None:
            return NoMatchError(f"'{name}' cannot be built, whatever {fields}: {self.refusal}")
        cost = nearest.found.best.cost
        at = ", ".join(f"{each}={getattr(nearest.params, each):g}" for each in self.fields)
        return NoMatchError(
            f"'{name}' cannot cost {target}: the nearest that {fields} can reach is "
            f"{Target(target.axis, cost)} ({cost / target.value - 1:+.1%}) at {at}; change its "
            "other parameters with path=value, or match on another axis"
        )

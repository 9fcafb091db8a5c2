"""Which parameters are searched, and over which ranges: declared once, beside the parameters.

What the base of a study sets is fixed; every other parameter with a declared range is searched.
`path=range` changes that. Data is never tuned.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from research_eval.config import Experiment, ExperimentConfig
from research_eval.errors import Issue, did_you_mean
from research_eval.knobs import (
    Choice,
    Knob,
    LogUniform,
    Params,
    Uniform,
    is_execution_only,
    is_number,
    knob_of,
    validates,
    when_of,
)
from research_eval.records import leaves

SECTIONS = ("model_params", "optimizer_params", "scheduler_params", "training_params")
"""What is searched beside the fields of the configuration itself."""

_REASONS = {
    "dataset_params": "data is never tuned together with a model",
    "dataset_name": "data is never tuned together with a model",
    "dataset_type": "data is never tuned together with a model",
    "model_type": "architectures are the arms of a study: --model-type",
    "seed": "seeds are no parameter: --seeds",
}
_ARM = re.compile(r"^(\w+)\[([^\]]+)\]")


@dataclass(frozen=True, slots=True)
class Space:
    """What is searched in one arm.

    Attributes:
        knobs: Range of each parameter, by dotted path.
        integers: Paths whose values are whole numbers.
        fixed: Values that are the same in every trial and that the base does not say.
    """

    knobs: Mapping[str, Knob]
    integers: frozenset[str] = frozenset()
    fixed: Mapping[str, Any] | None = None

    def size(self) -> int | None:
        """Return the number of different points; None if there is no end of them."""
        total = 1
        for path, knob in self.knobs.items():
            points = len(grid_values(knob, path in self.integers))
            if not points:
                return None
            total *= points
        return total


def grid_values(knob: Knob, is_integer: bool) -> tuple[Any, ...]:
    """Return all values of a range in order; none if it is continuous."""
    match knob:
        case Choice(options=options):
            return options
        case Uniform(low=low, high=high, step=step) if step or is_integer:
            width = step or 1
            count = int((high - low) / width + 1e-9) + 1
            return tuple(rounded(low + i * width, is_integer) for i in range(count))
        case LogUniform(low=low, high=high) if is_integer:
            return tuple(range(int(low), int(high) + 1))
    return ()


def rounded(value: float, is_integer: bool) -> float | int:
    """Return a sampled number as it is used: whole, or with six significant digits."""
    return round(value) if is_integer else float(f"{value:.6g}")


def space_of(
    experiment: Experiment, arm: str, search: Iterable[str], known: Collection[str] = ()
) -> tuple[Space, list[Issue]]:
    """Return what is searched in an arm, and everything that is wrong with `search`.

    Args:
        experiment: The base with the arm's model.
        arm: Its name; ranges for other arms, as in `model_params[other].top_k`, are passed over.
        search: `path=range` settings.
        known: Paths of all arms; what only others have is passed over here.
    """
    fields = dict(_fields(experiment))
    set_in_base = {path for path, _ in leaves(_set_values(experiment.config))}
    knobs = {
        path: knob
        for path, (params, name) in fields.items()
        if path not in set_in_base and (knob := knob_of(params.model_fields[name])) is not None
    }
    fixed: dict[str, Any] = {}
    issues: list[Issue] = []
    seen: set[str] = set()
    for text in search:
        path, _, wanted = text.partition("=")
        path, is_ours = _for_arm(path.strip(), arm)
        if not is_ours or (path in known and path not in fields):
            continue
        problem = _problem(path, fields, seen)
        seen.add(path)
        if problem is not None:
            issues.append(Issue(path, problem))
            continue
        try:
            found = parse_range(wanted.strip(), *fields[path])
        except ValueError as error:
            issues.append(Issue(path, str(error)))
            continue
        if isinstance(found, Knob):
            knobs[path] = found
        else:
            knobs.pop(path, None)
            fixed[path] = found
    ordered = {
        path: knobs[path]
        for path in fields
        if path in knobs and (path in seen or _may_matter(path, fields, knobs, fixed, experiment))
    }
    integers = frozenset(path for path in ordered if _is_integer(*fields[path]))
    return Space(ordered, integers, fixed), issues


def _may_matter(
    path: str,
    fields: Mapping[str, tuple[type[Params], str]],
    knobs: Mapping[str, Knob],
    fixed: Mapping[str, Any],
    experiment: Experiment,
) -> bool:
    """Return whether a parameter matters in any configuration of the space."""
    params, name = fields[path]
    when = when_of(params.model_fields[name])
    if when is None:
        return True
    section = path.rpartition(".")[0]
    other = f"{section}.{when.field}"
    if other in knobs:
        return True
    value = getattr(getattr(experiment.config, section), when.field)
    return when.holds(fixed.get(other, value))


def paths_of(experiment: Experiment) -> list[str]:
    """Return the paths of everything that could be searched."""
    return [path for path, _ in _fields(experiment)]


def declared_knobs(experiment: Experiment) -> dict[str, Knob]:
    """Return every declared range by path, whether the parameter is set or not."""
    fields = {path: params.model_fields[name] for path, (params, name) in _fields(experiment)}
    return {path: knob for path, info in fields.items() if (knob := knob_of(info)) is not None}


def declared_space(experiment: Experiment) -> Space:
    """Return the space of all declared ranges."""
    fields, knobs = dict(_fields(experiment)), declared_knobs(experiment)
    return Space(knobs, frozenset(path for path in knobs if _is_integer(*fields[path])))


def arms_named(search: Iterable[str]) -> set[str]:
    """Return the arms that are named in brackets."""
    return {found[2] for text in search if (found := _ARM.match(text.strip()))}


def _for_arm(path: str, arm: str) -> tuple[str, bool]:
    found = _ARM.match(path)
    return (_ARM.sub(r"\1", path), found[2] == arm) if found else (path, True)


def _problem(path: str, fields: Mapping[str, Any], seen: set[str]) -> str | None:
    """Say why a path cannot be searched, if it cannot."""
    reason = _REASONS.get(path.partition(".")[0])
    if reason is not None:
        return reason
    if path not in fields:
        return f"there is no such parameter; {did_you_mean(path, fields)}"
    params, name = fields[path]
    if is_execution_only(params.model_fields[name]):
        return "it does not change results, so there is nothing to search"
    return "has two ranges; keep one" if path in seen else None


def _fields(experiment: Experiment) -> Iterable[tuple[str, tuple[type[Params], str]]]:
    """Yield path, class and name of every field but those of the data."""
    config = experiment.config
    for name in ExperimentConfig.model_fields:
        if name in SECTIONS:
            params = type(getattr(config, name))
            for field in params.model_fields:
                yield f"{name}.{field}", (params, field)
        elif name not in _REASONS and name != "origin":
            yield name, (ExperimentConfig, name)


def _set_values(config: ExperimentConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude_unset=True)


def _is_integer(params: type[Params], name: str) -> bool:
    """Return whether the field takes whole numbers and no fractions."""
    field = params.model_json_schema()["properties"][name]
    types = {option.get("type") for option in (field, *field.get("anyOf", ()))}
    return "integer" in types and "number" not in types


def parse_range(text: str, params: type[Params], name: str) -> Knob | Any:
    """Return the range, or the only value, that a text means for a field.

    Raises:
        ValueError: If it cannot be read, contradicts itself, or holds what is not legal.
    """
    declared = knob_of(params.model_fields[name])
    if not text:
        if declared is None:
            raise ValueError("no range is declared for it; write path=low:high or path=a,b,c")
        return declared
    try:
        value = json.loads(text)
    except ValueError:
        knob = _knob(text, declared, is_integer=_is_integer(params, name))
        values = knob.corners() if isinstance(knob, Knob) else (knob,)
    else:
        knob, values = value, (value,)
    for each in values:
        if not validates(params, name, each):
            raise ValueError(f"{json.dumps(each)} is not legal")
    return knob


def _knob(text: str, declared: Knob | None, *, is_integer: bool) -> Knob | str:
    if "," in text:
        return Choice(*(_value(part.strip()) for part in text.split(",")))
    low, *rest = text.split(":")
    numbers = [_value(part) for part in (low, *rest[:1])]
    if not rest or not all(is_number(number) for number in numbers):
        return text
    if len(rest) > 2:
        raise ValueError(f"'{text}' is no range; write low:high, low:high:step or low:high:log")
    scale = rest[1] if len(rest) == 2 else ""
    is_log = scale == "log" or (not scale and isinstance(declared, LogUniform))
    step = _value(scale) if scale not in ("", "log", "linear") else None
    if step is not None and not (is_number(step) and step > 0):
        raise ValueError(f"'{scale}' is no step; write low:high:step, or low:high:log")
    ends = [int(n) if is_integer and n == int(n) else n for n in numbers]
    low_end, high_end = ends
    return LogUniform(low_end, high_end) if is_log else Uniform(low_end, high_end, step)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text

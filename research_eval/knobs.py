"""How a parameter is declared: once, with type, bounds, search range, default and meaning.

A parameter's *bounds* (pydantic ``Field``) say what is legal; its *knob* says what is worth
trying. Knobs are typed objects, so a misspelt keyword is a ``TypeError`` and never a range that
is silently ignored. Ranges are static: one that moves between trials drops out of Optuna's joint
sampling and importance. Relations between parameters are therefore not in the ranges but
declared beside them as data (``Divides``, ``AtMost``); ``repair`` checks and mends them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol, TypeGuard

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


def is_number(value: object) -> TypeGuard[float]:
    """Return whether this is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


class _SchemaMark:
    """An annotation that writes itself into the JSON Schema of its field."""

    def _schema_entry(self) -> dict[str, Any]:
        raise NotImplementedError  # abstract: each mark below says what it writes

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(core_schema), **self._schema_entry()}


class Knob(_SchemaMark):
    """What is worth trying for a parameter; one of the three classes below."""

    def _schema_entry(self) -> dict[str, Any]:
        return {"x-knob": self.described()}

    def described(self) -> dict[str, Any]:
        """Return the kind and the fields, as records and schemas have them."""
        fields = asdict(self)  # type: ignore[call-overload]  # every knob is a dataclass
        return {"kind": type(self).__name__, **fields}

    def corners(self) -> tuple[float | int | str | bool | None, ...]:
        """Return the values that are legal only if the whole range is."""
        raise NotImplementedError  # abstract

    def contains(self, value: object) -> bool:
        """Return whether `value` lies in the range."""
        raise NotImplementedError  # abstract

    def nearest(self, value: float) -> float | int | str | bool | None:
        """Return the value of the range that is closest to `value`."""
        raise NotImplementedError  # abstract


@dataclass(frozen=True, slots=True)
class Uniform(Knob):
    """An even scale from `low` to `high`, both included, in steps of `step` if given.

    Raises:
        ValueError: If `low` is not below `high`.
    """

    low: float
    high: float
    step: float | None = None

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, but got low={self.low}, high={self.high}")

    def corners(self) -> tuple[float, float]:
        """Return the ends."""
        return self.low, self.high

    def contains(self, value: object) -> bool:
        """Return whether `value` is a number between the ends (steps are not required)."""
        return is_number(value) and self.low <= value <= self.high

    def nearest(self, value: float) -> float:
        """Return `value` moved to the closer end if it lies outside."""
        return min(max(value, self.low), self.high)


@dataclass(frozen=True, slots=True)
class LogUniform(Knob):
    """A logarithmic scale from `low` to `high`, both included and positive.

    Raises:
        ValueError: If not 0 < `low` < `high`.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise ValueError(f"0 < low < high must hold, but got low={self.low}, high={self.high}")

    def corners(self) -> tuple[float, float]:
        """Return the ends."""
        return self.low, self.high

    def contains(self, value: object) -> bool:
        """Return whether `value` is a number between the ends."""
        return is_number(value) and self.low <= value <= self.high

    def nearest(self, value: float) -> float:
        """Return `value` moved to the closer end if it lies outside."""
        return min(max(value, self.low), self.high)


@dataclass(frozen=True, slots=True, init=False)
class Choice(Knob):
    """One of the given options; options that are all numbers are ordered.

    Raises:
        ValueError: If fewer than two options are given.
    """

    options: tuple[float | int | str | bool | None, ...]

    def __init__(self, *options: float | int | str | bool | None) -> None:
        if len(options) < 2:
            raise ValueError(f"a choice needs two or more options, but got {options!r}")
        object.__setattr__(self, "options", options)

    def corners(self) -> tuple[float | int | str | bool | None, ...]:
        """Return all options."""
        return self.options

    def contains(self, value: object) -> bool:
        """Return whether `value` is one of the options, and of its type: true is not 1."""
        return any(
            value == o and isinstance(value, bool) == isinstance(o, bool) for o in self.options
        )

    def nearest(self, value: float) -> float | int | str | bool | None:
        """Return the closest numeric option, or the first option if they are not numbers."""
        numbers = [o for o in self.options if is_number(o)]
        if not numbers:
            return self.options[0]
        inside = min(max(value, min(numbers)), max(numbers))
        return min(numbers, key=lambda o: abs(o - inside))


@dataclass(frozen=True, slots=True)
class ExecutionOnly(_SchemaMark):
    """Marks a field that decides how a run is carried out, not what comes out of it.

    Such fields are left out of the configuration hash, so runs that differ only in them pool.
    """

    def _schema_entry(self) -> dict[str, Any]:
        return {"x-execution-only": True}


EXECUTION = ExecutionOnly()


@dataclass(frozen=True, slots=True, init=False)
class When(_SchemaMark):
    """Marks a field that matters only while another one of its class has one of some values.

    A plug-in may use whatever it likes, so a field that names one counts as having such a value.
    """

    field: str
    values: tuple[Any, ...]

    def __init__(self, field: str, *values: Any) -> None:
        object.__setattr__(self, "field", field)
        object.__setattr__(self, "values", values)

    def _schema_entry(self) -> dict[str, Any]:
        return {"x-when": {"field": self.field, "values": list(self.values)}}

    def holds(self, value: Any) -> bool:
        """Return whether the marked field matters if the other one has this value."""
        return value in self.values or (isinstance(value, str) and ":" in value)


@dataclass(frozen=True, slots=True)
class Pluggable(_SchemaMark):
    """Marks a string that names a registered component or a plug-in, `./file.py:Name`."""

    kind: str

    def _schema_entry(self) -> dict[str, Any]:
        return {"x-plugin": self.kind}


class Constraint(Protocol):
    """A relation between parameters of one section that can be checked and mended."""

    @property
    def fields(self) -> tuple[str, str]:
        """The two related fields; the first is the one that a repair changes."""

    def holds(self, changed: int, fixed: int) -> bool:
        """Return whether the relation holds for the values of the two `fields`."""

    def mend(self, changed: int, fixed: int) -> int:
        """Return the closest smaller value of the first field for which it holds."""

    def sentence(self) -> str:
        """Say the relation in words, with the names of the fields."""


@dataclass(frozen=True, slots=True)
class Divides:
    """`divisor` divides `whole` without remainder, for example heads and width."""

    divisor: str
    whole: str

    @property
    def fields(self) -> tuple[str, str]:
        """The two related fields; a repair lowers the divisor."""
        return self.divisor, self.whole

    def holds(self, changed: int, fixed: int) -> bool:
        """Return whether `fixed` is a multiple of `changed`."""
        return changed >= 1 and fixed % changed == 0

    def mend(self, changed: int, fixed: int) -> int:
        """Return the largest divisor of `fixed` that is not above `changed`."""
        return next(d for d in range(max(1, min(changed, fixed)), 0, -1) if fixed % d == 0)

    def sentence(self) -> str:
        """Say the relation in words."""
        return f"{self.divisor} must divide {self.whole}"


@dataclass(frozen=True, slots=True)
class AtMost:
    """`lower` is not above `upper`, for example chosen experts and experts."""

    lower: str
    upper: str

    @property
    def fields(self) -> tuple[str, str]:
        """The two related fields; a repair lowers the first."""
        return self.lower, self.upper

    def holds(self, changed: int, fixed: int) -> bool:
        """Return whether `changed` is not above `fixed`."""
        return changed <= fixed

    def mend(self, changed: int, fixed: int) -> int:
        """Return the smaller of the two."""
        return min(changed, fixed)

    def sentence(self) -> str:
        """Say the relation in words."""
        return f"{self.lower} must not be above {self.upper}"


class Params(BaseModel):
    """Base of every group of parameters: frozen, strict, and closed to unknown keys.

    Attributes:
        constraints: Relations between the fields of this class, added to those of its bases.
        aliases: Other spellings that are accepted on input, mapped to the field they mean.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),
    )
    constraints: ClassVar[tuple[Constraint, ...]] = ()
    aliases: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Check a declaration when it is made, not when a study first draws from it.

        Raises:
            TypeError: If a constraint, an alias or a `When` names no field, or a range holds an
                illegal value.
        """
        super().__pydantic_init_subclass__(**kwargs)
        related = {name for constraint in cls.all_constraints() for name in constraint.fields}
        related |= {mark.field for info in cls.model_fields.values() if (mark := when_of(info))}
        unknown = (related | set(cls.all_aliases().values())) - set(cls.model_fields)
        if unknown:
            raise TypeError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}")
        for name, knob in cls.knobs().items():
            illegal = [value for value in knob.corners() if not validates(cls, name, value)]
            if illegal:
                raise TypeError(f"{cls.__name__}.{name}: {illegal} in its range are not legal")

    @classmethod
    def all_constraints(cls) -> tuple[Constraint, ...]:
        """Return the constraints of this class and of its bases, without repetition."""
        found = [c for base in reversed(cls.__mro__) for c in vars(base).get("constraints", ())]
        return tuple(dict.fromkeys(found))

    @classmethod
    def all_aliases(cls) -> dict[str, str]:
        """Return the aliases of this class and of its bases."""
        merged: dict[str, str] = {}
        for base in reversed(cls.__mro__):
            merged.update(vars(base).get("aliases", {}))
        return merged

    @classmethod
    def knobs(cls) -> dict[str, Knob]:
        """Return the search range of every field that has one."""
        pairs = ((name, knob_of(info)) for name, info in cls.model_fields.items())
        return {name: knob for name, knob in pairs if knob is not None}


def knob_of(info: FieldInfo) -> Knob | None:
    """Return the knob in a field's annotation, or None if the field is never searched."""
    return next((mark for mark in info.metadata if isinstance(mark, Knob)), None)


def plugin_kind_of(info: FieldInfo) -> str | None:
    """Return which kind of component the field names, or None if it names none."""
    return next((mark.kind for mark in info.metadata if isinstance(mark, Pluggable)), None)


def when_of(info: FieldInfo) -> When | None:
    """Return when the field matters, or None if it always does."""
    return next((mark for mark in info.metadata if isinstance(mark, When)), None)


def is_execution_only(info: FieldInfo) -> bool:
    """Return whether the field is marked as not affecting results."""
    return any(isinstance(mark, ExecutionOnly) for mark in info.metadata)


def validates(params: type[Params], name: str, value: Any) -> bool:
    """Return whether a field takes the value alone, whatever the other fields are."""
    try:
        params.model_validate_json(json.dumps({name: value}))
    except ValidationError as error:
        # A field that is missing says nothing about this one.
        return all(detail["type"] == "missing" for detail in error.errors())
    return True

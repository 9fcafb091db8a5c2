"""Declarations: what a range offers, what a class refuses, and what a repair guarantees."""

import json
from typing import Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from research_eval.config.experiment import OPTIMIZERS, SCHEDULES, ExperimentConfig, TrainingParams
from research_eval.knobs import (
    EXECUTION,
    AtMost,
    Choice,
    Divides,
    LogUniform,
    Params,
    Pluggable,
    Uniform,
    When,
    is_execution_only,
    knob_of,
    plugin_kind_of,
)
from research_eval.registry import DATASETS_MAP, MODELS_MAP
from research_eval.repair import check, repair, settled


class Sample(Params):
    """Everything that a class can declare."""

    width: Annotated[int, Field(ge=1), Choice(32, 64, 128)] = 64
    """Width."""
    heads: Annotated[int, Field(ge=1), Uniform(1, 8)] = 4
    """Heads."""
    experts: Annotated[int, Field(ge=1), Choice(4, 8)] = 8
    """Experts."""
    top_k: Annotated[int, Field(ge=1), Choice(1, 2)] = 2
    """Chosen."""
    lr: Annotated[float, Field(gt=0), LogUniform(1e-4, 1e-2)] = 1e-3
    """Rate."""
    clip: Annotated[float | None, Field(gt=0), Uniform(0.5, 2.0)] = 1.0
    """Clip."""
    groups: Annotated[list[int], Field(max_length=3)] = Field(default_factory=list)
    """Groups."""
    form: Literal["a", "b"] = "a"
    """Form."""
    tied: Annotated[bool, EXECUTION] = True
    """Tied."""
    router: Annotated[str, Pluggable("router")] = "softmax"
    """Router."""

    constraints: ClassVar = (Divides("heads", "width"), AtMost("top_k", "experts"))
    aliases: ClassVar = {"top_k_experts": "top_k"}


class Narrower(Sample):
    """A class adds to what its base declares."""

    shared: Annotated[int, Field(ge=0)] = 0
    """Shared experts."""

    constraints: ClassVar = (AtMost("shared", "top_k"),)
    aliases: ClassVar = {"num_shared": "shared"}


# --------------------------------------------------------------------------------------- knobs


@pytest.mark.parametrize(
    "make",
    [
        lambda: Uniform(2, 1),
        lambda: Uniform(1, 1),
        lambda: Uniform(float("nan"), 1),
        lambda: LogUniform(0, 1),
        lambda: LogUniform(-1, 1),
        lambda: Choice("one"),
    ],
)
def test_an_empty_range_is_refused(make):
    with pytest.raises(ValueError, match=r"low|choice"):
        make()


def test_a_misspelt_keyword_is_an_error_and_not_a_range_that_is_ignored():
    with pytest.raises(TypeError):
        Uniform(0.0, 1.0, scale="log")


@pytest.mark.parametrize(
    ("knob", "inside", "outside"),
    [
        (Uniform(1, 4), [1, 2, 2.5, 4], [0, 4.1, True, "2", None]),
        (LogUniform(1e-4, 1e-2), [1e-4, 1e-3, 1e-2], [1e-5, 1, True]),
        (Choice(1, 2), [1, 2], [3, True, "1", None]),
        (Choice("a", None), ["a", None], ["b", 1]),
        (Choice(False, True), [False, True], [0, 1]),
    ],
)
def test_contains(knob, inside, outside):
    assert all(knob.contains(value) for value in inside)
    assert not any(knob.contains(value) for value in outside)


@pytest.mark.parametrize(
    ("knob", "value", "nearest"),
    [
        (Uniform(1, 4), 9, 4),
        (Uniform(1, 4), -1, 1),
        (Uniform(1, 4), 2.5, 2.5),
        (LogUniform(1e-4, 1e-2), 0, 1e-4),
        (Choice(32, 64, 128), 100, 128),
        (Choice(32, 64, 128), 10**400, 128),
        (Choice(None, 1.0, 2.0), 1.4, 1.0),
        (Choice("a", "b"), 3, "a"),
    ],
)
def test_nearest(knob, value, nearest):
    assert knob.nearest(value) == nearest


def test_marks_are_found_on_fields():
    fields = Sample.model_fields
    assert knob_of(fields["lr"]) == LogUniform(1e-4, 1e-2)
    assert knob_of(fields["form"]) is None
    assert set(Sample.knobs()) == {"width", "heads", "experts", "top_k", "lr", "clip"}
    assert plugin_kind_of(fields["router"]) == "router"
    assert is_execution_only(fields["tied"])
    assert not is_execution_only(fields["lr"])


def test_a_class_inherits_constraints_and_aliases():
    assert Narrower.all_constraints() == (*Sample.constraints, AtMost("shared", "top_k"))
    assert Narrower.all_aliases() == {"top_k_experts": "top_k", "num_shared": "shared"}


# -------------------------------------------------------------------------------- declarations


def test_a_constraint_or_alias_of_a_field_that_is_not_there_is_refused_at_once():
    with pytest.raises(TypeError, match="Wrong has no field hedas"):

        class Wrong(Sample):
            constraints: ClassVar = (Divides("hedas", "width"),)

    with pytest.raises(TypeError, match="Worse has no field depth"):

        class Worse(Sample):
            aliases: ClassVar = {"layers": "depth"}


class Routed(Params):
    """A class whose fields do not always matter."""

    router: str = "softmax"
    """Which."""

    k: Annotated[int, Field(ge=1), Choice(1, 2)] = 2
    """How many."""

    noise: Annotated[float, LogUniform(0.1, 3.0), When("router", "noisy")] = 1.0
    """For noisy."""


def test_what_does_not_matter_is_settled_at_its_default():
    given = {"router": "softmax", "k": 1, "noise": 0.2}
    assert settled(Routed, given, ["noise", "k"]) == {"router": "softmax", "k": 1, "noise": 1.0}
    assert settled(Routed, given, ["k"]) == given
    for router in ("noisy", "./mine.py:Router"):
        assert settled(Routed, given | {"router": router}, ["noise"])["noise"] == 0.2


def test_mattering_by_a_field_that_is_not_there_is_refused_at_once():
    with pytest.raises(TypeError, match="no field rooter"):

        class Wrong(Params):
            noise: Annotated[float, When("rooter", "noisy")] = 1.0


def test_a_range_with_illegal_values_is_refused_at_once():
    with pytest.raises(TypeError, match=r"Wrong.rate: \[1.5\] in its range are not legal"):

        class Wrong(Params):
            rate: Annotated[float, Field(le=1), Uniform(0.0, 1.5)] = 0.1


# ------------------------------------------------------------------------------ check and repair


def test_check_names_each_broken_relation_and_what_would_be_legal():
    found = check(Sample, {"heads": 6, "top_k": 9})
    assert [str(issue) for issue in found] == [
        "heads: heads must divide width, but heads = 6 and width = 64; heads=4 would be legal",
        "top_k: top_k must not be above experts, but top_k = 9 and experts = 8; "
        "top_k=8 would be legal",
    ]
    assert check(Sample, {"heads": 8, "width": 128}) == []
    assert [issue.path for issue in check(Sample, {"heads": 6, "top_k": 9}, skip=["width"])] == [
        "top_k"
    ]


@pytest.mark.parametrize(
    ("values", "repaired"),
    [
        ({"heads": 6}, {"heads": 4}),
        ({"heads": 0}, {"heads": 1}),
        ({"width": 100}, {"width": 100}),
        ({"width": 30}, {"width": 30, "heads": 3}),
        ({"top_k": 9, "experts": 4}, {"top_k": 4, "experts": 4}),
        ({"experts": 1}, {"experts": 1, "top_k": 1}),
        ({"lr": 0}, {"lr": 1e-4}),
        ({"lr": "fast"}, {"lr": 1e-3}),
        ({"lr": float("nan")}, {"lr": 1e-3}),
        ({"heads": 2.6}, {"heads": 2}),
        ({"heads": True}, {"heads": 4}),
        ({"form": "c"}, {"form": "a"}),
        ({"groups": [1, 2, 3, 4]}, {"groups": []}),
        ({"router": "\ud800"}, {"router": "softmax"}),
        ({"unknown": 1}, {}),
    ],
)
def test_repair_moves_to_a_legal_value_nearby(values, repaired):
    assert repair(Sample, values)[0] == repaired


def test_repair_says_what_it_changed():
    _, changes = repair(Sample, {"experts": 1, "lr": -1, "form": "a"})
    assert sorted(map(str, changes)) == ["lr=0.0001", "top_k=1"]
    assert {(change.field, change.before, change.after) for change in changes} == {
        ("lr", -1, 1e-4),
        ("top_k", 2, 1),
    }
    _, (change,) = repair(Sample, {"heads": True})
    assert (change.before, change.after) == (True, 4), "true is not 1"


REGISTERED: dict[str, type[Params]] = {
    **{f"model {name}": spec.params for name, spec in MODELS_MAP.items()},
    **{f"data set {name}": spec.params for name, spec in DATASETS_MAP.items()},
    **{f"optimizer {name}": params for name, params in OPTIMIZERS.items()},
    **{f"schedule {name}": params for name, params in SCHEDULES.items()},
    "training": TrainingParams,
    "sample": Sample,
    "narrower": Narrower,
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def values_of(params: type[Params]) -> st.SearchStrategy[dict[str, Any]]:
    """Any JSON values under the names of some fields; numbers are often near the bounds."""
    near = st.integers(-2, 40) | st.floats(-1, 3) | json_values
    return st.fixed_dictionaries({}, optional=dict.fromkeys([*params.model_fields, "other"], near))


@pytest.mark.parametrize("name", sorted(REGISTERED))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_repair_makes_legal_once_and_for_all(name, data):
    params = REGISTERED[name]
    repaired, _ = repair(params, data.draw(values_of(params)))
    params.model_validate_json(json.dumps(repaired))
    assert check(params, repaired) == []
    again, changes = repair(params, repaired)
    assert again == repaired
    assert changes == (), "a legal configuration comes back as it is"


@pytest.mark.parametrize("name", sorted(REGISTERED))
def test_every_field_has_a_meaning_and_a_default_that_is_legal(name):
    params = REGISTERED[name]
    assert params.__doc__
    assert check(params, {}) == []
    assert params().model_dump() == params.model_validate_json("{}").model_dump()
    for field, info in params.model_fields.items():
        assert info.description, f"{field} has no docstring"


@pytest.mark.parametrize("name", sorted(ExperimentConfig.model_fields))
def test_every_field_of_a_configuration_has_a_meaning(name):
    assert ExperimentConfig.model_fields[name].description

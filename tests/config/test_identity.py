"""What a configuration is recognised by, and how it describes itself."""

import pytest

from research_eval.config import canonical_json, config_hash, json_schema, validate
from research_eval.knobs import LogUniform

GOLDEN = {
    "defaults": "305c6d5dd064bf2310eae1cb3f41cc754b4699a0f168cb07be9cd18d250cf87f",
    "sgd": "d5847dda5036a70ff63b4426e4280286fda597d514086040cecc4c47ac3b96e7",
    "other": "bd3a9fa1aa67eb4f1ede89456c6ec52944d7b821a38fde06b2c17ad0da708db3",
}


@pytest.fixture
def identity(folder, legal):
    return lambda **sections: config_hash(validate({**legal, **sections}, base_dir=folder))


def test_golden_hashes(identity):
    """A change here means that recorded runs no longer pool with new ones: raise a version."""
    assert {
        "defaults": identity(),
        "sgd": identity(optimizer_params={"name": "sgd", "lr": 0.1}),
        "other": identity(
            epochs=3,
            model_params={"top_k": 1, "dropout": 0.1},
            dataset_params={"data_seed": 7},
            scheduler_params={"name": "none"},
            training_params={"max_steps": 100, "precision": "fp32"},
        ),
    } == GOLDEN


@pytest.mark.parametrize(
    "sections",
    [
        {"experiment_name": "another"},
        {"project": "thesis", "tags": ["a"]},
        {"seed": 7},
        {"dataset_type": "synthetic"},
        {"$schema": "run.schema.json"},
        {"origin": {"kind": "study"}},
        {"dataset_params": {"path": "elsewhere"}},
        {"training_params": {"device": "cpu", "num_threads": 1, "keep_checkpoints": "none"}},
        {"training_params": {"log_every": 1, "compile": True}},
    ],
)
def test_what_does_not_affect_the_result_does_not_enter(identity, sections):
    assert identity(**sections) == identity()


@pytest.mark.parametrize(
    "sections",
    [
        {"epochs": 10, "batch_size": 64},
        {"model_params": {}},
        {"model_params": {"num_experts": 8, "dropout": 0.0}},
        {"model_params": {"num_experts_per_layer": 8, "dropout": 0}},
        {"optimizer_params": {"name": "adamw", "lr": 1e-3}},
        {"optimizer_params": {"aux_loss_coeff": 0.01}},
        {"scheduler_params": {"name": "cosine_warmup"}},
    ],
)
def test_a_default_that_is_written_out_changes_nothing(identity, sections):
    assert identity(**sections) == identity()


@pytest.mark.parametrize(
    "sections",
    [
        {"epochs": 11},
        {"model_params": {"num_experts": 4}},
        {"model_params": {"router": "random"}},
        {"dataset_params": {"data_seed": 1}},
        {"optimizer_params": {"lr": 2e-3}},
        {"optimizer_params": {"name": "sgd"}},
        {"scheduler_params": {"name": "none"}},
        {"scheduler_params": {"name": "linear_warmup"}},
        {"training_params": {"precision": "bf16"}},
        {"training_params": {"select": "last"}},
        {"model_type": "./tiny.py:PLAIN"},
        {"model_type": "./tiny.py:NEWER"},
    ],
)
def test_what_affects_the_result_enters(identity, sections):
    assert identity(**sections) != identity()


def test_another_version_of_the_router_enters(folder, legal):
    hashes = []
    for version in (1, 1, 2):
        folder.joinpath("mine.py").write_text(
            "from research_eval.routers.hash import Hash\n"
            "from research_eval.spec import RouterSpec\n"
            f"SPEC = RouterSpec(name='mine', build=Hash, version={version})\n"
        )
        sections = {"model_type": "moe", "model_params": {"router": "./mine.py:SPEC"}}
        hashes.append(config_hash(validate({**legal, **sections}, base_dir=folder)))
    assert hashes[0] == hashes[1] != hashes[2]


def test_canonical_json_is_one_text_for_one_value():
    assert canonical_json({"b": [1.0, None], "a": "é"}) == '{"a":"\\u00e9","b":[1.0,null]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


# -------------------------------------------------------------------------------------- schema


def test_the_schema_of_one_experiment_holds_ranges_bounds_and_meanings(folder, legal):
    schema = json_schema(validate(legal, base_dir=folder))
    experts = schema["$defs"]["TinyParams"]["properties"]["num_experts"]
    assert experts["minimum"] == 2
    assert experts["default"] == 8
    assert experts["description"] == "Experts per layer."
    assert experts["x-knob"] == {"kind": "Choice", "options": (4, 8)}
    assert schema["$defs"]["TinyParams"]["additionalProperties"] is False
    lr = schema["$defs"]["AdamWParams"]["properties"]["lr"]
    assert lr["x-knob"] == {"kind": "LogUniform", "low": 1e-4, "high": 1e-2}
    assert LogUniform(1e-4, 1e-2).contains(lr["default"])
    assert schema["properties"]["seed"]["x-execution-only"] is True
    assert schema["properties"]["model_type"]["x-plugin"] == "model"


def test_every_field_of_the_schema_has_a_meaning(folder, legal):
    schema = json_schema(validate(legal, base_dir=folder))
    for owner in (schema, *schema["$defs"].values()):
        for name, field in owner["properties"].items():
            assert field.get("description") or "$ref" in field, name


def test_the_general_schema_tells_the_sections_apart_by_what_is_named():
    schema = json_schema()
    cases = {
        (section, target["$ref"].rpartition("/")[2]): case["if"]
        for case in schema["allOf"]
        for section, target in case["then"]["properties"].items()
    }
    assert cases["model_params", "moe.model_params"] == {
        "properties": {"model_type": {"const": "moe"}},
        "required": ["model_type"],
    }
    named = {"properties": {"name": {"const": "sgd"}}, "required": ["name"]}
    assert cases["optimizer_params", "sgd.optimizer_params"]["properties"] == {
        "optimizer_params": named
    }
    default = cases["optimizer_params", "adamw.optimizer_params"]["properties"]
    assert "required" not in default["optimizer_params"], "adamw need not be named"
    for _, name in cases:
        assert "properties" in schema["$defs"][name]

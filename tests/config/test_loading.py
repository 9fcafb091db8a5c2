"""What the one door lets in, and what it says to what it does not."""

import json

import pytest

from research_eval.config import ExperimentConfig, load_file, load_text, validate
from research_eval.config.experiment import SGDParams
from research_eval.errors import ConfigError


@pytest.fixture
def refused(folder, legal):
    """Return the issues of a configuration, as {path: message}, after checking it is refused."""

    def issues(changes=None, overrides=(), **sections):
        tree = {**legal, **sections, **(changes or {})}
        with pytest.raises(ConfigError) as caught:
            load_text(json.dumps(tree), overrides=overrides, base_dir=folder)
        found = caught.value.issues
        paths = [issue.path for issue in found]
        assert len(set(paths)) == len(paths), "one line for each field"
        assert all("\n" not in str(issue) for issue in found)
        return {issue.path: issue.message for issue in found}

    return issues


# ------------------------------------------------------------------------------------- accepted


def test_sections_are_of_the_classes_that_the_configuration_names(folder, legal):
    given = {**legal, "optimizer_params": {"name": "sgd"}, "model_params": {"top_k": 1}}
    config = validate(given, base_dir=folder).config
    assert type(config.optimizer_params) is SGDParams
    assert config.model_params.top_k == 1
    assert config.model_params.num_experts == 8
    assert config.dataset_params.length == 16


def test_a_whole_number_is_good_for_a_float(folder, legal):
    config = validate({**legal, "optimizer_params": {"lr": 1}}, base_dir=folder).config
    assert config.optimizer_params.lr == 1.0
    assert isinstance(config.optimizer_params.lr, float)


def test_an_original_name_means_the_field(folder, legal):
    given = {**legal, "model_params": {"num_experts_per_layer": 4, "dim_feedforward_factor": 2}}
    params = validate(given, base_dir=folder).config.model_params
    assert (params.num_experts, params.ff_factor) == (4, 2.0)


def test_a_field_that_moved_is_found_where_older_configurations_keep_it(folder, legal):
    given = {**legal, "optimizer_params": {"lr": 1e-2, "aux_loss_coeff": 0.5}}
    config = validate(given, base_dir=folder).config
    assert config.model_params.aux_loss_weight == 0.5
    assert config.optimizer_params.lr == 1e-2


def test_a_file_is_the_base_of_its_plugins_wherever_the_process_is(folder, legal):
    file = folder / "first.json"
    file.write_text(json.dumps(legal), encoding="utf-8-sig")  # with the mark of some editors
    assert load_file(file).model.name == "tiny"


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("epochs=3", "epochs", 3),
        ("optimizer_params.lr=3e-4", "optimizer_params.lr", 3e-4),
        ("experiment_name=a=b.c", "experiment_name", "a=b.c"),
        ('tags=["a", "b"]', "tags", ["a", "b"]),
        ("training_params.max_steps=null", "training_params.max_steps", None),
        ("training_params.compile=true", "training_params.compile", True),
        ("training_params.eval_every=epoch", "training_params.eval_every", "epoch"),
        ("training_params.eval_every=100", "training_params.eval_every", 100),
        ('model_params={"top_k": 1}', "model_params.top_k", 1),
        ("model_params.num_experts_per_layer=4", "model_params.num_experts", 4),
    ],
)
def test_overrides(folder, legal, override, path, value):
    found = load_text(json.dumps(legal), overrides=[override], base_dir=folder).config
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value


def test_the_last_override_of_a_path_counts(folder, legal):
    overrides = ["epochs=3", "epochs=4"]
    assert load_text(json.dumps(legal), overrides=overrides, base_dir=folder).config.epochs == 4


def test_origin_is_typed_and_kept(folder, legal):
    origin = {"kind": "suggestion", "parent": "abc", "changed": {"model_params.top_k": 1}}
    config = validate({**legal, "origin": origin}, base_dir=folder).config
    assert config.origin.kind == "suggestion"
    assert config.origin.changed == {"model_params.top_k": 1}


def test_with_fields_replaces_and_validates_anew(folder, legal):
    experiment = validate({**legal, "epochs": 3}, base_dir=folder)
    changed = experiment.with_fields({"model_params.top_k": 1, "experiment_name": "a=b"})
    assert (changed.config.epochs, changed.config.model_params.top_k) == (3, 1)
    assert changed.config.experiment_name == "a=b"
    assert experiment.config.model_params.top_k == 2
    with pytest.raises(ConfigError, match="top_k must not be above num_experts"):
        experiment.with_fields({"model_params.top_k": 9})


def test_what_was_resolved_can_be_read_again(folder, legal):
    experiment = validate({**legal, "model_params": {"top_k": 1}}, base_dir=folder)
    text = experiment.config.model_dump_json(by_alias=True)
    assert load_text(text, base_dir=folder).config == experiment.config


# -------------------------------------------------------------------------------------- refused


def test_all_mistakes_are_told_at_once(refused):
    found = refused(
        experiment_nam="x",
        epochs=0,
        model_params={"dropot": 0.1, "num_heads": 3, "top_k": 9, "dropout": 1.5},
        optimizer_params={"lr": -1},
        training_params={"precision": "fp64"},
    )
    assert found == {
        "experiment_nam": found["experiment_nam"],
        "epochs": "must be greater than or equal to 1, got 0",
        "model_params.dropot": found["model_params.dropot"],
        "model_params.dropout": "must be less than 1, got 1.5",
        "model_params.num_heads": "num_heads must divide embed_dim, but num_heads = 3 and "
        "embed_dim = 64; num_heads=2 would be legal",
        "model_params.top_k": "top_k must not be above num_experts, but top_k = 9 and "
        "num_experts = 8; top_k=8 would be legal",
        "optimizer_params.lr": "must be greater than 0, got -1",
        "training_params.precision": "must be 'auto', 'fp32', 'bf16' or 'fp16', got \"fp64\"",
    }
    assert found["experiment_nam"].startswith("unknown field; did you mean 'experiment_name'?")
    assert found["model_params.dropot"].startswith("unknown field; did you mean 'dropout'?")


def test_a_constraint_is_not_judged_by_a_value_that_is_wrong_itself(refused):
    found = refused(model_params={"embed_dim": "wide", "num_heads": 3, "top_k": 9})
    assert set(found) == {"model_params.embed_dim", "model_params.top_k"}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", "2", 'must be a valid integer, got "2"'),
        ("epochs", True, "must be a valid integer, got true"),
        ("epochs", 2.5, "must be a valid integer, got 2.5"),
        ("epochs", None, "must be a valid integer, got null"),
        ("epochs", 2**63, "must be an integer of at most 64 bits"),
        ("epochs", float("nan"), "must be a finite number, got NaN"),
        ("experiment_name", "", 'must have at least 1 character, got ""'),
        ("experiment_name", 3, "must be a valid string, got 3"),
        ("experiment_name", "\ud800", 'must hold Unicode text, got "\\ud800"'),
        ("tags", "a", 'must be a valid array, got "a"'),
        ("seed", -1, "must be greater than or equal to 0, got -1"),
        ("model_params", 3, "must be an object, got 3"),
        ("model_params", None, "must be an object, got null"),
        ("training_params", [], "must be an object, got []"),
        ("origin", {"kind": "study", "foo": 1}, None),
        ("dataset_type", "real_world", "counting is synthetic, not real_world"),
        ("dataset_type", "real", "must be 'synthetic' or 'real_world', got \"real\""),
    ],
)
def test_one_illegal_value(refused, field, value, message):
    found = refused({field: value})
    if message is None:
        assert found["origin.foo"].startswith("unknown field; known: arm, changed, kind")
    else:
        assert found == {field: message}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("optimizer_params.lr", "1e-3", 'must be a valid number, got "1e-3"'),
        ("optimizer_params.lr", True, "must be a valid number, got true"),
        ("optimizer_params.lr", float("inf"), "must be a finite number, got Infinity"),
        (
            "optimizer_params.name",
            "adam",
            "unknown \"adam\"; did you mean 'adamw'? known: adamw, sgd",
        ),
        ("optimizer_params.name", ["adamw"], 'unknown ["adamw"]; did you mean'),
        ("scheduler_params.name", None, "unknown null; did you mean 'none'?"),
        (
            "training_params.eval_every",
            0,
            "must be 'epoch' or be greater than or equal to 1, got 0",
        ),
        ("training_params.eval_every", "x", "must be 'epoch' or be a valid integer, got \"x\""),
        ("training_params.device", "gpu", "(Where to compute: auto, cpu, cuda, cuda:1, or mps.)"),
        ("training_params.monitor", "f1", "null is val_f1:max for classification and val_loss:min"),
        ("model_params.router", "sofmax", "unknown router 'sofmax'; did you mean"),
        ("model_params.router", "./no.py:Mine", "there is no plug-in file"),
        ("origin.changed", {"a": float("nan")}, None),
    ],
)
def test_one_illegal_value_in_a_section(refused, path, value, message):
    section, key = path.split(".")
    kind = {"kind": "study"} if section == "origin" else {}
    found = refused({section: {**kind, key: value}})
    if message is None:
        assert found == {f"{path}.a": "must be a finite number, got NaN"}
    else:
        assert set(found) == {path}
        assert message in found[path]


def test_an_unknown_field_that_lives_elsewhere_is_pointed_home(refused):
    found = refused({"lr": 1e-3, "top_k": 2}, model_params={"epochs": 3})
    assert found == {
        "lr": "unknown field; it belongs to optimizer_params",
        "top_k": "unknown field; it belongs to model_params",
        "model_params.epochs": "unknown field; it belongs to the top level",
    }


def test_a_long_value_is_not_repeated_in_full(refused):
    found = refused(tags="x" * 500)
    assert len(found["tags"]) < 100


def test_unknown_components_come_with_suggestions_and_do_not_hide_other_mistakes(refused):
    found = refused(model_type="dens", dataset_name="parrity", epochs=0, model_params={"x": 1})
    assert "did you mean 'dense'?" in found["model_type"]
    assert found["dataset_name"].startswith("unknown dataset 'parrity'")
    assert set(found) == {"model_type", "dataset_name", "epochs"}


def test_an_empty_object_misses_three_fields(folder):
    with pytest.raises(ConfigError) as caught:
        load_text("{}", base_dir=folder)
    told = {issue.path: issue.message for issue in caught.value.issues}
    assert set(told) == {"experiment_name", "model_type", "dataset_name"}
    assert told["model_type"] == "is missing (A registered model, or ./file.py:Name.)"


def test_a_section_that_is_left_out_lacks_what_it_must_have(folder, legal):
    (folder / "mine.py").write_text(
        "from research_eval.spec import DatasetParams, DatasetSpec\n"
        "class Params(DatasetParams):\n"
        "    where: str\n"
        "    'Where it is.'\n"
        "DATA = DatasetSpec(name='mine', dataset_type='real_world', params=Params, load=print,\n"
        "                   tasks=('classification',))\n"
    )
    with pytest.raises(ConfigError) as caught:
        validate({**legal, "dataset_name": "./mine.py:DATA"}, base_dir=folder)
    assert list(map(str, caught.value.issues)) == [
        "dataset_params.where: is missing (Where it is.)"
    ]


def test_an_alias_beside_its_field_is_an_error(refused):
    found = refused(model_params={"num_experts": 4, "num_experts_per_layer": 8})
    assert found == {
        "model_params.num_experts_per_layer": "means the same as num_experts, which is given too; "
        "keep one"
    }


def test_a_moved_field_beside_its_new_place_is_an_error(refused):
    found = refused(model_params={"aux_loss_weight": 0.1}, optimizer_params={"aux_loss_coeff": 0.1})
    assert set(found) == {"optimizer_params.aux_loss_coeff"}


def test_a_moved_field_that_the_model_lacks_is_reported_where_it_stands(refused):
    found = refused(model_type="./tiny.py:PLAIN", optimizer_params={"aux_loss_coeff": 0.1})
    assert set(found) == {"optimizer_params.aux_loss_coeff"}


def test_duplicate_keys_are_told_with_their_path(folder):
    text = """{"experiment_name": "a", "epochs": 1, "epochs": 0, "origin": null,
               "model_type": "./tiny.py:MODEL", "dataset_name": "./tiny.py:DATA",
               "model_params": {"top_k": 1, "top_k": 1}}"""
    with pytest.raises(ConfigError) as caught:
        load_text(text, base_dir=folder)
    assert [str(issue) for issue in caught.value.issues] == [
        "epochs: appears twice; keep one",
        "epochs: must be greater than or equal to 1, got 0",
        "model_params.top_k: appears twice; keep one",
    ]


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_refused(folder, legal, token):
    text = json.dumps({**legal, "batch_size": 0}).replace(
        '"batch_size": 0', f'"batch_size": {token}'
    )
    with pytest.raises(ConfigError, match="batch_size: must be a finite number"):
        load_text(text, base_dir=folder)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "'epochs' is not an override; write path=value"),
        ("=3", "'=3' is not an override"),
        ("model_params..top_k=1", "is not an override"),
        ("experiment_name=", "experiment_name: must have at least 1 character"),
        ("epochs=two", 'epochs: must be a valid integer, got "two"'),
        ("experiment_name.first=x", "experiment_name.first: lies inside a value that has no"),
        ("model_params.top_kk=1", "did you mean 'top_k'?"),
        ('model_params={"top_k": 1, "top_k": 2}', "model_params.top_k: appears twice"),
        ("optimizer_params.lr=NaN", "optimizer_params.lr: must be a finite number"),
    ],
)
def test_an_override_that_is_wrong(folder, legal, override, message):
    with pytest.raises(ConfigError) as caught:
        load_text(json.dumps(legal), overrides=[override], base_dir=folder)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON: line 1, column 1"),
        ('{"a": }', "is not JSON: line 1, column 7"),
        ("[" * 100_000, "is nested too deeply"),
        ("1" * 5000, "is not JSON"),
        ("[]", "must hold one JSON object, not []"),
        ('"moe"', 'must hold one JSON object, not "moe"'),
    ],
)
def test_text_that_is_no_configuration(folder, text, message):
    with pytest.raises(ConfigError) as caught:
        load_text(text, base_dir=folder, source="a.json")
    assert str(caught.value).startswith("a.json ")
    assert message in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.json").write_bytes(b'{"experiment_name": "\xff"}')
    for name, message in [
        ("missing.json", "there is no file"),
        ("", "Is a directory"),
        ("latin.json", "is not UTF-8 text: see byte 21"),
    ]:
        with pytest.raises(ConfigError, match=message) as caught:
            load_file(tmp_path / name)
        assert str(tmp_path) in str(caught.value)


def test_python_values_that_are_not_json(folder, legal):
    with pytest.raises(ConfigError, match="no JSON value"):
        validate({**legal, "tags": {1, 2}}, base_dir=folder)


def test_a_configuration_cannot_be_changed(folder, legal):
    config = validate(legal, base_dir=folder).config
    assert isinstance(config, ExperimentConfig)
    with pytest.raises(ValueError, match="frozen"):
        config.epochs = 3

"""How components are found: in the package, in installed distributions, in plain files."""

import subprocess
import sys
import textwrap

import pytest

from research_eval.errors import ConfigError, PluginError
from research_eval.registry import DATASETS_MAP, MAPS, MODELS_MAP, ROUTERS_MAP, plugin_reference
from research_eval.spec import ModelSpec, RouterSpec, TransformerParams

TORCH_MODEL = """
from torch import nn
from research_eval.spec import TransformerParams

class WideParams(TransformerParams):
    '''Wide.'''

class Wide(nn.Module):
    Params = WideParams

class Plain(nn.Module):
    pass

class Wrong(nn.Module):
    Params = dict

class NoModule:
    pass

def function():
    pass
"""


@pytest.fixture
def write(tmp_path):
    """Write `mine.py` and return how to name something in it."""

    def named(source, name):
        (tmp_path / "mine.py").write_text(textwrap.dedent(source))
        return f"./mine.py:{name}"

    return named


@pytest.mark.parametrize(
    ("kind", "spec_type", "name"),
    [("model", ModelSpec, "dense"), ("model", ModelSpec, "moe"), ("router", RouterSpec, "softmax")],
)
def test_the_map_of_a_kind_is_its_folder(kind, spec_type, name, tmp_path):
    assert name in MAPS[kind]
    assert isinstance(MAPS[kind][name], spec_type)
    assert MAPS[kind].find(name, tmp_path) is MAPS[kind][name]


@pytest.mark.parametrize("registry", [MODELS_MAP, DATASETS_MAP, ROUTERS_MAP], ids=lambda m: m.kind)
def test_names_are_sorted_and_each_component_goes_by_its_own(registry):
    assert list(registry) == sorted(registry)
    assert len(registry) == len(list(registry)) > 0
    assert {name: registry[name].name for name in registry} == {name: name for name in registry}
    assert not any(name.startswith("_") for name in registry)


def test_the_maps_are_read_only():
    with pytest.raises(TypeError):
        MODELS_MAP["mine"] = MODELS_MAP["dense"]


def test_an_unknown_name_is_pointed_to_the_right_one(tmp_path):
    with pytest.raises(ConfigError, match="unknown model 'Dens'; did you mean 'dense'"):
        MODELS_MAP.find("Dens", tmp_path)


# -------------------------------------------------------------------------------- plug-in files


def test_a_class_in_a_file_is_a_model_with_its_own_parameters(tmp_path, write):
    spec = MODELS_MAP.find(write(TORCH_MODEL, "Wide"), tmp_path)
    assert (spec.name, spec.params.__name__) == ("Wide", "WideParams")
    assert spec.build.__name__ == "Wide"
    assert MODELS_MAP.find("./mine.py:Plain", tmp_path).params is TransformerParams


def test_a_class_in_a_file_is_a_router(tmp_path, write):
    spec = ROUTERS_MAP.find(write(TORCH_MODEL, "Plain"), tmp_path)
    assert (spec.name, spec.learned) == ("Plain", True)


def test_a_file_is_read_again_after_it_changed_and_only_then(tmp_path, write):
    source = """
    from research_eval.spec import DatasetParams, DatasetSpec
    DATA = DatasetSpec(name="{}", dataset_type="synthetic", params=DatasetParams,
                       load=print, tasks=("classification",))
    """
    name = write(source.format("first"), "DATA")
    first = DATASETS_MAP.find(name, tmp_path)
    assert DATASETS_MAP.find(name, tmp_path) is first
    write(source.format("second"), "DATA")
    assert DATASETS_MAP.find(name, tmp_path).name == "second"


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ("def f(:\n", "M", "mine.py does not import: SyntaxError: "),
        ("import no_such_module", "M", "does not import: ModuleNotFoundError: No module named"),
        ("1 / 0", "M", "does not import: ZeroDivisionError: division by zero"),
        (TORCH_MODEL, "Wid", "has no 'Wid'; did you mean 'Wide'? known: NoModule, Plain, Wide,"),
        ("", "M", "has no 'M'; known: none"),
        (
            TORCH_MODEL,
            "function",
            "is of type function, but a model must be a ModelSpec or a class",
        ),
        (TORCH_MODEL, "NoModule", "is a class, but a model must be a ModelSpec or a class derived"),
        (TORCH_MODEL, "Wrong", "Wrong.Params must be a class derived from TransformerParams"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path, write, source, name, message):
    with pytest.raises(PluginError) as caught:
        MODELS_MAP.find(write(source, name), tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path / "mine.py") in str(caught.value) or "Wrong.Params" in message


def test_a_file_that_failed_is_tried_again_after_it_is_mended(tmp_path, write):
    with pytest.raises(PluginError):
        MODELS_MAP.find(write("import no_such_module", "Plain"), tmp_path)
    assert MODELS_MAP.find(write(TORCH_MODEL, "Plain"), tmp_path).name == "Plain"


def test_a_data_set_must_be_a_spec(tmp_path, write):
    with pytest.raises(PluginError, match=r"is a class, but a dataset must be a DatasetSpec$"):
        DATASETS_MAP.find(write(TORCH_MODEL, "Plain"), tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./no.py:M", "there is no plug-in file "),
        ("./folder.py:M", "there is no plug-in file "),
        ("./mine.py", "'./mine.py' names a file but nothing in it; write ./mine.py:Name"),
    ],
)
def test_a_file_that_is_not_there(tmp_path, name, message):
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(PluginError, match=message):
        MODELS_MAP.find(name, tmp_path)


def test_what_is_a_reference_to_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    files = {
        name: str(reference) if reference else None
        for name in ("moe", "a:b", "./m.py:M", "sub/m.py:M", "/abs/m.py:M", "~/m.py:M")
        for reference in [plugin_reference(name, tmp_path)]
    }
    assert files == {
        "moe": None,
        "a:b": None,
        "./m.py:M": f"{tmp_path}/m.py:M",
        "sub/m.py:M": f"{tmp_path}/sub/m.py:M",
        "/abs/m.py:M": "/abs/m.py:M",
        "~/m.py:M": f"{tmp_path}/home/m.py:M",
    }


# -------------------------------------------------------------------- installed distributions


def install(folder, distribution, entry_points, source=""):
    """Lay out what pip would: a module and its metadata, in a folder for `sys.path`."""
    module = distribution.replace("-", "_")
    (folder / f"{module}.py").write_text(textwrap.dedent(source))
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))


SPEC = """
from research_eval.spec import DatasetParams, DatasetSpec
SPEC = DatasetSpec(name="lab", dataset_type="synthetic", params=DatasetParams, load=print,
                   tasks=("classification",))
"""


@pytest.fixture
def ask(tmp_path):
    """Run an expression about `DATASETS_MAP` in a fresh process that sees what is installed."""

    def answer(expression):
        code = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from pathlib import Path
        from research_eval.errors import ResearchEvalError
        from research_eval.registry import DATASETS_MAP
        try:
            print({expression})
        except ResearchEvalError as error:
            print(type(error).__name__, error)
        """
        command = [sys.executable, "-c", textwrap.dedent(code)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    return answer


def test_an_installed_component_is_in_the_map_beside_our_own(tmp_path, ask):
    install(tmp_path, "lab-data", "[research_eval.datasets]\nlab = lab_data:SPEC\n", SPEC)
    assert ask('DATASETS_MAP.find("lab", Path()).name, "parity" in DATASETS_MAP') == "lab True"


def test_two_components_of_one_name_are_refused_naming_both(tmp_path, ask):
    install(tmp_path, "lab-data", "[research_eval.datasets]\nlab = lab_data:SPEC\n", SPEC)
    install(tmp_path, "other-data", "[research_eval.datasets]\nlab = other_data:SPEC\n", SPEC)
    told = ask("list(DATASETS_MAP)")
    assert told.startswith("PluginError two datasets are called 'lab': ")
    assert "lab_data:SPEC" in told
    assert "other_data:SPEC" in told


def test_a_component_with_the_name_of_one_of_ours_is_refused(tmp_path, ask):
    install(tmp_path, "lab-data", "[research_eval.datasets]\nparity = lab_data:SPEC\n", SPEC)
    told = ask("list(DATASETS_MAP)")
    assert told.startswith("PluginError two datasets are called 'parity': research_eval.datasets")
    assert "lab_data:SPEC" in told


def test_an_installed_component_that_does_not_import_harms_only_itself(tmp_path, ask):
    entry = "[research_eval.datasets]\nlab = lab_data:SPEC\n"
    install(tmp_path, "lab-data", entry, "import no_such_module")
    assert ask('"parity" in DATASETS_MAP') == "True"
    assert ask('DATASETS_MAP.find("parity", Path()).name') == "parity"
    told = ask('DATASETS_MAP.find("lab", Path())')
    assert "dataset plug-in lab_data:SPEC does not import" in told
    assert "no_such_module" in told


def test_an_installed_component_of_the_wrong_kind_is_refused(tmp_path, ask):
    install(tmp_path, "lab-data", "[research_eval.datasets]\nlab = lab_data:SPEC\n", "SPEC = 3")
    assert "lab_data:SPEC is of type int, but a dataset must be" in ask(
        'DATASETS_MAP.find("lab", Path())'
    )

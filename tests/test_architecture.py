"""The rules of the house that a machine can check."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "research_eval"
SOURCES = sorted(PACKAGE.rglob("*.py"))

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
LONGER_FUNCTIONS = {"training/train.py": 100}
"""The training loop may be longer: it is read from top to bottom."""

HEAVY = {
    "alembic", "datasets", "matplotlib", "numpy", "optuna", "pandas", "scipy", "sqlalchemy",
    "torch", "transformers",
}  # fmt: skip
"""Packages that take so long to import that `--help` must not."""


def loaded_after(code: str) -> set[str]:
    """Return the names of heavy packages that a fresh process has loaded after some code."""
    code = f"import sys\n{code}\nprint('LOADED', *sys.modules)"
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    _, _, modules = result.stdout.rpartition("LOADED")
    return {name.partition(".")[0] for name in modules.split()} & HEAVY


def test_each_floor_stands_only_on_the_floors_below():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("kind", ["models", "routers", "datasets"])
def test_components_share_only_files_with_an_underscore(kind):
    """A new idea is one file; it can be deleted again without a look at its neighbours."""
    for file in (PACKAGE / kind).glob("[!_]*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                _, found, neighbour = module.partition(f"research_eval.{kind}.")
                assert not found or neighbour.startswith("_"), f"{file.name} imports {module}"


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_files_and_functions_are_short(file):
    text = file.read_text()
    assert len(text.splitlines()) < MAX_FILE_LINES
    longest = LONGER_FUNCTIONS.get(str(file.relative_to(PACKAGE)), MAX_FUNCTION_LINES)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            # The signature is not counted: that of a command declares all of its options.
            lines = (node.end_lineno or node.lineno) - node.body[0].lineno + 1
            assert lines < longest, f"{node.name} has {lines} lines"


def test_commands_declare_their_options_above_them():
    """With signature and docstring a command still fits on a screen."""
    long = {
        file.name
        for file in (PACKAGE / "cli").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
        and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    }
    assert not long


def test_no_file_is_a_drawer_for_odds_and_ends():
    drawers = {"utils", "util", "common", "helpers", "misc"}
    assert not [file for file in SOURCES if file.stem.strip("_") in drawers]


@pytest.mark.parametrize(
    "code",
    [
        "import research_eval",
        "import research_eval.config, research_eval.registry, research_eval.records",
        "from research_eval.registry import MODELS_MAP, DATASETS_MAP; list(MODELS_MAP)",
        "from research_eval.cli import main; sys.argv = ['research-eval', '--help']\n"
        "try: main()\nexcept SystemExit as stop: assert not stop.code",
    ],
    ids=["package", "ground floor", "names of components", "--help"],
)
def test_what_only_names_things_loads_nothing_heavy(code):
    assert loaded_after(code) == set()

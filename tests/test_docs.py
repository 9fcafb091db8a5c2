"""Pages that are derived are current, links lead somewhere, and examples are legal."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from research_eval.config import load_file

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.joinpath("docs").rglob("*.md")])
EXAMPLES = sorted(ROOT.joinpath("examples", "configs").glob("*.json"))


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


def test_the_reference_is_current_and_complete(generated):
    folder = ROOT / "docs" / "reference"
    written = {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}
    assert set(written) == set(generated), "run `make docs`"
    for name, text in generated.items():
        assert written[name] == text, f"{name} is out of date: run `make docs`"


def test_the_reference_has_a_line_for_each_declaration(generated):
    assert "| `num_experts` | integer | `8` | >= " in generated["models.md"]
    assert "0.0001 to 0.01, log | Peak learning rate." in generated["config.md"]
    assert "## parity" in generated["datasets.md"]
    assert "| `softmax` | learned |" in generated["routers.md"]
    assert "`final_val_f1`" in generated["metrics.md"]
    assert json.loads(generated["run.schema.json"])["properties"]["epochs"]["minimum"] == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (page.parent / path) if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}
            assert anchor in slugs, target


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_example_is_legal(file):
    assert load_file(file).config.experiment_name == file.stem

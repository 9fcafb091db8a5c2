"""The examples of docs/models.md work as they are printed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from research_eval.config import validate
from research_eval.testing.model_checks import every_weight_learns_from_the_task
from research_eval.testing.subject import Subject

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"


@pytest.fixture
def folder(tmp_path):
    """Write the page's Python blocks to the files that their first lines name."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, flags=re.DOTALL)
    assert {name for name, _ in blocks} == {"my_router.py", "my_model.py", "test_mine.py"}
    for name, code in blocks:
        tmp_path.joinpath(name).write_text(code, encoding="utf-8")
    return tmp_path


def printed_config():
    text = PAGE.read_text(encoding="utf-8")
    return json.loads(re.search(r"```json\n(.*?)```", text, flags=re.DOTALL).group(1))


def test_the_printed_configuration_finds_the_printed_router(folder):
    experiment = validate(printed_config(), base_dir=folder)
    router = experiment.find_router(experiment.config.model_params.router)
    assert router.name == "SigmoidRouter"


def test_the_printed_model_runs_under_the_name_that_the_page_gives(folder):
    tree = {**printed_config(), "model_type": "./my_model.py:Repeated"}
    tree["model_params"] = {"num_rounds": 4, "embed_dim": 16, "num_heads": 2}
    experiment = validate(tree, base_dir=folder)
    subject = Subject.of(experiment.model, "classification", num_rounds=4)
    network = subject.network()
    once = subject.having(num_rounds=1).network()
    assert network.flops_per_token(12) > 3 * once.flops_per_token(12)


def test_the_printed_router_learns_inside_a_model(folder):
    spec = validate(printed_config(), base_dir=folder).model
    router = "./my_router.py:SigmoidRouter"
    every_weight_learns_from_the_task(Subject.of(spec, "language_modeling", folder, router=router))


def test_the_printed_tests_pass(folder):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
    assert re.search(r"3\d passed", found.stdout), found.stdout

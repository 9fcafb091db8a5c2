"""docs/plugins.md: its commands work in the order in which they are printed, on less data."""

import json
import re
import shlex
from pathlib import Path

import pytest

from research_eval.config import load_file
from research_eval.store import Store

PAGE = Path(__file__).resolve().parents[2] / "docs" / "plugins.md"
TEXT = PAGE.read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ research-eval (.*)$", TEXT, flags=re.MULTILINE)
CONFIG = re.search(r"```json\n(.*?)```", TEXT, flags=re.DOTALL)[1]

LESS = {
    "run": (
        "epochs=1",
        "dataset_params.num_samples=200",
        "dataset_params.val_samples=50",
        "dataset_params.test_samples=0",
    ),
    "check": ("--task", "classification"),
}
"""What is added to a command so that the test is quick."""


@pytest.fixture(autouse=True)
def _own_verdicts(tmp_path, monkeypatch):
    monkeypatch.setenv("RESEARCH_EVAL_CACHE", str(tmp_path / "cache"))


def test_every_command_of_the_page_works(cli):
    Path("idea.json").write_text(CONFIG)
    assert len(COMMANDS) == 8
    broken = []
    for command in COMMANDS:
        words = shlex.split(command)
        if "model_params.top_k=1" in words:  # shown with the line left out that makes it work
            text = Path("my_router.py").read_text()
            forgotten = text.replace("if self.top_k > 1:", "if True:")
            assert forgotten != text
            Path("my_router.py").write_text(forgotten)
            said = cli(*words, *LESS["check"])
            Path("my_router.py").write_text(text)
            assert said.code == 5
            broken += [line for line in said.out.splitlines() if line.startswith("  BROKEN")]
            continue
        said = cli(*words, *LESS.get(words[0], ()))
        assert said.code == 0, (command, said.err)
    assert all(line in TEXT for line in broken[-1:])
    with Store.open("experiment_results.db", mode="ro") as store:
        runs = store.runs()
    assert len(runs) == 9
    flags = {run.experiment_name: set(run.flags) for run in runs}
    assert "unchecked" not in flags["mine"]
    assert "router_not_learned" in flags["random"]


def test_the_printed_lines_are_in_the_new_file(cli):
    cli("new", "router", "my_router.py")
    (lines,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    written = Path("my_router.py").read_text()
    assert all(line in written for line in lines.splitlines())


def test_the_printed_configuration_is_legal():
    Path("idea.json").write_text(CONFIG)
    assert (
        load_file(Path("idea.json")).config.experiment_name == json.loads(CONFIG)["experiment_name"]
    )

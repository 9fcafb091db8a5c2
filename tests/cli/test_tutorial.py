"""docs/tutorial.md: its commands work in the order in which they are printed."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from research_eval.comparing import report
from research_eval.store import Store

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "tutorial"
TEXT = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = [
    block.splitlines() for block in re.findall(r"```console\n(.*?)```", TEXT, flags=re.DOTALL)
]
COMMANDS = [line.removeprefix("$ ") for block in BLOCKS for line in block if line[:2] == "$ "]
PROGRAM, DRAFT, CONFIG = re.findall(r"```(?:python|json)\n(.*?)```", TEXT, flags=re.DOTALL)
MENDED = "        weights_TK = probs_TE.gather(1, chosen_TK)\n"

LESS = {
    "compare": ("--n-trials", "6", "--seeds", "2", "--workers", "0"),
    "reproduce": ("--workers", "1", "--seeds", "1"),
}
"""What is added to a command so that the test is quick."""

FEWER = {
    '"num_samples": 1500, "val_samples": 500': '"num_samples": 64, "val_samples": 64',
}


@pytest.fixture(autouse=True)
def _own_verdicts(tmp_path, monkeypatch):
    monkeypatch.setenv("RESEARCH_EVAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def follow(cli):
    """Return a function that types every command of the page and returns what each one said."""

    def follow(less):
        said = []
        for command in COMMANDS:
            program, *words = shlex.split(command)
            if program == "cd":
                os.chdir(words[0])  # another fixture comes back
            elif program != "research-eval":
                subprocess.run([program, *words], check=True)
            else:
                said.append((command, cli(*words, *less.get(words[0], ()))))
            if words[0] == "new":
                written = Path("sparsemax.py").read_text()
                assert "class MyRouter" in written
                Path("sparsemax.py").write_text(draft())
                Path("idea.json").write_text(reduced(CONFIG) if less else CONFIG)
            elif words[0] == "check":
                Path("sparsemax.py").write_text(PROGRAM)
        return said

    return follow


def reduced(config):
    for written, fewer in FEWER.items():
        assert written in config
        config = config.replace(written, fewer)
    return config


def draft():
    """Return the file with the lines of the first draft, as the page says to write it."""
    assert MENDED in PROGRAM
    return PROGRAM.replace(MENDED, DRAFT)


def assert_it_went_as_printed(all_said):
    said_by = {word: [] for word in ("check", "reproduce")}
    for command, said in all_said:
        said_by.setdefault(shlex.split(command)[1], []).append(said)
    draft, mended = said_by["check"]
    unread, same, threads = said_by["reproduce"]
    expected = {id(draft): 5, id(unread): 2}
    for command, said in all_said:
        assert said.code == expected.get(id(said), 0), (command, said.err)
    broken = [line for line in draft.out.splitlines() if line.startswith("  BROKEN")]
    assert broken
    assert all(line in TEXT for line in broken)
    assert "BROKEN" not in mended.out
    assert re.search(r"^of (\d+) scores: \1 bit-equal$", same.err, re.MULTILINE)
    assert not re.search("outside|not equal", threads.out + threads.err)


def test_the_printed_files_are_those_of_the_examples():
    assert (FOLDER / "sparsemax.py").read_text() == PROGRAM
    assert (FOLDER / "idea.json").read_text() == CONFIG
    assert {file.name for file in FOLDER.iterdir() if file.is_file()} == {
        "sparsemax.py",
        "idea.json",
    }


def test_every_command_of_the_tutorial_works(follow, monkeypatch):
    monkeypatch.setattr(report, "find_outputs", list)  # pictures have tests of their own
    assert_it_went_as_printed(follow(LESS))
    with Store.open("../experiment_results.db", mode="ro") as store:
        runs = store.runs(filter='study == "compare_idea"')
    assert len(runs) == 12
    assert all("unchecked" not in run.flags for run in runs)


@pytest.mark.slow
def test_every_command_of_the_tutorial_works_as_written(follow):
    assert_it_went_as_printed(follow({}))
    assert Path("../analysis_reports/parity_results.tex").exists()

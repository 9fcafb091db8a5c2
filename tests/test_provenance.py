"""What a record says about where it came from."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from research_eval import machine, provenance
from research_eval.ending import ending
from research_eval.models import dense, moe
from research_eval.redaction import is_secret, redact, without_password


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["run", "--token", "abc", "x.json"], ["run", "--token", "***", "x.json"]),
        (["--db-password=abc"], ["--db-password=***"]),
        (["api_key=abc", "lr=1"], ["api_key=***", "lr=1"]),
        (["--db", "postgresql://me:abc@host/db"], ["--db", "postgresql://me:***@host/db"]),
        (["postgresql+psycopg://me:a%40b@h/d"], ["postgresql+psycopg://me:***@h/d"]),
        (["--tokenizer", "gpt2"], ["--tokenizer", "gpt2"]),
        (["dataset_params.tokenizer=gpt2"], ["dataset_params.tokenizer=gpt2"]),
        (["train_tokens=5"], ["train_tokens=5"]),
    ],
)
def test_secrets_are_replaced_and_nothing_else(given, shown):
    assert redact(given) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "cannot reach postgresql://me:abc@host/db now",
            "cannot reach postgresql://me:***@host/db now",
        ),
        ("https://h/x?a=1&access_token=abc&b=2", "https://h/x?a=1&access_token=***&b=2"),
        ("d?sslpassword=abc'", "d?sslpassword=***'"),
        ("mean of 3:4@5, a ratio", "mean of 3:4@5, a ratio"),
    ],
)
def test_secrets_of_urls_are_replaced_in_any_text(text, shown):
    assert without_password(text) == shown


def test_a_traceback_that_is_kept_holds_no_password():
    try:
        raise RuntimeError("no answer from postgresql://me:abc@host/db")
    except RuntimeError as error:
        _status, text = ending(error)
    assert text.splitlines()[-1].endswith("postgresql://me:***@host/db")
    assert "abc" not in text


@pytest.mark.parametrize("name", ["api_key", "hub_token", "db.password", "HF_TOKEN", "apikey"])
def test_settings_that_hold_secrets(name):
    assert is_secret(name)


@pytest.mark.parametrize("name", ["pad_token", "tokens", "tokenizer", "max_new_tokens", "key"])
def test_settings_that_hold_none(name):
    assert not is_secret(name)


def test_code_hash_depends_on_what_the_file_imports_and_not_on_where_it_lies(tmp_path: Path):
    same = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        plugin = tmp_path / folder / "plugin.py"
        plugin.write_text("from research_eval.models.dense import SPEC\n")
        same.append(provenance.code_hash([plugin]))
    assert same[0] == same[1]
    other = tmp_path / "other.py"
    other.write_text("from research_eval.models.moe import SPEC\n")
    assert provenance.code_hash([other]) != same[0]


def test_code_hash_of_one_model_ignores_the_other():
    dense_file, moe_file = Path(dense.__file__), Path(moe.__file__)
    closure = provenance._closure([dense_file])
    assert moe_file not in closure
    assert dense_file.with_name("_blocks.py") in closure
    assert not any("store" in file.parts or "cli" in file.parts for file in closure)


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


def test_git_state_is_the_commit_and_the_capped_diff(tmp_path: Path, monkeypatch):
    assert provenance.git_state(tmp_path) == (None, None)
    git(tmp_path, "init")
    file = tmp_path / "a.txt"
    file.write_text("one\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    commit, diff = provenance.git_state(tmp_path)
    assert len(commit) == 40
    assert diff is None
    file.write_text("two\n")
    assert "+two" in provenance.git_state(tmp_path)[1]
    assert provenance.git_state(tmp_path, with_diff=False) == (commit, None)
    monkeypatch.setenv("RESEARCH_EVAL_GIT_DIFF", "off")
    assert provenance.git_state(tmp_path) == (commit, None)
    monkeypatch.delenv("RESEARCH_EVAL_GIT_DIFF")
    file.write_text("x" * 200_000)
    capped = provenance.git_state(tmp_path)[1]
    assert len(capped) < 70_000
    assert "cut" in capped


def test_other_work_on_the_machine_is_noticed():
    script = "import os\nwhile True: os.getpid()"
    with subprocess.Popen([sys.executable, "-c", script]) as other:
        meter = machine.ContentionMeter()
        # Wait for CPU time to pass in the other process, not for a guess of seconds.
        while Path(f"/proc/{other.pid}/stat").exists() and _cpu_ticks(other.pid) < 60:
            pass
        seen = meter.contended()
        other.kill()
    assert seen


def _cpu_ticks(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_environment_names_what_a_reader_needs():
    details = machine.environment(torch.device("cpu"))
    assert details["packages"]["torch"] == torch.__version__
    assert details["installed"]["torch"] == torch.__version__
    assert details["installed"]["huggingface-hub"] == version("huggingface_hub")
    assert "threads" in details["hardware"]
    assert machine.peak_memory_mb(torch.device("cpu")) > 50
    assert os.uname().nodename == provenance.host()

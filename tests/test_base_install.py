"""`pip install research-eval` alone, without extras, reads what a training machine recorded.

The package is built and installed into a fresh environment. Of the environment that runs the
tests, that one sees exactly what the base requirements ask for, and what those require in turn:
the same files that pip would download, without a network.
"""

import importlib.metadata
import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from research_eval.records import NewRun, RunStatus
from research_eval.store import Store

ROOT = Path(__file__).resolve().parents[1]


def required_by(texts: Iterable[str]) -> set[str]:
    """Return the distributions that meet some requirements, and those that they need in turn."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in texts]
    while waiting:
        requirement = waiting.pop()
        is_meant = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if is_meant and requirement.name not in found:
            found.add(requirement.name)
            waiting += map(Requirement, importlib.metadata.requires(requirement.name) or [])
    return found


def link(name: str, target: Path) -> None:
    """Make an installed distribution importable from another folder."""
    distribution = importlib.metadata.distribution(name)
    for entry in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
        source = Path(str(distribution.locate_file(entry)))
        if not (target / entry).exists():
            (target / entry).symlink_to(source)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """The `bin` folder of an environment with the base install."""
    folder = tmp_path_factory.mktemp("base")
    source, environment = folder / "source", folder / "environment"
    source.mkdir()
    shutil.copytree(ROOT / "research_eval", source / "research_eval")
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    venv.create(environment, symlinks=True)
    scripts = environment / "bin"
    pip = [sys.executable, "-m", "pip", "--quiet"]
    options = ["--no-deps", "--no-index"]
    wheels = folder / "wheels"
    build = [*pip, "wheel", *options, "--no-build-isolation", "-w", str(wheels), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    install = [*pip, "--python", str(scripts / "python"), "install", *options]
    subprocess.run([*install, *map(str, wheels.iterdir())], check=True, capture_output=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (own,) = importlib.metadata.distributions(path=[str(packages)], name="research-eval")
    for name in required_by(own.requires or []):
        link(name, packages)
    return scripts


def ask(base: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(base / arguments[0]), *arguments[1:]], capture_output=True, text=True, check=False
    )


@pytest.fixture
def recorded(tmp_path) -> Path:
    """A database with one completed run."""
    new = NewRun(
        experiment_id="abc",
        run_type="json",
        experiment_name="first",
        full_config_json=json.dumps({"epochs": 3}),
        env_details_json="{}",
        model_type="moe",
    )
    file = tmp_path / "results.db"
    with Store.open(file, create=True) as store:
        run = store.start(new)
        run.log({"final_val_f1": 0.75}, step=10)
        run.finish(RunStatus.COMPLETED)
    return file


@pytest.mark.parametrize("name", ["torch", "transformers", "datasets", "safetensors", "optuna"])
def test_what_trains_is_not_there(base, name):
    told = ask(base, "python", "-c", f"import {name}")
    assert f"No module named '{name}'" in told.stderr


def test_a_recorded_run_is_read(base, recorded):
    listed = ask(base, "research-eval", "runs", "list", "--db", str(recorded), "--format", "json")
    assert listed.returncode == 0, listed.stderr
    (run,) = json.loads(listed.stdout)
    assert (run["experiment_name"], run["status"]) == ("first", "COMPLETED")
    code = (
        "from research_eval.store import Store\n"
        f"with Store.open({str(recorded)!r}, mode='ro') as store:\n"
        "    print(store.run('last').value('final_val_f1'))"
    )
    read = ask(base, "python", "-W", "error", "-c", code)
    assert (read.stdout, read.stderr) == ("0.75\n", "")


def test_a_recorded_run_is_analysed(base, recorded, tmp_path):
    where = ["--db", str(recorded), "--output-dir", str(tmp_path / "out")]
    told = ask(base, "research-eval", "analyze", *where)
    assert told.returncode == 0, told.stderr
    assert "0.75" in told.stdout
    assert "<style>" in (tmp_path / "out" / "unnamed_report.html").read_text()


def test_training_says_what_is_missing_and_how_to_get_it(base, tmp_path):
    file = tmp_path / "first.json"
    config = {"experiment_name": "a", "model_type": "dense", "dataset_name": "parity"}
    file.write_text(json.dumps(config))
    told = ask(base, "research-eval", "run", str(file), "--db", str(tmp_path / "new.db"))
    assert told.returncode == 2
    assert "models need torch, which is not installed: pip install 'research-eval[train]'" in (
        told.stderr.replace("\n", " ")
    )
    assert "Traceback" not in told.stderr
    assert not (tmp_path / "new.db").exists()


def test_the_dashboard_says_what_is_missing_and_how_to_get_it(base, recorded):
    told = ask(base, "research-eval", "dashboard", "--db", str(recorded))
    assert told.returncode == 2
    assert "which is not installed: pip install 'research-eval[dashboard]'" in told.stderr
    assert "Traceback" not in told.stderr

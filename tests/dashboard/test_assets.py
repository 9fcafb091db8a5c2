"""What is shipped: vendored files as their makers made them, small modules, no other host."""

import hashlib
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "research_eval" / "dashboard"
STATIC = FOLDER / "static"
OWN = sorted({*STATIC.rglob("*.js"), *STATIC.rglob("*.css")} - {*(STATIC / "vendor").iterdir()})
MOST_LINES = 400


def test_vendored_files_are_unchanged_and_have_their_licence():
    told = (STATIC / "vendor" / "README.md").read_text()
    hashes = dict(re.findall(r"\| (\S+) \| ([0-9a-f]{64}) \|", told))
    assert set(hashes) == {"uPlot.iife.min.js", "uPlot.min.css"}
    for name, expected in hashes.items():
        assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == expected
    assert "MIT License" in (STATIC / "vendor" / "uPlot.LICENSE.txt").read_text()


@pytest.mark.parametrize("file", OWN, ids=lambda file: file.name)
def test_our_own_files_are_small_and_load_nothing_from_elsewhere(file):
    text = file.read_text()
    assert len(text.splitlines()) < MOST_LINES
    elsewhere = re.findall(r"https?://(?!www\.w3\.org/2000/svg)[^\s\"')]+", text)
    assert elsewhere == []
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert unsafe not in text


def test_every_file_is_part_of_the_package():
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = packaged["tool"]["setuptools"]["package-data"]["research_eval"]
    found = {file for pattern in patterns for file in FOLDER.parent.glob(pattern)}
    shipped = {*STATIC.rglob("*"), *(FOLDER / "templates").iterdir()}
    assert {file for file in shipped if file.is_file()} <= found


def test_every_module_imports_what_another_one_offers():
    offered = {}
    for file in STATIC.rglob("*.js"):
        names = re.findall(
            r"^export (?:async )?(?:function|const|class) (\w+)", file.read_text(), re.M
        )
        offered[file] = set(names)
    for file in (file for file in OWN if file.suffix == ".js"):
        imports = re.findall(r"import \{([^}]*)\} from \"([^\"]+)\"", file.read_text())
        for names, source in imports:
            wanted = {name.strip() for name in names.split(",") if name.strip()}
            assert wanted <= offered[(file.parent / source).resolve()], (file.name, source)
            body = re.sub(r"import \{[^}]*\} from \"[^\"]+\";", "", file.read_text())
            unused = {name for name in wanted if not re.search(rf"\b{name}\b", body)}
            assert unused == set(), file.name

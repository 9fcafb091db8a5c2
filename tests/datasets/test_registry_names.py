"""Data sets are known by their public names, and knowing them costs little."""

import subprocess
import sys

import pytest

from research_eval.errors import ConfigError
from research_eval.registry import DATASETS_MAP

NAMES = {
    "parity", "addition", "copying", "modular_arithmetic", "markov", "ag_news", "imdb", "sst2",
    "trec", "wikitext-2", "wikitext-103", "tiny_shakespeare", "files",
}  # fmt: skip

LISTING = """
import sys
from research_eval.registry import DATASETS_MAP
names = list(DATASETS_MAP)
assert not [m for m in sys.modules if m.startswith("research_eval.datasets.")], "listing imports"
specs = [DATASETS_MAP[name].params.model_json_schema() for name in names]
print(*(m for m in ("datasets", "transformers", "huggingface_hub") if m in sys.modules))
"""


def test_names_are_the_public_ones():
    assert set(DATASETS_MAP) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_spec_is_called_as_it_is_listed(name):
    assert DATASETS_MAP[name].name == name


def test_another_spelling_is_pointed_to_the_public_name(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'wikitext-2'"):
        DATASETS_MAP.find("wikitext_2", tmp_path)


def test_specs_do_not_load_the_hugging_face_libraries():
    run = subprocess.run(
        [sys.executable, "-c", LISTING], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == []

"""Where data comes from, in which order, and what is said if it cannot be had."""

import pytest

from research_eval.errors import DataError
from research_eval.registry import DATASETS_MAP

PUBLISHED = sorted(
    name
    for name in DATASETS_MAP
    if DATASETS_MAP[name].dataset_type == "real_world" and name != "files"
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_cannot_be_had_names_the_three_ways(load, name):
    with pytest.raises(DataError) as failure:
        load(name)
    message = str(failure.value)
    assert f"data set '{name}' cannot be had" in message
    assert "one of three ways: set dataset_params.path to a file or folder; " in message
    assert f"put it into $RESEARCH_EVAL_DATA/{name}; " in message
    assert "or connect to the network, so that " in message


def test_a_mirror_without_the_data_set_is_named(load, tmp_path, monkeypatch):
    monkeypatch.setenv("RESEARCH_EVAL_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"put it into {tmp_path}/imdb; "):
        load("imdb")


def test_a_tokenizer_that_cannot_be_had_names_the_ways(load, write, rows):
    with pytest.raises(DataError) as failure:
        load("files", path=str(write("own.csv", rows)), tokenizer="someone/their-tokenizer")
    message = str(failure.value)
    assert "set dataset_params.tokenizer to its folder; " in message
    assert "put it into $RESEARCH_EVAL_DATA/tokenizers/someone/their-tokenizer; " in message
    assert "or connect to the network" in message


def test_the_path_comes_first_then_the_mirror(load, write, rows, tmp_path, monkeypatch):
    write("mirror/ag_news/train.csv", rows)
    write("mirror/ag_news/test.csv", rows[:4])
    alone = str(write("alone.csv", rows[:40]))
    monkeypatch.setenv("RESEARCH_EVAL_DATA", str(tmp_path / "mirror"))
    by_path = load("ag_news", path=alone)
    by_mirror = load("ag_news")
    assert by_path.test is None
    assert by_path.source == f"{alone}, tokenizer byte"
    assert len(by_mirror.test) == 4
    assert by_mirror.source == f"{tmp_path}/mirror/ag_news, tokenizer byte"


def test_a_wrong_path_does_not_fall_back_on_the_mirror(load, write, rows, tmp_path, monkeypatch):
    write("mirror/ag_news/train.csv", rows)
    monkeypatch.setenv("RESEARCH_EVAL_DATA", str(tmp_path / "mirror"))
    with pytest.raises(DataError, match=r"path is misspelt\.csv, but there is no"):
        load("ag_news", path="misspelt.csv")


@pytest.fixture
def fetched(tmp_path, monkeypatch, write, rows):
    """Lay files where the hub's client keeps what it fetched, in its documented layout."""
    from huggingface_hub import constants

    hub = tmp_path / "hub"
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = hub / "datasets--fancyzhx--ag_news"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    folder = repo.relative_to(tmp_path) / "snapshots" / commit / "data"
    write(f"{folder}/train-00000-of-00001.parquet", rows)
    write(f"{folder}/test-00000-of-00001.parquet", rows[:6])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    return commit


def test_what_was_fetched_earlier_serves_without_network(load, fetched, said):
    data = load("ag_news")
    assert len(data.test) == 6
    assert data.source == f"fancyzhx/ag_news at {fetched}, tokenizer byte"
    assert "the Hugging Face hub is out of reach; fancyzhx/ag_news was fetched earlier" in said

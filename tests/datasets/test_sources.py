"""Where data comes from, in which order, and what is said if it cannot be had."""

import pytest
from huggingface_hub import constants

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


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def fetched(tmp_path, monkeypatch, write):
    """Return a function that lays files as the hub's client does: links to nameless blobs."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def lay(repo: str, revision: str, files: dict[str, list[dict]]):
        root = tmp_path / "hub" / f"datasets--{repo.replace('/', '--')}"
        reference = root / "refs" / revision
        reference.parent.mkdir(parents=True)
        reference.write_text(COMMIT)
        for number, (name, rows) in enumerate(files.items()):
            blob = root / "blobs" / str(number)
            blob.parent.mkdir(exist_ok=True)
            write(f"{number}.parquet", rows).rename(blob)
            link = root / "snapshots" / COMMIT / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blob)

    return lay


def test_what_was_fetched_earlier_serves_without_network(load, fetched, rows, said):
    files = {
        "data/train-00000-of-00001.parquet": rows,
        "data/test-00000-of-00001.parquet": rows[:6],
    }
    fetched("fancyzhx/ag_news", "main", files)
    data = load("ag_news")
    assert len(data.test) == 6
    assert data.source == f"fancyzhx/ag_news at {COMMIT}, tokenizer byte"
    assert "the Hugging Face hub is out of reach; fancyzhx/ag_news was fetched earlier" in said


def test_the_hubs_own_conversions_have_a_folder_for_each_split(load, fetched):
    train = [{"text": f"question {n}", "coarse_label": n % 3, "fine_label": n} for n in range(30)]
    test = [{"text": f"another {n}", "coarse_label": n % 3, "fine_label": n} for n in range(6)]
    files = {"default/train/0000.parquet": train, "default/test/0000.parquet": test}
    fetched("CogComp/trec", "refs/convert/parquet", files)
    data = load("trec")
    assert (len(data.train), len(data.validation), len(data.test)) == (27, 3, 6)
    assert data.label_names == ("0", "1", "2")


def test_half_of_what_was_fetched_is_refused(load, fetched, rows):
    fetched("fancyzhx/ag_news", "main", {"data/train-00000-of-00002.parquet": rows})
    with pytest.raises(DataError, match=r"incomplete: there is no train-00001-of-00002\.parquet"):
        load("ag_news")

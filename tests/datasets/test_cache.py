"""What was prepared once is kept, by content, and never wrong."""

import threading

import pytest

from research_eval.datasets import _prepare
from research_eval.registry import DATASETS_MAP
from research_eval.spec import LoadContext


@pytest.fixture
def own(write, rows):
    return str(write("own.csv", rows))


def files_in(context):
    return sorted(context.cache_dir.iterdir())


def test_the_second_load_reads_the_cache_only(load, own, said, monkeypatch):
    first = load("files", path=own)
    assert any(line.startswith("tokenising") for line in said)
    said.clear()
    monkeypatch.setattr(_prepare, "prepare", None)  # a second preparation would fail
    second = load("files", path=own)
    assert second.fingerprint == first.fingerprint
    assert said == []


def test_bytes_and_domains_survive(load, own):
    settings = {"path": own, "task": "language_modeling", "domain_field": "source"}
    first, second = load("files", **settings), load("files", **settings)
    assert second.train.num_bytes == first.train.num_bytes > 0
    assert second.train.domains_N.tolist() == first.train.domains_N.tolist()
    assert second.domain_names == ("a", "b", "c")


def test_nothing_but_finished_files_is_left(load, own, context):
    load("files", path=own)
    load("files", path=own, max_length=20)
    assert [file.suffix for file in files_in(context)] == [".safetensors", ".safetensors"]


@pytest.mark.parametrize(
    "changes",
    [
        {"max_length": 20},
        {"data_seed": 1},
        {"validation_fraction": 0.2},
        {"train_samples": 10},
        {"label_field": "source"},
        {"task": "language_modeling"},
    ],
    ids=str,
)
def test_other_parameters_are_other_entries(load, own, context, changes):
    load("files", path=own)
    load("files", path=own, **changes)
    assert len(files_in(context)) == 2


def test_the_same_content_elsewhere_is_the_same_entry(load, write, rows, context):
    first = load("files", path=str(write("one/own.csv", rows)))
    second = load("files", path=str(write("two/other.csv", rows)))
    assert len(files_in(context)) == 1
    assert first.fingerprint == second.fingerprint
    assert "one/own.csv" in first.source
    assert "two/other.csv" in second.source


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign"])
def test_a_damaged_entry_is_made_again(load, own, context, said, damage):
    first = load("files", path=own)
    (file,) = files_in(context)
    content = file.read_bytes()
    match damage:
        case "cut":
            file.write_bytes(content[: len(content) // 2])
        case "flipped":
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "foreign":
            file.write_bytes(b"no tensors")
    said.clear()
    again = load("files", path=own)
    assert again.fingerprint == first.fingerprint
    assert any("is damaged" in line for line in said)
    assert file.read_bytes() == content


def test_a_cache_that_cannot_be_written_costs_only_time(own, tmp_path, said):
    (tmp_path / "taken").write_text("a file where the folder should be")
    context = LoadContext(tmp_path, tmp_path / "taken" / "cache", said.append)
    files = DATASETS_MAP["files"]
    data = files.load(files.params(path=own), context)
    assert len(data.train) == 54
    assert any("cannot be kept" in line for line in said)


def test_concurrent_loads_agree(load, own, context):
    found, errors = [], []

    def run():
        try:
            found.append(load("files", path=own).fingerprint)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(set(found)) == 1
    assert len(files_in(context)) == 1

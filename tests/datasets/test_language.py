"""Text for language modelling: packing, lines, bytes and articles."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from research_eval.datasets._packing import pack
from research_eval.datasets._tokenizers import Tokens
from research_eval.datasets._wikitext import articles
from research_eval.errors import DataError
from research_eval.spec import IGNORED_LABEL
from research_eval.training.batches import Batches

END = 257
"""End of text of the byte tokenizer."""


def targets_of(split) -> list[int]:
    """Return everything that a model is asked to predict, in order."""
    pairs = zip(split.ids_NL.tolist(), split.lengths_N.tolist(), strict=True)
    return [token for row, length in pairs for token in row[1:length]]


def as_ids(*texts: str) -> list[int]:
    """Return the ids of documents with end of text between them."""
    joined = [token for text in texts for token in (END, *(b + 1 for b in text.encode()))]
    return joined[1:]


@pytest.fixture
def documents(write):
    """Return a folder of train (3 documents), validation (2) and test (1), all short."""
    texts = {
        "train": ["first text", "zweiter Text: größer", "third"],
        "validation": ["other", "yet another"],
        "test": ["the last 😀"],
    }
    for name, part in texts.items():
        path = write(f"own/{name}.jsonl", [{"text": text} for text in part])
    return path.parent, texts


@pytest.mark.parametrize("length", [2, 3, 7, 8, 100])
def test_every_token_is_a_target_exactly_once(load, documents, length):
    folder, texts = documents
    data = load("files", path=str(folder), task="language_modeling", max_length=length)
    for name in ("train", "validation", "test"):
        split = getattr(data, name)
        assert targets_of(split) == as_ids(*texts[name])
        assert split.ids_NL[0, 0] == END
        assert split.num_bytes == sum(len(text.encode()) for text in texts[name])
        assert split.num_words == sum(len(t.split()) + t.count("\n") for t in texts[name])
        assert (split.lengths_N[:-1] == length + 1).all()


def test_each_row_starts_with_the_last_token_of_the_row_before(load, documents):
    data = load("files", path=str(documents[0]), task="language_modeling", max_length=4)
    rows = data.train.ids_NL
    assert (rows[1:, 0] == rows[:-1, -1]).all()


@pytest.mark.parametrize("num_tokens", [1, 2, 3, 4, 5, 9])
def test_packing_leaves_no_empty_row(num_tokens):
    ids = np.arange(1, num_tokens + 1, dtype=np.int32)
    tokens = Tokens(ids, np.array([num_tokens]), np.ones((num_tokens, 2), dtype=np.int32))
    rows = pack(tokens, end_of_text=99, length=4)
    assert rows.ids_NL.shape == (-(-num_tokens // 4), 5)
    assert rows.lengths_N.min() >= 2
    sizes = [min(4, num_tokens - start) for start in range(0, num_tokens, 4)]
    assert rows.sizes_N2.tolist() == [[size, size] for size in sizes]


def test_limited_rows_count_the_bytes_of_their_own_targets(load, write):
    texts = [{"text": f"Zeile {number} größer"} for number in range(200)]
    data = load(
        "files",
        path=str(write("own.jsonl", texts)),
        task="language_modeling",
        max_length=16,
        train_samples=20,
    )
    bytes_among_targets = sum(token != END for token in targets_of(data.train))
    assert len(data.train) == 20
    assert data.train.num_bytes == bytes_among_targets


def test_lines_become_rows_of_their_own(load, tmp_path):
    long = "a line of more than thirty characters"
    padded = " " * 40 + "short" + " " * 40
    lines = ["too short", padded, "x" * 30, *(f"{number:03} {long}" for number in range(20))]
    (tmp_path / "own.txt").write_text("\n".join(lines))
    settings = {"task": "language_modeling", "packing": "lines"}
    data = load("files", path="own.txt", max_length=40, **settings)
    assert len(data.train) + len(data.validation) == 20
    assert data.train.ids_NL.shape[1] == 41
    first = bytes(token - 1 for token in data.train.ids_NL[0].tolist()).decode()
    assert first == f"000 {long}"
    assert data.train.num_bytes == 40 * len(data.train)
    cut = load("files", path="own.txt", max_length=10, **settings)
    assert cut.counts["train_truncated"] == len(cut.train) == 18
    assert cut.train.num_bytes == 10 * 18


@pytest.mark.parametrize("packing", ["documents", "lines"])
def test_an_id_that_is_not_scored_is_read_but_is_no_target(load, tmp_path, packing):
    lines = [f"line {number:03} of more than thirty characters!" for number in range(20)]
    (tmp_path / "own.txt").write_text("\n".join(lines))
    settings = {"task": "language_modeling", "packing": packing, "max_length": 64}
    mark = ord("!") + 1
    whole = load("files", path="own.txt", **settings)
    part = load("files", path="own.txt", unscored_id=mark, **settings)
    again = load("files", path="own.txt", unscored_id=mark, **settings)
    marks = int((whole.train.ids_NL[:, 1:] == mark).sum())
    assert marks == part.counts["train_unscored"] > 0
    assert torch.equal(part.train.ids_NL, whole.train.ids_NL)
    assert part.train.num_bytes == again.train.num_bytes == whole.train.num_bytes - marks
    rows = torch.arange(len(part.train))
    device = torch.device("cpu")
    before = Batches(whole.train, "language_modeling", device).take(rows)
    after = Batches(again.train, "language_modeling", device).take(rows)
    assert torch.equal(before.ids_BL, after.ids_BL)
    dropped_BL = before.labels != after.labels
    assert set(before.labels[dropped_BL].tolist()) == {mark}
    assert set(after.labels[dropped_BL].tolist()) == {IGNORED_LABEL}
    assert int(dropped_BL.sum()) == marks


def test_an_unscored_id_outside_the_vocabulary_is_refused(load, documents):
    with pytest.raises(DataError, match="unscored_id is 258, but the ids of tokenizer 'byte'"):
        load("files", path=str(documents[0]), task="language_modeling", unscored_id=258)


def test_one_document_is_cut_at_a_line_before_it_is_packed(load, tmp_path):
    lines = [f"line {number:04}\n" for number in range(1000)]
    (tmp_path / "own.txt").write_text("".join(lines))
    data = load(
        "files",
        path="own.txt",
        task="language_modeling",
        validation_fraction=0.1,
        test_fraction=0.05,
        max_length=50,
    )
    parts = [
        bytes(token - 1 for token in targets_of(split)).decode()
        for split in (data.train, data.validation, data.test)
    ]
    assert "".join(parts) == "".join(lines)
    assert all(part.startswith("line ") for part in parts)
    assert [round(len(part) / 10_000, 2) for part in parts] == [0.85, 0.1, 0.05]


def test_a_single_line_cannot_be_divided(load, tmp_path):
    (tmp_path / "own.txt").write_text("one line only")
    with pytest.raises(DataError, match="validation split cannot be cut from 1 training rows"):
        load("files", path="own.txt", task="language_modeling")


def test_repeated_documents_leave_train(load, write):
    write("own/train.jsonl", [{"text": text} for text in ("one", "two", "three")])
    write("own/validation.jsonl", [{"text": "two"}])
    data = load("files", path="own", task="language_modeling")
    assert targets_of(data.train) == as_ids("one", "three")
    assert data.counts == {"train_duplicates": 1}


def test_a_row_belongs_to_one_domain(load, write):
    texts = [{"text": f"{'ab'[n % 2] * 9}{n:02}", "source": "ab"[n % 2]} for n in range(40)]
    data = load(
        "files",
        path=str(write("own.jsonl", texts)),
        task="language_modeling",
        domain_field="source",
        max_length=16,
    )
    for row, domain in zip(data.train.ids_NL.tolist(), data.train.domains_N.tolist(), strict=True):
        letters = {chr(token - 1) for token in row if token not in (0, END)} - set("0123456789")
        assert letters <= {data.domain_names[domain]}
    assert data.train.num_bytes == 11 * 36


def test_articles_start_at_titles_between_blank_lines():
    rows = [
        "",
        " = One = \n",
        "",
        " text \n",
        " = = Section = = \n",
        " a table \n",
        " = Goals ; A = \n",
        " more \n",
        "",
        " = Two = \n",
        "",
        " end \n",
    ]
    assert articles(rows) == ["".join(rows[:9]), "".join(rows[9:])]
    assert articles(["no title\n", "at all\n"]) == ["no title\nat all\n"]


def test_articles_of_one_whole_text_are_those_of_its_lines():
    text = " \n = One = \n \n first \n \n = Two = \n \n second \n"
    assert articles([text]) == [" \n = One = \n \n first \n \n", " = Two = \n \n second \n"]


class TestRealText:
    """Counts that others have published for the same files."""

    def test_wikitext_has_its_articles_and_tokens(self, load, data_mirror, tmp_path):
        folder = data_mirror / "wikitext-2"
        # Ten times smaller than the training split, which the last assertion reads.
        for name, file in (("train", "test"), ("validation", "validation")):
            (tmp_path / f"{name}.parquet").symlink_to(folder / f"{file}-00000-of-00001.parquet")
        data = load("wikitext-2", path=str(tmp_path), tokenizer="gpt2", max_length=128)
        for split, tokens in ((data.train, 292_943), (data.validation, 256_061)):
            overlap, ends = len(split) - 1, 60  # one end of text for each article
            assert int(split.lengths_N.sum()) - overlap - ends == tokens
        assert data.vocab_size == 50_257
        rows = pq.read_table(tmp_path / "validation.parquet")["text"].to_pylist()
        assert data.validation.num_bytes == sum(len(row.encode()) for row in rows)
        train = pq.read_table(folder / "train-00000-of-00001.parquet")["text"].to_pylist()
        assert len(articles(train)) == 600
        assert "".join(articles(train)) == "".join(train)

    @pytest.mark.usefixtures("data_mirror")
    def test_wikitext_lines_are_those_of_the_originals(self, load):
        data = load("wikitext-2", max_length=16, packing="lines", train_samples=50)
        assert len(data.validation) == 1_913

    def test_tiny_shakespeare_is_whole(self, load, data_mirror):
        data = load("tiny_shakespeare")
        whole = (data_mirror / "tiny_shakespeare" / "input.txt").read_bytes()
        splits = (data.train, data.validation, data.test)
        text = b"".join(bytes(token - 1 for token in targets_of(split)) for split in splits)
        assert text == whole

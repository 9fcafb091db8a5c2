"""Tokenizers: bytes, and the Hugging Face ones from a folder, the mirror or the hub."""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from research_eval.datasets._tokenizers import ByteTokenizer, FastTokenizer, sizes_of_tokens
from research_eval.errors import DataError

TEXTS = ["the river", "größer, 😀 größer\n", "a  red   stone ", "x"]


@pytest.fixture
def byte_level(tmp_path):
    """Return the folder of a small tokenizer of GPT-2's kind."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<end>"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 20, trainer)
    folder = tmp_path / "tokenizers" / "byte-level"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    return folder


@pytest.fixture
def word_level(tmp_path):
    """Return the folder of a small tokenizer of BERT's kind, which skips white space."""
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "the", "river", "red", "stone", "a"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    folder = tmp_path / "tokenizers" / "word-level"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, sep_token="[SEP]", cls_token="[CLS]", pad_token="[PAD]"
    ).save_pretrained(folder)
    return folder


def rows_of(tokens) -> list[list[int]]:
    return [part.tolist() for part in np.split(tokens.ids_T, np.cumsum(tokens.lengths_N)[:-1])]


def test_bytes_are_bytes():
    tokens = ByteTokenizer().running_text(TEXTS)
    assert [bytes(i - 1 for i in row).decode() for row in rows_of(tokens)] == TEXTS
    assert tokens.sizes_T2[:, 0].tolist() == [1] * len("".join(TEXTS).encode())
    assert tokens.sizes_T2[:, 1].sum() == sum(map(words_in, TEXTS))


def words_in(text: str) -> int:
    return len(text.split()) + text.count("\n")


@pytest.mark.parametrize("kind", ["byte_level", "word_level"])
def test_bytes_and_words_of_tokens_add_up_to_the_text(request, kind):
    tokenizer = FastTokenizer(request.getfixturevalue(kind))
    tokens = tokenizer.running_text(TEXTS)
    ends = np.cumsum(tokens.lengths_N)
    sums = [part.sum(axis=0).tolist() for part in np.split(tokens.sizes_T2, ends[:-1])]
    assert sums == [[len(text.encode()), words_in(text)] for text in TEXTS]


def test_bytes_and_words_go_to_the_token_that_stands_for_them():
    assert sizes_of_tokens("größer", [2, 3, 3, 6]).T.tolist() == [[2, 2, 0, 4], [1, 0, 0, 0]]
    assert sizes_of_tokens("  a b  ", [3, 5]).T.tolist() == [[3, 4], [1, 1]]
    assert sizes_of_tokens("a\n\u2003b", [2, 4]).T.tolist() == [[2, 4], [2, 1]]
    assert sizes_of_tokens("", []).tolist() == []


@pytest.mark.parametrize("max_length", [2, 3, 4, 50])
@pytest.mark.parametrize("kind", ["byte_level", "word_level"])
def test_whole_texts_are_tokenised_and_cut_as_the_library_does(request, kind, max_length):
    folder = request.getfixturevalue(kind)
    reference = AutoTokenizer.from_pretrained(folder)
    tokenizer = FastTokenizer(folder)
    tokens = tokenizer.whole_texts(TEXTS).truncated(max_length, tokenizer.suffix)
    expected = reference(TEXTS, truncation=True, max_length=max_length)["input_ids"]
    assert rows_of(tokens) == expected
    assert tokenizer.vocab_size == len(reference)


def test_running_text_has_no_special_tokens(word_level):
    tokenizer = FastTokenizer(word_level)
    assert rows_of(tokenizer.running_text(["the river"])) == [[4, 5]]
    assert rows_of(tokenizer.whole_texts(["the river"])) == [[1, 4, 5, 2]]
    assert tokenizer.end_of_text == 2  # it has no end-of-text token, so the separator serves


def test_a_folder_relative_to_the_configuration(load, write, rows, word_level):
    path = str(write("own.csv", rows))
    data = load("files", path=path, tokenizer="tokenizers/word-level")
    assert data.vocab_size == 9
    assert (data.train.ids_NL[:, 0] == 1).all()
    assert data.source.endswith(f"tokenizer {word_level}")


def test_a_name_in_the_mirror(load, write, rows, byte_level, monkeypatch):
    monkeypatch.setenv("RESEARCH_EVAL_DATA", str(byte_level.parents[1]))
    path = str(write("sub/own.jsonl", rows))
    data = load("files", path=path, tokenizer="byte-level", task="language_modeling")
    assert data.train.ids_NL[0, 0] == 0  # `<end>` is the first entry of this vocabulary
    assert (
        data.train.num_bytes == load("files", path=path, task="language_modeling").train.num_bytes
    )


def test_packed_documents_need_a_token_between_them(load, write, rows, word_level):
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    bare = word_level.parent / "bare"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(bare)
    settings = {"path": str(write("own.csv", rows)), "tokenizer": str(bare)}
    with pytest.raises(DataError, match=r"no end-of-text token.*set dataset_params\.packing=lines"):
        load("files", task="language_modeling", **settings)


def test_a_folder_that_is_not_there(load, write, rows):
    with pytest.raises(DataError, match=r"tokenizer is \./nowhere, but there is no folder"):
        load("files", path=str(write("own.csv", rows)), tokenizer="./nowhere")


def test_a_folder_without_a_tokenizer(load, write, rows, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no usable tokenizer"):
        load("files", path=str(write("own.csv", rows)), tokenizer="empty")


class TestRealTokenizers:
    @pytest.mark.parametrize("name", ["gpt2", "bert-base-uncased"])
    def test_ids_are_those_of_the_library(self, data_mirror, name):
        folder = data_mirror / "tokenizers" / name
        tokenizer, reference = FastTokenizer(folder), AutoTokenizer.from_pretrained(folder)
        tokens = tokenizer.whole_texts(TEXTS).truncated(5, tokenizer.suffix)
        assert rows_of(tokens) == reference(TEXTS, truncation=True, max_length=5)["input_ids"]

    def test_gpt2_and_bytes_measure_the_same_text(self, data_mirror, load):
        path = str(data_mirror / "tiny_shakespeare" / "validation-00000-of-00001.parquet")
        settings = {"path": path, "task": "language_modeling"}
        by_byte = load("files", **settings)
        by_word = load("files", **settings, tokenizer="gpt2")
        assert by_byte.validation.num_bytes == by_word.validation.num_bytes

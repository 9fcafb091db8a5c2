"""Text from recorded runs, in Python and by the command."""

import json

import pytest

import research_eval
from research_eval.cli import main
from research_eval.errors import ConfigError, StoreError
from research_eval.generation import Decoding
from research_eval.generation.transcript import Transcript
from research_eval.store import Store
from research_eval.testing.runs import record as record_other

TINY = {
    "epochs": 1,
    "batch_size": 16,
    "model_type": "dense",
    "model_params": {"embed_dim": 8, "num_heads": 2, "num_layers": 1},
    "training_params": {"device": "cpu"},
}
TEXT = TINY | {
    "experiment_name": "text",
    "dataset_name": "files",
    "dataset_params": {
        "path": "text.jsonl",
        "task": "language_modeling",
        "max_length": 24,
        "test_fraction": 0.1,
    },
}
MARKOV = TINY | {
    "experiment_name": "markov",
    "dataset_name": "markov",
    "dataset_params": {"num_samples": 64, "val_samples": 16, "seq_len": 8, "vocab_size": 6},
}
PARITY = TINY | {
    "experiment_name": "parity",
    "dataset_name": "parity",
    "dataset_params": {"num_samples": 64, "val_samples": 16, "seq_len": 6},
}


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    lines = [json.dumps({"text": f"line {row} says: grüß dich, {row % 7}!"}) for row in range(80)]
    (folder / "text.jsonl").write_text("\n".join(lines))
    text = json.loads(json.dumps(TEXT))
    text["dataset_params"]["path"] = str(folder / "text.jsonl")
    for config in (text, MARKOV, PARITY):
        research_eval.run(config, db=folder / "runs.db")
    return folder / "runs.db"


def test_text_is_continued_and_repeats(db):
    how = Decoding(max_new_tokens=12)
    first, second = (
        research_eval.generate("text", ["line 3", ""], decoding=how, db=db) for _ in range(2)
    )
    assert first == second
    assert [each.prompt for each in first] == ["line 3", ""]
    for each in first:
        assert each.ended in {"max_new_tokens", "end of text"}
        assert len(each.ids) <= 12
        assert bytes(i - 1 for i in each.ids if i).decode(errors="replace") == each.text


def test_numbers_are_continued(db):
    (found,) = research_eval.generate("markov", ["3 1"], decoding=Decoding(max_new_tokens=4), db=db)
    assert found.text == "".join(f" {token}" for token in found.ids)
    assert len(found.ids) == 4


@pytest.mark.parametrize(
    ("run", "prompt", "message"),
    [
        ("parity", "1 2", "is a classifier and writes no text; `research-eval evaluate"),
        ("markov", "1 x", "the numbers below 7, with spaces between them; 'x' is none"),
        ("markov", "9", "'9' is none"),
        ("markov", "", "has not learned to begin a text; give a prompt"),
        ("markov", "1 " * 50, "the prompt has 50 tokens, but the model has 8 positions"),
    ],
)
def test_what_cannot_be_continued_is_told(db, run, prompt, message):
    with pytest.raises(ConfigError, match=message):
        research_eval.generate(run, [prompt], db=db)


def test_a_run_without_weights_is_refused(tmp_path):
    with Store.open(tmp_path / "other.db", create=True) as store:
        record_other(store, "other", {"loss": 1.0})
    with pytest.raises(StoreError, match="did not keep its last weights"):
        research_eval.generate("last", ["1"], db=tmp_path / "other.db")


class Letters:
    """A vocabulary of letters in which 9 and 10 are the halves of an é."""

    end_of_text = 0

    def prompt(self, text):
        return [ord(c) - 96 for c in text]

    def text(self, ids):
        halves = {9: b"\xc3", 10: b"\xa9"}
        return b"".join(halves.get(i, bytes([i + 96])) for i in ids).decode(errors="replace")


def told(tokens, stops=(), limit=99):
    script = Transcript(Letters(), [24], stops, limit)
    pieces = []
    for token in tokens:
        pieces.append(script.add(token))
        if script.ended:
            break
    assert "".join(pieces) == script.text
    return script, pieces


def test_half_a_character_is_not_told():
    script, pieces = told([1, 9, 10, 2])
    assert pieces == ["a", "", "é", "b"]
    assert script.ended is None


def test_the_end_of_text_ends_and_is_no_text():
    script, _ = told([1, 2, 0, 3])
    assert (script.text, script.ended, script.ids) == ("ab", "end of text", [1, 2])


def test_a_stop_ends_before_it_and_its_beginning_is_held_back():
    script, pieces = told([1, 2, 1, 2, 3, 4], stops=["bc", "zz"])
    assert pieces == ["a", "", "ba", "", ""]
    assert (script.text, script.ended) == ("aba", "stop")


def test_the_limit_tells_what_was_held_back():
    script, _ = told([1, 2], stops=["bc"], limit=2)
    assert (script.text, script.ended) == ("ab", "max_new_tokens")


def command(capsys, *arguments):
    code = main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_streams_one_prompt(db, capsys):
    asked = ["generate", "text", "--prompt", "line", "--max-new-tokens", "5", "--db", str(db)]
    code, out, err = command(capsys, *asked)
    (found,) = research_eval.generate("text", ["line"], decoding=Decoding(max_new_tokens=5), db=db)
    assert code == 0
    assert out.startswith("line")
    assert len(found.ids) == 5
    assert "5 tokens in" in err
    assert "next: research-eval evaluate" in err


def test_the_command_takes_files_and_gives_json(db, capsys, tmp_path):
    plain, lines = tmp_path / "prompts.txt", tmp_path / "prompts.jsonl"
    plain.write_text("1 2\n\n3\n")
    lines.write_text('{"prompt": "1 2"}\n{"prompt": "3"}\n')
    asked = ["generate", "markov", "--format", "json", "--max-new-tokens", "2", "--db", str(db)]
    found = []
    for file in (plain, lines):
        code, out, _ = command(capsys, *asked, "--batch-file", str(file))
        assert code == 0
        found.append(json.loads(out))
    assert found[0] == found[1]
    assert [each["prompt"] for each in found[0]] == ["1 2", "3"]
    assert {each["ended"] for each in found[0]} == {"max_new_tokens"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give what to continue"),
        (["--prompt", "1", "--batch-file", "p.txt"], "give what to continue"),
        (["--prompt", "1", "--top-p", "0"], "--top-p"),
        (["--prompt", "1", "--temperature", "-1"], "--temperature"),
        (["--prompt", "1", "--max-new-tokens", "0"], "--max-new-tokens"),
        (["--prompt", "1", "--stop", ""], "at least one character"),
        (["--batch-file", "none.txt"], "none.txt cannot be read"),
        (["--batch-file", "empty.txt"], "holds no prompt"),
        (["--batch-file", "wrong.jsonl"], "wrong.jsonl, line 2"),
    ],
    ids=str,
)
def test_bad_input_is_one_line(db, capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "wrong.jsonl").write_text('{"prompt": "1"}\n{"text": "1"}\n')
    code, out, err = command(capsys, "generate", "markov", *arguments, "--db", str(db))
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err

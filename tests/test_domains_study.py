"""The study of specialisation by domain: what it prepares, runs and reports, on made-up text."""

import json
import math
import re
import runpy
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
import torch

from research_eval import run
from research_eval.records import RunStatus

STUDY = Path(__file__).resolve().parents[1] / "examples" / "studies" / "domains"
CONFIGS = sorted(file.stem for file in STUDY.glob("*.json"))
SIZES = {"train": 6000, "validation": 600, "test": 1500}
WORDS = ["".join(letters) for letters in product("bdfgklmnpr", "aeiou", "lmnrst")]
SMALL = ("batch_size=4", "model_params.embed_dim=16", "training_params.max_steps=2")


def code(words):
    name = "".join(word.title() for word in words)
    return f"# Write {words[0]}.\ndef {name}(x):\n  return _x_\nassert {name}(1) == 2\n"


def math_text(words):
    return f"{' '.join(words).title()}?\nIt is 2*3 = <<2*3=6>>6 caf\u00e9s.\n#### 6"


def prose(words):
    return f'{" ".join(words)} , said <unk> \u2013 " {words[0]} " \u2019tis {words[1]} .'


def rows(write, first, count, source):
    texts = (write([WORDS[(first + i * 7 + j * j) % 300] for j in range(12)]) for i in range(count))
    return [{"text": text, "source": source} for text in texts]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Return a folder with three data sets; the first test row stands in train as well."""
    folder = tmp_path_factory.mktemp("sources")
    for name, write in {"code": code, "math": math_text, "prose": prose}.items():
        train, test = rows(write, 0, 260, name), rows(write, 3, 60, name)
        extra = [{"text": "public static void main", "source": "translated"}]
        (folder / name).mkdir()
        for split, part in (("train", [*train, test[0], *extra]), ("test", test)):
            lines = "".join(json.dumps(row) + "\n" for row in part)
            (folder / name / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def prepare(sources, out, **sizes):
    names = [f"{name}={sources / name}" for name in ("code", "math", "prose")]
    sizes = [f"--{split}-bytes={size}" for split, size in (SIZES | sizes).items()]
    with pytest.MonkeyPatch.context() as patch:
        arguments = [*names, *sizes, "--leave-out=translated", f"--out={out}"]
        patch.setattr("sys.argv", ["prepare.py", *arguments])
        runpy.run_path(str(STUDY / "prepare.py"), run_name="__main__")


@pytest.fixture(scope="module")
def data(sources, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "data"
    prepare(sources, out)
    return out


def texts(data, version, split):
    lines = (data / version / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return pd.DataFrame(map(json.loads, lines))


def everything(data, version):
    return pd.concat(texts(data, version, split) for split in SIZES)


def test_what_gives_a_domain_away_is_gone_where_it_is_said_to_be(data):
    whole = "\n".join(everything(data, "as-is")["text"])
    assert all(cue in whole for cue in ("<unk>", "<<2*3=6>>", "#### 6", "# Write", "assert", "é"))
    stripped = everything(data, "stripped")["text"]
    assert not stripped.str.contains(r"unk|<<|>>|#|assert|write|[^ -~]|[A-Z]| \W|\W ").any()
    assert stripped.str.contains(r"[0-9(*]").any()
    assert everything(data, "letters")["text"].str.fullmatch(r"[a-z ]+").all()
    for version in ("stripped", "letters"):
        assert set(everything(data, version)["text"].str.len()) == {127}


@pytest.mark.parametrize("version", ["as-is", "stripped", "letters"])
def test_domains_have_equally_many_bytes(data, version):
    for split, size in SIZES.items():
        table = texts(data, version, split)
        sizes = table["text"].str.encode("utf-8").str.len().groupby(table["domain"]).sum()
        assert list(sizes.index) == ["code", "math", "prose"]
        assert sizes.max() <= size
        assert sizes.min() >= size - (2 if version == "as-is" else 126)
        assert sizes.nunique() == 1 or version == "as-is"


def test_splits_share_no_rows_and_test_is_the_one_given(data, sources):
    parts = {split: set(texts(data, "as-is", split)["text"]) for split in SIZES}
    assert not parts["train"] & parts["validation"]
    assert not (parts["train"] | parts["validation"]) & parts["test"]
    for name in ("code", "math", "prose"):
        lines = (sources / name / "test.jsonl").read_text(encoding="utf-8").splitlines()
        given = {json.loads(line)["text"] for line in lines}
        table = texts(data, "as-is", "test")
        mine = table.loc[table["domain"] == name, "text"]
        assert set(mine[:-1]) <= given  # the last one is cut
        assert not given & (parts["train"] | parts["validation"])
    assert not everything(data, "as-is")["text"].str.contains("public static").any()


def test_the_same_command_writes_the_same_bytes(data, sources, tmp_path):
    prepare(sources, tmp_path / "again")
    for file in data.rglob("*.jsonl"):
        assert (tmp_path / "again" / file.relative_to(data)).read_bytes() == file.read_bytes()


def test_too_little_text_is_refused(sources, tmp_path):
    with pytest.raises(SystemExit, match=r"code has [\d,]+ bytes of test, as-is, and 900,000 were"):
        prepare(sources, tmp_path / "data", test=900_000)
    assert not (tmp_path / "data").exists()


def test_every_configuration_trains_and_is_reported(data, tmp_path, monkeypatch):
    monkeypatch.setenv("RESEARCH_EVAL_CACHE", str(tmp_path / "cache"))
    for version, name in [*product(["stripped"], CONFIGS), ("as-is", "top1")]:
        path = f"dataset_params.path={data / version}"
        record = run(STUDY / f"{name}.json", overrides=[*SMALL, path], db=tmp_path / "runs.db")
        assert record.status is RunStatus.COMPLETED
        assert 0 < record.value("val_specialisation_layer0") < math.log(3)
    report = runpy.run_path(str(STUDY / "report.py"))
    report["main"](str(tmp_path / "runs.db"), str(tmp_path / "out"))
    found = pd.read_csv(tmp_path / "out" / "runs.csv")
    layers = 2
    assert len(found) == layers * (len(CONFIGS) + 1)
    assert sorted(found["arm"].unique()) == CONFIGS
    hashed = found[found["arm"] == "hash"]
    assert hashed["nmi"].to_numpy() == pytest.approx(hashed["lexical"].to_numpy(), rel=1e-3)
    assert (hashed["context"] <= 0).all()
    assert {file.name for file in (tmp_path / "out").glob("*.png")} == {
        "shares.png",
        "specialisation.png",
    }


def test_measures_tell_words_from_context():
    measures = runpy.run_path(str(STUDY / "report.py"))["measures"]
    domains_N = torch.arange(300) % 3
    by_domain_NVE = torch.zeros(300, 4, 3, dtype=torch.int64)
    by_domain_NVE[torch.arange(300), :, domains_N] = 2  # every row has the same tokens
    found = measures(domains_N, by_domain_NVE)
    assert found["nmi"] == pytest.approx(1)
    assert found["lexical"] == pytest.approx(0, abs=1e-9)
    assert found["context"] == pytest.approx(1, abs=0.02)

    by_token_NVE = torch.zeros(300, 3, 3, dtype=torch.int64)
    by_token_NVE[torch.arange(300), domains_N, domains_N] = 5  # each domain has its own token
    found = measures(domains_N, by_token_NVE)
    assert found["nmi"] == pytest.approx(1)
    assert found["lexical"] == pytest.approx(1)
    assert found["token"] == pytest.approx(1)
    assert found["context"] == pytest.approx(0, abs=1e-9)
    assert 0 < found["chance"] < 0.03


def test_no_marker_is_left_in_a_domain_only():
    stripped = runpy.run_path(str(STUDY / "prepare.py"))["stripped"]
    assert stripped('A <unk> , " Ab-c " \u2013 x_y') == 'a,"ab-c"-x_y'
    assert stripped("getFooBar(a, b) {\n  return 1;\n}") == "get foo bar(a,b){return 1;}"
    assert stripped("3*4=$<<3*4=12>>12\n#### 12") == "3*4=$12"
    assert re.fullmatch(r"caf", stripped("# task\ncaf\u20ac\n  assert f() == 1"))

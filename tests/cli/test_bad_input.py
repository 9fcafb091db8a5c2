"""Everything that people get wrong: one clear line, the documented exit code, nothing written."""

import json
import resource
import sqlite3
from pathlib import Path

import pytest

from research_eval.cli import main
from research_eval.records import RunStatus
from research_eval.store import Store


def written():
    """Return what a command left in the working directory, but for what the test put there."""
    return sorted(path.name for path in Path().iterdir() if path.suffix not in (".json", ".py"))


def assert_refused(said, code, *hints):
    assert said.code == code, said.err
    assert len(said.errors) == 1, said.err
    for hint in hints:
        assert hint in said.errors[0]


BAD_CONFIGS = {
    "unknown key": ({"epoch": 3}, "epoch: unknown field; did you mean 'epochs'?"),
    "illegal value": ({"epochs": 0}, "epochs: must be greater than or equal to 1, got 0"),
    "wrong type": ({"epochs": "3"}, "epochs: "),
    "indivisible heads": ({"model_params": {"num_heads": 3}}, "num_heads=2 would be legal"),
    "unknown model": ({"model_type": "densse"}, "did you mean 'dense'?"),
    "unknown data set": ({"dataset_name": "pariti"}, "did you mean 'parity'?"),
    "unknown optimizer": ({"optimizer_params": {"name": "adam"}}, "did you mean 'adamw'?"),
    "no plug-in file": ({"model_type": "./none.py:X"}, "there is no plug-in file"),
    "control character": ({"experiment_name": "a\x1bb"}, "experiment_name: "),
}


@pytest.mark.parametrize(("change", "hint"), BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_an_illegal_configuration_is_refused_before_anything_is_written(cli, config, change, hint):
    assert_refused(cli("run", config(**change)), 2, "tiny.json", hint)
    assert written() == []


def test_all_mistakes_of_a_file_are_told_at_once(cli, config):
    wrong = config(model_type="moe", epochs=0, epoch=1, model_params={"num_experts": 2, "top_k": 3})
    said = cli("run", wrong, "training_params.precison=fp32")
    assert said.code == 2
    assert said.errors[0] == "error: tiny.json is not legal"
    assert [line.split(":")[0].strip() for line in said.errors[1:]] == [
        "epoch",
        "epochs",
        "model_params.top_k",
        "training_params.precison",
    ]
    assert "top_k=2 would be legal" in said.err


def test_the_mistakes_of_several_files_are_told_at_once_and_none_is_run(cli, config):
    good, bad = config("good.json"), config("bad.json", epochs=0)
    said = cli("run", good, bad, "none.json")
    assert said.code == 2
    assert said.errors[0] == "error: 2 of 3 configurations are not legal"
    assert said.errors[1].startswith("  bad.json: epochs: ")
    assert said.errors[2].startswith("  none.json: ")
    assert written() == []


@pytest.mark.parametrize(
    ("text", "hints"),
    [
        ('{"epochs": 1, "epochs": 2}', ("epochs: appears twice",)),
        ('{"experiment_name": "x"', ("is not JSON: line 1, column",)),
        ("[1, 2]", ("must hold one JSON object",)),
        ("", ("is not JSON",)),
        ("\x00\x80", ("bad.json",)),
    ],
)
def test_a_file_that_is_no_configuration(cli, text, hints):
    Path("bad.json").write_text(text)
    said = cli("run", "bad.json")
    assert said.code == 2
    for hint in hints:
        assert hint in said.err
    assert written() == []


def test_nan_in_json_is_told_with_its_path(cli, config):
    path = config()
    path.write_text(path.read_text().replace('"epochs": 1', '"optimizer_params": {"lr": NaN}'))
    assert_refused(cli("run", path), 2, "optimizer_params.lr", "NaN")
    assert written() == []


def test_a_missing_file_is_told_with_the_way_to_make_one(cli):
    assert_refused(cli("run", "none.json"), 2, "none.json", "research-eval new config")
    Path("folder.json").mkdir()
    assert_refused(cli("run", "folder.json"), 2, "folder.json")


def test_a_plug_in_that_does_not_import_is_told_with_its_reason(cli, config):
    Path("broken.py").write_text("import nothing_of_this_name\n")
    said = cli("run", config(model_type="./broken.py:X"))
    assert_refused(said, 2, "broken.py", "No module named 'nothing_of_this_name'")
    Path("broken.py").write_text("class Y: pass\n")
    assert_refused(cli("run", config(model_type="./broken.py:X")), 2, "has no 'X'")
    router = config(model_type="moe", model_params={"router": "./broken.py:X"})
    assert_refused(cli("run", router), 2, "model_params.router", "has no 'X'")
    assert written() == []


def test_a_model_that_cannot_be_built_is_told_without_a_traceback_unless_asked(cli, config, capsys):
    Path("broken.py").write_text(
        "import torch\n"
        "class X(torch.nn.Module):\n"
        "    def __init__(self, params, context):\n"
        "        raise ValueError('boo')\n"
    )
    broken = config(model_type="./broken.py:X")
    assert_refused(cli("run", broken), 2, "'./broken.py:X' fails: ValueError: boo")
    assert main(["--debug", "run", str(broken)]) == 2
    assert "broken.py" in capsys.readouterr().err


@pytest.mark.parametrize(("raised", "code"), [("KeyError('boo')", 2), ("KeyboardInterrupt", 130)])
def test_data_that_fails_or_is_interrupted_on_loading(cli, config, raised, code):
    Path("own.py").write_text(
        "from dataclasses import replace\n"
        "from research_eval.datasets.parity import SPEC as PARITY\n"
        "def load(params, context):\n"
        f"    raise {raised}\n"
        "DATA = replace(PARITY, name='data', load=load)\n"
    )
    said = cli("run", config(dataset_name="./own.py:DATA"), "--seeds", "2")
    assert said.code == code
    if code == 2:
        assert "'./own.py:DATA' fails: KeyError: 'boo'" in said.errors[-1]
    assert written() == []


def test_a_row_longer_than_the_positions_is_told_before_training(cli, config):
    said = cli("run", config(model_params={"max_positions": 4}))
    assert_refused(said, 2, "max_positions to 6 or more")
    assert written() == []


def test_a_monitor_that_the_task_does_not_have(cli, config):
    said = cli("run", config(training_params={"monitor": "val_perplexity:min"}))
    assert_refused(said, 2, "training_params.monitor", "val_f1")
    assert written() == []


# ----------------------------------------------------------------------------------------- data


def own_data(config, rows, **params):
    """Return a configuration of a CSV with the given rows of text and label."""
    lines = ["text,label", *(f"{text},{label}" for text, label in rows)]
    Path("rows.csv").write_text("\n".join(lines))
    tree = json.loads(config().read_text())
    tree |= {"dataset_name": "files", "dataset_params": {"path": "rows.csv", **params}}
    path = Path("files.json")
    path.write_text(json.dumps(tree))
    return path


ROWS = [(f"row number {i}", i % 2) for i in range(40)]


def test_own_data_can_be_run(cli, config):
    said = cli("run", own_data(config, ROWS), "--format", "json")
    assert said.code == 0, said.err
    assert said.json[0]["dataset_name"] == "files"


@pytest.mark.parametrize(
    ("rows", "params", "hints"),
    [
        (ROWS, {"label_field": "kind"}, ("kind", "label")),
        (ROWS, {"text_field": "body"}, ("body",)),
        (ROWS, {"path": "none.csv"}, ("none.csv",)),
        ([], {}, ("rows.csv",)),
        ([("only", 0)], {}, ()),
        ([(text, 1) for text, _ in ROWS], {}, ("class",)),
        (ROWS, {"tokenizer": "no-such-tokenizer"}, ("no-such-tokenizer",)),
    ],
    ids=["no label", "no text", "no file", "no rows", "one row", "one class", "no tokenizer"],
)
def test_data_that_cannot_be_used_is_exit_code_3(cli, config, rows, params, hints):
    said = cli("run", own_data(config, rows, **params), "--seeds", "2")
    assert_refused(said, 3, *hints)
    assert [name for name in written() if ".db" in name] == []


def test_data_that_cannot_be_had_names_the_ways_to_provide_it(cli, config):
    tree = json.loads(config().read_text()) | {"dataset_name": "ag_news", "dataset_params": {}}
    Path("news.json").write_text(json.dumps(tree))
    said = cli("run", "news.json")
    assert_refused(said, 3, "dataset_params.path", "RESEARCH_EVAL_DATA")


# ---------------------------------------------------------------------------------------- store


def test_a_file_that_is_no_database(cli, config):
    Path("text.db").write_text("not a database, but long enough to have a header" * 9)
    before = Path("text.db").read_bytes()
    for command in (("run", config()), ("runs", "list"), ("db", "info"), ("db", "init")):
        assert_refused(cli(*command, "--db", "text.db"), 4, "text.db", "not a database")
    assert Path("text.db").read_bytes() == before
    assert written() == ["text.db"]


def test_a_database_of_another_program(cli, config):
    with sqlite3.connect("other.db") as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    for command in (("run", config()), ("runs", "list")):
        assert_refused(cli(*command, "--db", "other.db"), 4, "another program", "recipes")


def test_a_database_of_a_newer_version(cli, config):
    cli("db", "init", "--db", "new.db")
    with sqlite3.connect("new.db") as connection:
        [table] = connection.execute(
            "SELECT name FROM sqlite_master WHERE sql LIKE '%version_num%' AND type = 'table'"
        ).fetchone()
        connection.execute(f"UPDATE {table} SET version_num = '9999'")
    connection.close()
    for command in (("run", config()), ("runs", "list")):
        said = cli(*command, "--db", "new.db")
        assert_refused(said, 4, "newer version", "9999", "pip install --upgrade")


def test_a_database_that_others_keep_locked(cli, config, monkeypatch):
    monkeypatch.setitem(Store.open.__func__.__kwdefaults__, "busy_timeout", 0.05)
    cli("db", "init")
    connection = sqlite3.connect("experiment_results.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        assert_refused(cli("run", config()), 4, "is locked by another program")
        assert cli("runs", "list").code == 0  # who reads does not wait for who writes
    finally:
        connection.close()
    assert cli("run", config()).code == 0


def test_a_database_where_none_can_be(cli, config):
    Path("file").write_text("")
    assert_refused(cli("run", config(), "--db", "file/x.db"), 4, "x.db")
    assert_refused(cli("run", config(), "--db", "no/such/folder/x.db"), 4, "x.db")
    assert_refused(cli("run", config(), "--db", "mysql://host/x"), 4, "mysql")
    assert_refused(cli("run", config(), "--db", ":memory:"), 4, "needs a file")
    assert written() == ["file"]


def test_a_password_in_a_url_is_never_printed(cli, config):
    said = cli("run", config(), "--db", "postgresql://me:hunter2@127.0.0.1:1/x")
    assert said.code == 4
    assert "hunter2" not in said.out + said.err


def test_a_full_disk_fails_the_run_and_loses_nothing_of_others(cli, programs, config):
    assert cli("run", config()).code == 0
    large = config("large.json", model_params={"embed_dim": 128})  # weights of about 800 kB

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    said = programs.finish(programs.start("run", large, preexec_fn=full))
    assert said.code in (4, 5)
    assert len(said.errors) == 1
    assert "Traceback" not in said.err
    with Store.open("experiment_results.db", mode="ro") as store:
        failed, first = store.runs()
        folder = store.artifact_dir / failed.experiment_id
    assert first.status is RunStatus.COMPLETED
    assert failed.status is not RunStatus.COMPLETED
    assert not list(folder.glob("*.part")), "half-written files stayed behind"
    assert cli("run", large).code == 0

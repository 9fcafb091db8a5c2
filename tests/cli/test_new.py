"""`new model|router|dataset`: files to start from, which keep their promises as they are."""

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("kind", "name", "settings"),
    [
        ("model", "MyModel", "model_type={}"),
        ("router", "MyRouter", "model_type=moe model_params.router={}"),
        ("dataset", "MY_DATA", "dataset_name={}"),
    ],
)
def test_a_new_file_is_written_and_what_to_do_next_is_said(cli, kind, name, settings):
    said = cli("new", kind, "mine.py")
    assert said.code == 0
    component = f"./mine.py:{name}"
    assert said.err.splitlines() == [
        f"next: research-eval check {component}",
        f"      research-eval run CONFIG {settings.format(component)}",
    ]
    written = Path("mine.py").read_text()
    assert f"\n{name} = " in written or f"\nclass {name}(" in written


@pytest.mark.parametrize(
    ("kind", "name"), [("model", "MyModel"), ("router", "MyRouter"), ("dataset", "MY_DATA")]
)
def test_a_new_file_keeps_its_promises(cli, kind, name):
    cli("new", kind, "mine.py")
    said = cli("check", f"./mine.py:{name}")
    assert said.code == 0, said.out
    assert "BROKEN" not in said.out


def test_a_new_router_and_data_set_run_together(cli, config):
    cli("new", "router", "mine.py")
    cli("new", "dataset", "data.py")
    settings = (
        "model_type=moe",
        "model_params.router=./mine.py:MyRouter",
        "dataset_name=./data.py:MY_DATA",
        'dataset_params={"num_samples": 200, "seq_len": 6}',
    )
    assert cli("run", config(), *settings).code == 0
    said = cli("runs", "show", "last", "--experts")
    assert said.code == 0
    assert "layer 0: load" in said.out


def test_a_file_that_is_there_stays_as_it_is(cli):
    Path("mine.py").write_text("mine")
    said = cli("new", "model", "mine.py")
    assert said.code == 2
    assert "not overwritten" in said.errors[0]
    assert Path("mine.py").read_text() == "mine"


def test_a_file_that_cannot_be_a_plug_in_or_be_written_is_refused(cli):
    assert "must end in .py" in cli("new", "router", "mine.txt").errors[0]
    said = cli("new", "router", "nowhere/mine.py")
    assert said.code == 2
    assert "cannot write nowhere/mine.py" in said.errors[0]

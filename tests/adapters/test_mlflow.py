"""Runs of the store in MLflow, and back."""

import json
import math
import sys

import pytest

import research_eval
from research_eval.cli import main
from research_eval.importers.taking import find
from research_eval.store import Store

VALUES = [1.0, math.nan, 5e-324]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "runs.db"
    options = {"db": path, "system_interval_s": None, "git_diff": False}
    with research_eval.track("outer", project="demo", tags=["a"], **options) as outer:
        outer.note("a remark")
        config = {"lr": 0.1, "deep": {"k": 2}, "long": "x" * 7000}
        with research_eval.track("inner", parent=outer, config=config, **options) as inner:
            for step, value in enumerate(VALUES):
                inner.log({"loss@5": value, "val/acc": 0.5}, step=step * 10)
            inner.finish("DIVERGED", error="NaN")
    return path


@pytest.mark.filterwarnings("ignore")  # of a library that the project does not choose
def test_what_is_exported_can_be_imported_again(path, tmp_path, capsys):
    pytest.importorskip("mlflow")
    target = tmp_path / "mlflow.db"
    command = ["runs", "export", "outer", "inner", "--format", "mlflow"]
    assert main([*command, "-o", str(target), "--db", str(path)]) == 0
    told = capsys.readouterr().err
    assert "wrote 2 runs with 6 points" in told
    assert "'loss@5' is called 'loss_40_5' there" in told
    assert "1 parameters were cut" in told
    assert main([*command, "-o", str(target), "--db", str(path)]) == 0
    assert "wrote 0 runs" in capsys.readouterr().err
    outer, inner = sorted(find("mlflow", target).runs, key=lambda run: run.started)
    assert (outer.name, outer.project, outer.notes) == ("outer", "demo", ("a remark",))
    assert "tag.a=true" in outer.tags
    assert (inner.parent, inner.status) == (outer.source_id, "FAILED")
    assert inner.config["deep.k"] == 2
    points = [point for point in inner.points() if point.name == "loss_40_5"]
    assert [point.step for point in points] == [0, 10, 20]
    assert json.dumps([point.value for point in points]) == json.dumps(VALUES)
    with Store.open(path, mode="ro") as store:
        times = store.history(store.run("inner").experiment_id, "loss@5").times
    assert [point.time for point in points] == pytest.approx(list(times), abs=1.1e-3)


def test_without_mlflow_the_install_is_named(path, capsys, monkeypatch):
    for module in ("mlflow", "mlflow.entities"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "research_eval.adapters.mlflow", raising=False)
    code = main(["runs", "export", "outer", "--format", "mlflow", "-o", "x.db", "--db", str(path)])
    assert code == 2
    assert "pip install mlflow-skinny" in capsys.readouterr().err

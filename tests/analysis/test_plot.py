"""`plot` draws a metric of several runs, says what it left out, and needs no display."""

import math
import subprocess
import sys

import numpy as np
import pytest

from research_eval.analysis import plot
from research_eval.analysis.statistics import t_interval
from research_eval.errors import ConfigError, FilterError, StoreError

PNG = b"\x89PNG\r\n"


def falling(scale, steps=(10, 20, 30), **others):
    """Return a curve of a metric with a slash in its name, and others."""
    return {"val/loss": {step: scale / step for step in steps}, **others}


def lines(figure):
    return [line for line in figure.axes[0].lines if line.get_marker() != "x"]


def crosses(figure):
    return [line for line in figure.axes[0].lines if line.get_marker() == "x"]


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def said(figure):
    return figure.axes[0].get_title(loc="left")


def test_records_names_and_tables_draw_the_same_curves(lab):
    lab.run("moe", curves=falling(1.0), experiment_name="first")
    lab.run("dense", curves=falling(2.0), experiment_name="second")
    records = lab.store.runs(metrics=())[::-1]
    table = lab.store.frame()[::-1]
    ways = (records, ["first", "run0001"], table, table.reset_index())
    for figure in (plot(way, "val/loss", db=lab.path) for way in ways):
        assert [line.get_ydata().tolist() for line in lines(figure)] == [
            [0.1, 0.05, pytest.approx(1 / 30)],
            [0.2, 0.1, pytest.approx(2 / 30)],
        ]
        assert lines(figure)[0].get_xdata().tolist() == [10, 20, 30]
        assert sorted(texts(figure)) == ["first", "second"]
        assert figure.axes[0].get_ylabel() == "val/loss"
    assert len(lines(plot(records[0], "val/loss", db=lab.path))) == 1
    assert len(lines(plot("first", "val/loss", db=lab.path))) == 1


def test_the_default_store_is_that_of_the_commands(lab, monkeypatch):
    lab.run(curves=falling(1.0))
    monkeypatch.setenv("RESEARCH_EVAL_DB", str(lab.path))
    assert len(lines(plot("last", "val/loss"))) == 1


def test_groups_are_means_with_the_t_interval_and_their_n(lab):
    scales = (1.0, 2.0, 4.0)
    lab.seeds("moe", scales, curves=falling(1.0))
    for scale in scales:
        lab.run("dense", curves=falling(scale))
    figure = plot(lab.store.runs(), "val/loss", group_by="model_type", db=lab.path)
    assert set(texts(figure)) == {"dense (n = 3)", "moe (n = 3)"}
    dense = lines(figure)[0]
    assert dense.get_ydata()[0] == pytest.approx(np.mean(scales) / 10)
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    at_first = band[band[:, 0] == 10, 1]
    low, high = t_interval(np.array(scales) / 10)
    assert at_first.min() == pytest.approx(low)
    assert at_first.max() == pytest.approx(high)
    assert "95 % t-interval" in said(figure)


def test_a_group_says_where_runs_ended_early_and_takes_any_field(lab):
    lab.run("moe", curves=falling(1.0), config={"model_params": {"top_k": 2}})
    lab.run("moe", curves=falling(1.0, steps=(10,)), config={"model_params": {"top_k": 2}})
    lab.run("moe", curves=falling(1.0))
    by = "model_type, model_params.top_k"
    figure = plot(lab.store.runs(), "val/loss", group_by=by, db=lab.path)
    assert set(texts(figure)) == {"moe, 2 (n = 1 to 2)", "moe, none (n = 1)"}


def test_units_shares_and_scales(lab):
    noisy = {0: {10: 0.2}, 1: {10: 1.0}, 2: {10: 0.9}}
    for seed, curve in noisy.items():
        lab.run("moe", seed=seed, curves={"val_f1": curve, "val_loss": {10: 900.0, 20: 1.0}})
    runs = lab.store.runs()
    loss = plot(runs, "val_loss", db=lab.path).axes[0]
    assert loss.get_ylabel() == "val_loss (nats)"
    assert loss.get_yscale() == "log"
    assert plot(runs, "val_loss", db=lab.path, log=False).axes[0].get_yscale() == "linear"
    share = plot(runs, "val_f1", group_by="model_type", db=lab.path).axes[0]
    assert share.get_ylim()[1] <= 1.02
    assert share.get_yscale() == "linear"


def test_values_below_zero_have_no_logarithmic_axis(lab):
    lab.run(curves={"val/loss": {10: 900.0, 20: -1.0}})
    assert plot("last", "val/loss", db=lab.path).axes[0].get_yscale() == "linear"


def test_values_that_are_not_finite_are_crosses_and_counted(lab):
    lab.run(curves={"val/loss": {10: 1.0, 20: math.nan, 30: math.inf, 40: 0.5}})
    lab.run(curves={"val/loss": {10: math.nan}})
    figure = plot(lab.store.runs(), "val/loss", db=lab.path)
    assert sorted(x for line in crosses(figure) for x in line.get_xdata()) == [10, 20, 30]
    assert "3 points NaN or infinite; 1 run never finite" in said(figure)
    (line,) = lines(figure)
    assert line.get_ydata().tolist() == [1.0, 0.5]
    grouped = plot(lab.store.runs(), "val/loss", group_by="model_type", db=lab.path)
    assert "never finite" in said(grouped)
    assert texts(grouped) == ["moe (n = 1)"]
    none = plot(lab.store.runs()[0], "val/loss", db=lab.path)
    assert not lines(none)
    assert none._repr_png_()[0].startswith(PNG)


def test_runs_without_the_metric_are_counted(lab):
    lab.run(curves=falling(1.0))
    lab.run()
    assert "1 of 2 runs without val/loss" in said(plot(lab.store.runs(), "val/loss", db=lab.path))


def test_a_long_curve_shows_a_single_high_step(lab):
    steps = range(5000)
    lab.run(curves={"val/loss": {step: 9.0 if step == 2345 else 1.0 for step in steps}})
    figure = plot("last", "val/loss", db=lab.path)
    (line,) = lines(figure)
    assert len(line.get_xdata()) <= 400
    assert figure.axes[0].collections[0].get_paths()[0].vertices[:, 1].max() == 9.0
    assert "mean of 13 steps" in said(figure)
    grouped = plot("last", "val/loss", group_by="model_type", db=lab.path)
    assert "of long curves the mean of 13 steps" in said(grouped)


def test_many_runs_take_the_colour_of_their_architecture(lab):
    for arm in ("moe", "dense"):
        lab.seeds(arm, [0.5] * 4, curves=falling(1.0))
    lab.run("moe", curves=falling(1.0, steps=(10,)))
    oldest_first = list(lab.store.frame().index)[::-1]
    figure = plot(oldest_first, "val/loss", db=lab.path)
    assert len({line.get_color() for line in lines(figure)}) == 2
    assert {text.get_text(): text.xy[0] for text in figure.axes[0].texts} == {
        "moe (5)": 30,
        "dense (4)": 30,
    }
    assert "9 runs" in said(figure)


def test_a_notebook_shows_it_whatever_names_are(lab):
    name = "$x^2$ </script> \U0001f642 " * 30
    lab.run(curves=falling(1.0), experiment_name=name)
    lab.run(curves=falling(1.0), experiment_name=name)
    figure = plot(lab.store.runs(), "val/loss", db=lab.path)
    assert [text[-8:] for text in sorted(texts(figure))] == [" run0000", " run0001"]
    image, size = figure._repr_png_()
    assert image.startswith(PNG)
    assert size == {"width": 700, "height": 400}


@pytest.mark.parametrize(
    ("runs", "metric", "group_by", "error", "told"),
    [
        ([], "val/loss", None, ConfigError, "there are no runs to plot"),
        ([7], "val/loss", None, ConfigError, "a run is a RunRecord or its name, not int"),
        (["last"], "val/los", None, ConfigError, "did you mean 'val/loss'"),
        (["nobody"], "val/loss", None, StoreError, "no run is called 'nobody'"),
        (["last"], "val/loss", "model_typ", FilterError, "did you mean 'model_type'"),
        (["last"], "val/loss", "model_params.topk", ConfigError, "'model_params.top_k'"),
    ],
)
def test_mistakes_are_one_clear_error(lab, runs, metric, group_by, error, told):
    lab.run(curves=falling(1.0), config={"model_params": {"top_k": 2}})
    with pytest.raises(error, match=told):
        plot(runs, metric, group_by=group_by, db=lab.path)


def test_tables_and_groups_that_cannot_be_drawn_are_said(lab):
    lab.seeds("moe", range(13), curves=falling(1.0))
    table = lab.store.frame()
    with pytest.raises(ConfigError, match="experiment_id"):
        plot(table.reset_index(drop=True), "val/loss", db=lab.path)
    with pytest.raises(ConfigError, match="no runs"):
        plot(table[:0], "val/loss", db=lab.path)
    with pytest.raises(ConfigError, match="13 groups"):
        plot(table, "val/loss", group_by="seed", db=lab.path)


def test_it_loads_neither_torch_nor_pyplot(lab):
    lab.run(curves=falling(1.0))
    code = (
        "import sys\nfrom research_eval.analysis import plot\n"
        f"plot('last', 'val/loss', db={str(lab.path)!r})._repr_png_()\n"
        "assert not {'torch', 'matplotlib.pyplot', 'tkinter'} & set(sys.modules)"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr

"""Every output on evidence that has little to say: a smaller table or a reason, never a crash."""

import json

import numpy as np
import pytest

from research_eval.analysis.output import NothingToShowError, find_outputs


def one_run(lab):
    lab.run("moe", 0.5)


def ties(lab):
    for arm in ("dense", "moe"):
        for top_k in (1, 2, 4) * 8:
            config = {"model_params": {"top_k": top_k}}
            curves = {"val_f1": {10: 0.5, 20: 0.5}}
            metrics = {"param_count": 10, "total_training_time_seconds": 0.0}
            lab.run(arm, 0.5, config=config, curves=curves, metrics=metrics)


def nan_metrics(lab):
    metrics = {"param_count": np.nan, "flops_per_token": np.inf, "peak_memory_mb": 0.0}
    curves = {"val_f1": {10: np.nan, 20: np.inf}, "val_load_entropy_layer0": {10: np.nan}}
    arrays = [("load_share", 0, 10, np.array([np.nan, np.nan]))]
    for number in range(3):
        config = {"model_params": {"top_k": number}}
        lab.run("moe", np.nan, config=config, metrics=metrics, curves=curves, arrays=arrays)
        lab.run("dense", 0.5, config=config, metrics=metrics, curves=curves, arrays=arrays)


def only_failed(lab):
    for status in ("FAILED", "DIVERGED", "COLLAPSED", "PRUNED", "INTERRUPTED", "RUNNING"):
        lab.run("moe", None, status=status)


def old_configurations(lab):
    told = {"full_config_json": "{}", "config_schema_json": None, "config_hash": None}
    for number in range(3):
        lab.run("gone", 0.5 + number / 10, batch_size=None, hardware=None, **told)
    lab.store.save_study("old", json.dumps({}))
    lab.run("gone", 0.7, study="old", trial=0, **told)
    lab.run("moe", 0.6, config={"model_params": {"top_k": {"was": "a mapping"}, "odd": None}})
    lab.run("moe", 0.7, config={"model_params": {"top_k": [1, 2]}})


def untyped_runs(lab):
    told = {"model_type": None, "full_config_json": '{"lr": 0.1}', "run_type": "track"}
    lab.run("x", 0.5, **told)
    lab.run("x", 0.6, **told)


SCENES = (one_run, ties, nan_metrics, only_failed, old_configurations, untyped_runs)


def told(make, *arguments):
    """Return what a function returns, or the reason why there is nothing to show."""
    try:
        return make(*arguments)
    except NothingToShowError as reason:
        return str(reason)


@pytest.mark.parametrize("scene", SCENES)
def test_every_output_gives_something_to_read_or_a_reason(lab, drawn, scene):
    scene(lab)
    evidence = lab.evidence()
    for output in find_outputs():
        frame = told(output.frame, evidence)
        assert len(frame), output.name
        if isinstance(frame, str):
            continue
        assert all(isinstance(said, str) and said for said in output.sentences(frame, evidence))
        if output.draw is not None:
            figure = told(drawn, output, frame, evidence)
            assert figure if isinstance(figure, str) else figure.axes

"""Quality by group, from the predictions of evaluations."""

import json
from itertools import count

import pandas as pd
import pytest

from research_eval.analysis.output import NothingToShowError
from research_eval.analysis.outputs import quality, routing_controls
from research_eval.breakdown import COLUMNS
from research_eval.records import RunStatus
from research_eval.testing.runs import new_run

(OUTPUT,) = quality.OUTPUTS
(CONTROLS,) = routing_controls.OUTPUTS


def predictions(right, **columns):
    """Return a table: two labels by turns, of which those in `right` are predicted well."""
    labels = [("even", "odd")[row % 2] for row in range(len(right))]
    guesses = [
        label if ok else ("odd", "even")[row % 2]
        for row, (label, ok) in enumerate(zip(labels, right, strict=True))
    ]
    names = ["even", "odd"]
    table = {
        "id": range(len(right)),
        "label": pd.Categorical(labels, names),
        "prediction": pd.Categorical(guesses, names),
        "probability": 0.9,
        "loss": 0.5,
        "targets": 1,
        "domain": pd.Categorical([None] * len(right)),
        "length": 8,
        "experts": None,
    }
    return pd.DataFrame(table | columns)[list(COLUMNS)]


@pytest.fixture
def evaluate(lab):
    """Return a function that records an evaluation with its predictions."""

    counter = count()

    def record(run, table, *, split="test", routing="learned", weights=None, **metrics):
        asked = {"evaluated": run, "split": split, "routing": routing, "weights": weights}
        fields = {"run_type": "evaluation", "parent": run, "model_type": "moe", "project": "lab"}
        named = {
            "dataset_name": "parity",
            "full_config_json": json.dumps(asked),
            "data_hash": "data",
        }
        writer = lab.store.start(new_run(f"evaluation{next(counter)}", **fields, **named))
        path = writer.folder / "predictions.parquet"
        table.to_parquet(path)
        writer.artifact("predictions", path)
        writer.log({"eval_rows": float(len(table)), **metrics}, step=0)
        writer.finish(RunStatus.COMPLETED)

    return record


def test_each_group_has_its_score_over_the_evaluated_seeds(lab, evaluate, drawn):
    first, second = lab.seeds("moe", [0.9, 0.8])
    evaluate(first, predictions([True] * 8))
    evaluate(second, predictions([True, False, True, True, True, True, True, True]))
    evidence = lab.evidence()
    frame = OUTPUT.frame(evidence)
    recall = frame[(frame["score"] == "recall") & (frame["name"] == "odd")].iloc[0]
    assert recall[["by", "rows", "runs"]].tolist() == ["label", 4, 2]
    assert recall["value"] == pytest.approx((1 + 0.75) / 2)
    assert recall["low"] < recall["value"] < recall["high"]
    told = OUTPUT.sentences(frame, evidence)
    assert told[0] == "Evaluated on the test split."
    assert "the weakest is odd (4 rows) for moe" in told[1]
    drawn(OUTPUT, frame, evidence)


def test_a_legend_of_long_names_stays_in_the_picture(lab, evaluate, drawn):
    for name in ("a", "b", "c"):
        evaluate(lab.run(f"./plugins/{name * 90}.py:Net", 0.9), predictions([True] * 8))
    evidence = lab.evidence()
    figure = drawn(OUTPUT, OUTPUT.frame(evidence), evidence)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_domains_and_lengths_are_groups_too(lab, evaluate, drawn):
    run = lab.run("moe", 0.9)
    domain = pd.Categorical(["news", "news", "fiction", "fiction"] * 2)
    evaluate(run, predictions([True] * 8, domain=domain, length=[4, 5, 6, 7] * 2))
    evidence = lab.evidence()
    frame = OUTPUT.frame(evidence)
    assert list(dict.fromkeys(frame["by"])) == ["label", "domain", "length"]
    assert "4 tokens" in frame.loc[frame["by"] == "length", "name"].tolist()
    assert len(drawn(OUTPUT, frame, evidence).axes) == 3


def test_language_models_are_told_by_their_loss(lab, evaluate, drawn):
    run = lab.run("moe", None, metrics={"final_val_loss": 1.0})
    none = pd.Categorical([None] * 4)
    domain = pd.Categorical(["news", "news", "fiction", "fiction"])
    loss = [1.0, 2.0, 3.0, 4.0]
    table = predictions([True] * 4, label=none, prediction=none, domain=domain, loss=loss)
    evaluate(run, table)
    evidence = lab.evidence(goal="final_val_loss")
    frame = OUTPUT.frame(evidence)
    assert frame.set_index(["name", "score"])["value"]["fiction", "loss"] == 3.5
    assert (
        "the weakest is fiction (2 rows) for moe (loss 3.5)" in OUTPUT.sentences(frame, evidence)[1]
    )
    drawn(OUTPUT, frame, evidence)


def test_all_are_compared_on_the_split_that_most_were_evaluated_on(lab, evaluate):
    moe, dense, goe = (lab.run(arm, 0.9) for arm in ("moe", "dense", "goe"))
    evaluate(moe, predictions([True] * 4), split="test")
    for run in (moe, dense):
        evaluate(run, predictions([True] * 4), split="validation")
    evidence = lab.evidence()
    frame = OUTPUT.frame(evidence)
    assert set(frame["split"]) == {"validation"}
    assert set(frame["arm"]) == {"moe", "dense"}
    assert (
        f"goe has no predictions of that: research-eval evaluate {goe} --split validation."
        in OUTPUT.sentences(frame, evidence)
    )


def test_architectures_count_and_not_their_runs(lab, evaluate):
    many, dense = lab.seeds("moe", [0.9, 0.8, 0.7]), lab.run("dense", 0.9)
    for run in many:
        evaluate(run, predictions([True] * 4), split="test")
    for run in (many[0], dense):
        evaluate(run, predictions([True] * 4), split="validation")
    assert set(OUTPUT.frame(lab.evidence())["arm"]) == {"dense", "moe"}


def test_of_repeated_evaluations_the_newest_counts(lab, evaluate):
    run = lab.run("moe", 0.9)
    for right in (True, False):
        evaluate(run, predictions([right] * 4))
    frame = OUTPUT.frame(lab.evidence())
    assert frame.loc[frame["score"] == "recall", "value"].tolist() == [0.0, 0.0]
    assert set(frame["runs"]) == {1}


def test_other_weights_of_a_run_are_another_evaluation(lab, evaluate):
    runs = {
        select: lab.run(arm, 0.9, config={"training_params": {"select": select}})
        for arm, select in (("moe", "best"), ("dense", "last"))
    }
    for select, run in runs.items():
        evaluate(run, predictions([True] * 4), weights=select)
    evaluate(runs["best"], predictions([False] * 4), weights="last")
    frame = OUTPUT.frame(lab.evidence())
    assert set(frame.loc[frame["score"] == "recall", "value"]) == {1.0}
    assert set(frame["arm"]) == {"moe", "dense"}
    assert set(frame["weights"]) == {"selected"}


def test_weights_that_were_not_selected_are_named(lab, evaluate):
    run, goe = lab.run("moe", 0.9), lab.run("goe", 0.9)
    evaluate(run, predictions([True] * 4), weights="last")
    evidence = lab.evidence()
    told = OUTPUT.sentences(OUTPUT.frame(evidence), evidence)
    assert told[0] == "Evaluated on the test split with the last weights."
    assert told[-1].endswith(f"research-eval evaluate {goe} --split test --weights last.")


def test_predictions_of_one_architecture_that_are_gone_are_told(lab, evaluate):
    for arm in ("moe", "dense"):
        evaluate(lab.run(arm, 0.9), predictions([True] * 4))
    evidence = lab.evidence()
    lost = evidence.artifacts(evidence.evaluations[0].experiment_id)[0][1]
    lost.unlink()
    frame = OUTPUT.frame(evidence)
    assert set(frame["arm"]) == {"dense"}
    told = " ".join(OUTPUT.sentences(frame, evidence))
    assert f"An evaluation is left out: predictions {lost} cannot be read" in told
    assert "moe has no predictions of that" in told


def test_without_an_evaluation_the_command_is_told(lab):
    run = lab.run("moe", 0.9)
    with pytest.raises(NothingToShowError, match=f"research-eval evaluate {run} --split test"):
        OUTPUT.frame(lab.evidence())


def test_predictions_that_are_gone_are_a_reason(lab, evaluate):
    run = lab.run("moe", 0.9)
    evaluate(run, predictions([True] * 4))
    evidence = lab.evidence()
    (path,) = evidence.artifact_dir.rglob("*.parquet")
    path.write_bytes(b"no parquet")
    with pytest.raises(NothingToShowError, match="cannot be read"):
        OUTPUT.frame(evidence)
    path.unlink()
    with pytest.raises(NothingToShowError, match="cannot be read"):
        OUTPUT.frame(evidence)


def cost(f1, low, high):
    names = ("eval_routing_cost_f1", "eval_routing_cost_f1_low", "eval_routing_cost_f1_high")
    return dict(zip(names, (f1, low, high), strict=True))


@pytest.mark.parametrize(
    ("measured", "told"),
    [
        (cost(0.2, 0.15, 0.25), "costs 0.2 F1 (0.15 to 0.25); {}: what it learned matters"),
        (cost(-0.2, -0.25, -0.15), "gains 0.2 F1 (0.15 to 0.25); {}: what it learned does harm"),
        (cost(0.1, -0.1, 0.3), "shows no change in F1 (0.1, -0.1 to 0.3); {}: what it learned is"),
    ],
)
def test_replaced_routing_says_what_the_router_is_worth(lab, evaluate, measured, told):
    run = lab.run("moe", 0.9)
    evaluate(run, predictions([True] * 4), routing="random", **measured)
    evidence = lab.evidence()
    (said,) = CONTROLS.sentences(CONTROLS.frame(evidence), evidence)
    told = told.format("95 % intervals over 4 rows")
    assert said.startswith(f"moe {run} on the test split: random routing {told}")
    with pytest.raises(NothingToShowError):
        OUTPUT.frame(evidence)  # what a control predicts is no quality


def test_a_control_that_was_measured_again_counts_with_the_newest(lab, evaluate):
    run = lab.run("moe", 0.9)
    for measured in (cost(0.2, 0.15, 0.25), cost(0.3, 0.25, 0.35)):
        evaluate(run, predictions([True] * 4), routing="random", **measured)
    assert CONTROLS.frame(lab.evidence())["cost"].tolist() == [0.3]


def test_no_replaced_routing_is_a_reason(lab):
    lab.run("moe", 0.9)
    with pytest.raises(NothingToShowError, match="--routing random"):
        CONTROLS.frame(lab.evidence())

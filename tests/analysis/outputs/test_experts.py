"""Heat maps and curves of what experts did."""

import numpy as np
import pytest

from research_eval.analysis import heatmaps
from research_eval.analysis.output import NothingToShowError
from research_eval.analysis.outputs import expert_measures, experts

BY_NAME = {output.name: output for output in experts.OUTPUTS}
(MEASURES,) = expert_measures.OUTPUTS


def load(step, layer, shares):
    return ("load_share", layer, step, np.array(shares))


def test_load_is_told_over_time_as_a_multiple_of_an_even_share(lab, drawn):
    arrays = [load(10, 0, [0.5, 0.5]), load(20, 0, [0.99, 0.01]), load(20, 1, [0.5, 0.5])]
    run = lab.run("moe", 0.9, arrays=arrays)
    lab.run("moe", 0.5, seed=1, arrays=[load(10, 0, [0.1, 0.9])])
    evidence, output = lab.evidence(), BY_NAME["expert_load"]
    frame = output.frame(evidence)
    assert set(frame["run"]) == {run}
    cells = frame.set_index(["layer", "column", "row"])["value"]
    assert cells[0, 10, 0] == pytest.approx(1.0)
    assert cells[0, 20, 0] == pytest.approx(1.98)
    told = output.sentences(frame, evidence)
    assert f"moe {run}" in told[0]
    assert told[-1].startswith("moe: 1 of 4 experts have less than a tenth")
    figure = drawn(output, frame, evidence)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["", ""]  # titles stand left
    assert [axes.get_title(loc="left") for axes in figure.axes[:2]] == ["layer 0", "layer 1"]


def test_of_many_layers_and_evaluations_some_are_drawn_and_it_is_said(lab, drawn):
    arrays = [load(step, layer, [0.5, 0.5]) for step in range(100) for layer in range(9)]
    lab.run("moe", 0.9, arrays=arrays)
    evidence, output = lab.evidence(), BY_NAME["expert_load"]
    frame = output.frame(evidence)
    steps = sorted(set(frame["column"]))
    assert (len(steps), steps[0], steps[-1]) == (experts.MAX_STEPS, 0, 99)
    assert "layers 0, 3, 5 and 8 of 9" in " ".join(output.sentences(frame, evidence))
    drawn(output, frame, evidence)


def test_the_last_coupling_is_shown(lab, drawn):
    first, last = np.zeros((3, 3)), np.arange(9.0).reshape(3, 3)
    lab.run("gnn_moe", 0.9, arrays=[("coupling", 0, 10, first), ("coupling", 0, 20, last)])
    evidence, output = lab.evidence(), BY_NAME["expert_coupling"]
    frame = output.frame(evidence)
    assert frame.set_index(["row", "column"])["value"][1, 2] == 5
    drawn(output, frame, evidence)


def test_groups_are_shares_of_what_each_group_was_served(lab, drawn):
    lab.run("moe", 0.9, arrays=[("by_group", 0, 10, np.array([[30, 10], [0, 0]]))])
    evidence, output = lab.evidence(), BY_NAME["expert_groups"]
    frame = output.frame(evidence)
    assert frame.sort_values(["row", "column"])["value"].tolist() == [0.75, 0.25, 0, 0]
    drawn(output, frame, evidence)


def test_steps_of_a_path_are_rows_of_one_map(lab, drawn):
    usage = [("path_usage", step, 10, np.array([0.1 * step, 0.9])) for step in range(3)]
    lab.run("goe", 0.9, arrays=[*usage, ("transitions", 0, 10, np.eye(2))])
    evidence = lab.evidence()
    frame = BY_NAME["expert_paths"].frame(evidence)
    assert frame.set_index(["row", "column"])["value"][3, 0] == pytest.approx(0.2)
    for name in ("expert_paths", "expert_transitions"):
        drawn(BY_NAME[name], BY_NAME[name].frame(evidence), evidence)


@pytest.mark.parametrize("output", [*experts.OUTPUTS, MEASURES], ids=lambda o: o.name)
def test_no_experts_are_a_reason(lab, output):
    lab.run("dense", 0.9)
    with pytest.raises(NothingToShowError, match="expert"):
        output.frame(lab.evidence())


def test_a_map_without_load_is_drawn(lab, drawn):
    lab.run("moe", 0.9, arrays=[load(step, 0, [0.0, 0.0]) for step in (10, 20)])
    evidence, output = lab.evidence(), BY_NAME["expert_load"]
    drawn(output, output.frame(evidence), evidence)


def test_a_single_evaluation_is_no_history(lab):
    curves = {"val_load_entropy_layer0": {10: 1.0}}
    lab.run("moe", 0.9, arrays=[load(10, 0, [0.5, 0.5])], curves=curves)
    evidence = lab.evidence()
    for output in (BY_NAME["expert_load"], MEASURES):
        with pytest.raises(NothingToShowError, match="all points are of one step, 10"):
            output.draw(output.frame(evidence), evidence)


def test_a_step_is_named_once_on_the_axis(lab, drawn):
    lab.run("moe", 0.9, arrays=[load(step, 0, [0.5, 0.5]) for step in (10, 20)])
    lab.run("goe", 0.9, arrays=[load(10, 0, [0.5, 0.5])])
    evidence, output = lab.evidence(), BY_NAME["expert_load"]
    panels = drawn(output, output.frame(evidence), evidence).axes
    ticks = [[tick.get_text() for tick in panel.get_xticklabels()] for panel in panels[:2]]
    assert sorted([text for text in texts if text] for texts in ticks) == [["10"], ["10", "20"]]


def test_more_architectures_than_rows_are_said(lab, drawn):
    for number in range(heatmaps.MAX_ARMS + 1):
        arrays = [load(step, 0, [0.5, 0.5]) for step in (10, 20)]
        lab.run(f"arm{number}", 0.9, arrays=arrays)
    evidence, output = lab.evidence(), BY_NAME["expert_load"]
    frame = output.frame(evidence)
    assert "1 more architectures in the table only." in output.sentences(frame, evidence)
    drawn(output, frame, evidence)


def test_measures_are_read_by_layer(lab, drawn):
    curves = {
        "val_load_entropy_layer0": {10: 1.0, 20: 0.8},
        "val_load_entropy_layer1": {10: 0.9, 20: 0.6},
        "val_path_length": {10: 2.0},
        "train_drop_rate_layer0": {5: 0.1},
        "val_load_entropy_layerx": {10: 1.0},
    }
    lab.run("moe", 0.9, curves=curves)
    evidence = lab.evidence()
    frame = MEASURES.frame(evidence)
    found = frame.set_index(["measure", "layer", "step"])["value"]
    assert found["val_load_entropy", 1, 20] == 0.6
    assert found["val_path_length", -1, 10] == 2
    assert found["train_drop_rate", 0, 5] == 0.1
    assert len(found) == 6
    figure = drawn(MEASURES, frame, evidence)
    assert len(figure.axes) == 3


def test_specialisation_is_compared_with_chance(lab):
    curves = {f"val_specialisation_layer{layer}": {10: 0.1 + layer} for layer in (0, 1)}
    chance = {f"val_specialisation_chance_layer{layer}": {10: 0.5} for layer in (0, 1)}
    lab.run("moe", 0.9, curves=curves | chance)
    evidence = lab.evidence()
    (told,) = MEASURES.sentences(MEASURES.frame(evidence), evidence)
    assert "better than chance in layers 1 of 2" in told

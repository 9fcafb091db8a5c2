"""Names that are longer than a picture is wide."""

import numpy as np
from matplotlib.text import Text

from research_eval.analysis import style
from research_eval.analysis.output import find_outputs

LONG = [f"./plugins/{name * 90}.py:Net" for name in ("a", "b")]
DRAWN = (
    "seeds",
    "contrasts",
    "pareto_params",
    "budget_curve",
    "learning_curves",
    "expert_load",
    "expert_measures",
    "importance",
)


def test_a_long_name_keeps_both_ends():
    assert style.short("moe") == "moe"
    told = style.short(LONG[0])
    assert (told[:10], told[-8:], len(told)) == ("./plugins/", "a.py:Net", style.MAX_NAME)


def two_long_arms(lab):
    for place, arm in enumerate(LONG):
        costs = {"param_count": 10.0 + place}
        for trial in range(20):
            config = {"optimizer_params": {"lr": 0.001 * 1.1**trial}}
            lab.run(arm, 0.3 + 0.001 * trial, config=config, metrics=costs)
        for seed in range(3):
            curves = {"val_f1": {10: 0.2, 20: 0.3}, "val_load_entropy_layer0": {10: 0.2, 20: 0.3}}
            arrays = [("load_share", 0, step, np.array([0.5, 0.5])) for step in (10, 20)]
            score = 0.5 + 0.1 * place + 0.01 * seed
            lab.run(arm, score, seed, metrics=costs, curves=curves, arrays=arrays)
    return lab.evidence(candidate=LONG[0])


def test_it_neither_leaves_a_picture_nor_fills_it(lab, drawn):
    evidence = two_long_arms(lab)
    outputs = {output.name: output for output in find_outputs()}
    for name in DRAWN:
        figure = drawn(outputs[name], outputs[name].frame(evidence), evidence)
        figure.draw_without_rendering()  # at its own resolution, and not that of the file
        inside = figure.bbox.padded(1)
        texts = [text for text in figure.findobj(Text) if "…" in text.get_text()]
        assert texts, name
        for text in [*texts, figure.axes[0].xaxis.label]:
            box = text.get_window_extent()
            assert inside.contains(*box.min), (name, text)
            assert inside.contains(*box.max), (name, text)
        assert figure.axes[0].get_position().width > 0.25, name

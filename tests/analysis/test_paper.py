"""Tables and figures for a paper: legal, legible, and with the numbers of the report."""

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from research_eval.analysis import Request, analyze, style, words
from research_eval.analysis.output import find_outputs
from research_eval.analysis.paper import latex
from research_eval.analysis.paper.figures import figures
from research_eval.analysis.paper.tables import tables
from research_eval.analysis.section import work_out

DENSE, MOE = (0.790, 0.800, 0.795, 0.805, 0.798), (0.802, 0.812, 0.806, 0.816, 0.809)
WORSE = (0.70, 0.71, 0.72, 0.69, 0.70)
HOSTILE = 'a_b {c}\\d $e$ & 100% #1 ~ ^ <x> "q" -- | 🦉 é\u202e\n\\input{x} [1] *'
COMMANDS = {
    "begin", "end", "toprule", "midrule", "bottomrule", "multicolumn", "mathbf", "pm", "times",
    "mathrm", "textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater",
    "textbar", "ensuremath", "ldots",
}  # fmt: skip


def require_legal(table):
    """Assert what LaTeX would: braces, columns, escapes and commands that booktabs or it has."""
    lines = [line for line in table.splitlines() if not line.startswith("%")]
    assert lines[0].startswith(r"\begin{tabular}{")
    assert lines[-1] == r"\end{tabular}"
    assert [line for line in lines if "rule" in line] == [r"\toprule", r"\midrule", r"\bottomrule"]
    columns = len(re.search(r"\{([lr]+)\}$", lines[0])[1])
    for line in lines[1:-1]:
        if line.endswith("rule"):
            continue
        assert line.endswith(r" \\")
        row = line.removesuffix(r" \\")
        assert row[0] not in "[*"  # would be an argument of the row before
        assert set(re.findall(r"\\([A-Za-z]+)", row)) <= COMMANDS
        plain = re.sub(r"\\([A-Za-z]+|[{}$&#%_,])", "", row)
        assert plain.count("$") % 2 == 0
        assert not set(re.sub(r"\$[^$]*\$", "", plain)) & set("\\#%~^_<>|")
        depth = np.cumsum([{"{": 1, "}": -1}.get(c, 0) for c in plain])
        assert not len(depth) or (depth.min() >= 0 and depth[-1] == 0)
        if not row.startswith(r"\multicolumn"):
            assert plain.count("&") == columns - 1


def made(lab, **request):
    evidence = lab.evidence(**request)
    named = ("seeds", "contrasts", "matched", "ablation")
    sections = [work_out(output, evidence) for output in find_outputs() if output.name in named]
    return sections, tables(sections, evidence)


def rows(table):
    """Return the cells of a table by what its rows are called."""
    lines = [line for line in table.splitlines() if " & " in line][1:]
    cells = [line.removesuffix(r" \\").split(" & ") for line in lines]
    return {row[0]: row[1:] for row in cells}


# ------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("name", [HOSTILE, "*first", "[first]", "--", "naïve router", "☃"])
def test_names_are_text_in_tables_that_latex_takes(lab, name):
    for arm, scores in ((name, MOE), ("dense", DENSE)):
        lab.seeds(arm, scores, dataset_name=name, metrics={"active_param_count": 1e5})
    _, found = made(lab, candidate=name)
    for table in found.values():
        if table is not None:
            require_legal(table)


def test_the_checker_of_tables_knows_what_is_illegal():
    good = latex.tabular(["a"], "lr", ["", "b"], [["c", "$1$"]])
    require_legal(good)
    for old, new in (("c &", "c & d &"), ("c &", "c_d &"), ("$1$", "$1"), ("c &", "{c &")):
        with pytest.raises(AssertionError):
            require_legal(good.replace(old, new))


def test_characters_that_latex_lacks_are_told_by_number():
    assert latex.text("a_1 & 50%") == r"a\_1 \& 50\%"
    assert latex.text("é ☃ a--b") == "é U+2603 a-{}-b"
    assert latex.text("nai\u0308ve ?`") == "naïve ?{`}"
    assert latex.maths("1,234 ± 1.5e-05") == r"$1{,}234 \pm 1.5 \times 10^{-5}$"


def test_tables_have_the_numbers_of_the_report(lab, tmp_path):
    for arm, scores in (("dense", DENSE), ("moe", MOE), ("goe", WORSE)):
        tested = {"active_param_count": 167234.0}
        lab.seeds(arm, scores, metrics=tested)
    request = Request(candidate="moe")
    (report,) = analyze(lab.store, request, folder=tmp_path, paper_width=3.25)
    results = rows((tmp_path / "parity_results.tex").read_text())
    seeds = pd.read_csv(tmp_path / "parity_seeds.csv")
    for row in seeds[seeds["is_chosen"]].to_dict("records"):
        told = words.plus_minus(row["mean"], (row["high"] - row["low"]) / 2)
        cell = results[row["arm"]][0].replace(r" \pm ", " ± ").strip("$")
        assert cell in (told, rf"\mathbf{{{told}}}")
        assert results[row["arm"]][1:] == [str(row["n_ok"]), r"167.2\,k"]
    page = (tmp_path / "parity_report.html").read_text()
    contrasts = rows((tmp_path / "parity_contrasts.tex").read_text())
    assert len(contrasts) == len(report.section("contrasts").table) == 2
    for cells in contrasts.values():
        assert cells[0].strip("$").replace(r" \pm ", " ± ").lstrip("-") in page
    table = pd.read_csv(tmp_path / "parity_contrasts.csv").iloc[0]
    first = contrasts[f"{table['first']} vs {table['second']}"]
    assert first[1].strip("$") == words.interval(100 * table["low"], 100 * table["high"])
    assert first[3] == table["verdict"]


BOLD = {
    "better than all": ({"moe": MOE, "dense": DENSE, "goe": WORSE}, {"candidate": "moe"}, "moe"),
    "no candidate": ({"moe": MOE, "dense": DENSE}, {}, None),
    "open against one": ({"moe": MOE, "dense": MOE, "goe": WORSE}, {"candidate": "moe"}, None),
    "the only baseline": ({"moe": WORSE, "dense": DENSE}, {"candidate": "moe"}, "dense"),
    "a baseline among others": (
        {"moe": DENSE, "dense": MOE, "goe": WORSE},
        {"candidate": "moe"},
        None,
    ),
    "better than the baseline that was named": (
        {"moe": DENSE, "dense": MOE, "goe": WORSE},
        {"candidate": "moe", "baselines": ("goe",)},
        "moe",
    ),
    "one seed": ({"moe": MOE[:1], "dense": WORSE[:1]}, {"candidate": "moe"}, None),
    "the same within the margin": (
        {"moe": MOE, "dense": DENSE},
        {"candidate": "moe", "margin": 0.1},
        None,
    ),
}


@pytest.mark.parametrize(("arms", "request_", "bold"), BOLD.values(), ids=BOLD.keys())
def test_bold_is_what_every_planned_contrast_supports(lab, arms, request_, bold):
    for arm, scores in arms.items():
        lab.seeds(arm, scores)
    _, found = made(lab, **request_)
    told = rows(found["parity_results.tex"])
    assert [arm for arm, cells in told.items() if "mathbf" in cells[0]] == ([bold] if bold else [])
    assert ("nothing is bold" in found["parity_results.tex"]) == ("candidate" not in request_)


def test_of_losses_the_lowest_is_bold(lab):
    for arm, scores in (("dense", (2.0, 2.1, 2.05)), ("moe", (1.0, 1.1, 1.05))):
        for seed, loss in enumerate(scores):
            lab.run(arm, None, seed, metrics={"final_val_loss": loss})
    _, found = made(lab, candidate="dense")
    assert "mathbf" in rows(found["parity_results.tex"])["moe"][0]


def test_one_arm_has_results_and_no_contrasts(lab):
    lab.seeds("moe", MOE)
    _, found = made(lab)
    assert rows(found["parity_results.tex"]) == {"moe": [r"$0.8090 \pm 0.0067$", "5"]}
    assert found["parity_contrasts.tex"] is None


def test_an_arm_without_a_score_is_a_row_and_nothing_is_bold(lab):
    lab.seeds("moe", MOE)
    lab.run("dense", status="FAILED")
    _, found = made(lab, candidate="moe")
    told = rows(found["parity_results.tex"])
    assert told["dense"][0] == "--"
    assert "mathbf" not in found["parity_results.tex"]
    assert "no verdict, since no run of dense came to a score" in found["parity_contrasts.tex"]


def test_seeds_that_are_all_equal_have_no_interval_of_rounding_errors(lab):
    lab.seeds("moe", (0.7, 0.7, 0.7))
    _, found = made(lab)
    assert rows(found["parity_results.tex"]) == {"moe": ["$0.7$", "3"]}


def test_what_a_mean_does_not_say_by_itself_stands_above_the_table(lab):
    lab.seeds("moe", MOE[:2], metrics={"final_test_f1": 0.8})
    lab.run("moe", MOE[2], 2)
    lab.seeds("dense", DENSE[:3], metrics={"final_test_f1": 0.7})
    lab.run("dense", seed=3, status="FAILED")
    for trial, score in enumerate(WORSE[:2]):
        lab.run("goe", score, config={"trial": trial}, metrics={"final_test_f1": 0.6})
    _, found = made(lab, failed_as="worst")
    notes = [each[2:] for each in found["parity_results.tex"].splitlines() if each[0] == "%"]
    assert notes[2:] == [
        "dense: 1 of n failed, with the worst score of all in the mean",
        "dense: 3 of n have a test score",
        "goe: chosen among 2 configurations by these very scores, which flatter it",
        "moe: 2 of n have a test score",
    ]


def test_what_was_matched_is_a_table_of_its_own(lab):
    match = {"axis": "flops", "target": 1e6, "reached": 1e6, "error": 0.0}
    equal = {"origin": {"kind": "study", "match": match}}
    for arm, scores in (("dense", DENSE), ("moe", MOE)):
        lab.seeds(arm, scores, config=equal, metrics={"flops_per_token": 1e6, "param_count": 5.0})
    lab.seeds("goe", WORSE)
    _, found = made(lab, candidate="moe")
    table = found["parity_matched.tex"]
    require_legal(table)
    assert set(rows(table)) == {"moe", "dense"}
    assert "mathbf" in rows(table)["moe"][0]
    assert "at 1 M FLOPs per token, moe over dense: equal in parameters (1.000) and" in table


# ------------------------------------------------------------------------------ figures


SHOWN = (
    "seeds", "contrasts", "budget_curve", "pareto_params", "learning_curves", "expert_measures"
)  # fmt: skip


def rich(lab, names=("dense", "moe")):
    """Record two arms with several configurations, costs and curves; return what they show."""
    curve = {step: 0.5 + step / 1000 for step in range(0, 300, 50)}
    curves = dict.fromkeys(("val_f1", "val_load_entropy_layer0", "val_dead_experts_layer0"), curve)
    for arm, scores, size in zip(names, (DENSE, MOE), (1e5, 3e5), strict=True):
        costs = {"param_count": size, "total_training_time_seconds": 10.0}
        lab.seeds(arm, scores, metrics=costs, curves=curves)
        for lr in (0.1, 0.2):
            config = {"optimizer_params": {"lr": lr}}
            lab.run(arm, 0.5 + lr, config=config, metrics=costs | {"param_count": size * lr})
    evidence = lab.evidence(candidate=names[1])
    outputs = [output for output in find_outputs() if output.name in SHOWN]
    return [work_out(output, evidence) for output in outputs], evidence


def test_figures_are_as_wide_as_asked_with_fonts_inside_and_nobody_named(lab):
    sections, evidence = rich(lab)
    found = figures(sections, evidence, 3.25)
    assert len(found) == len(SHOWN)
    for pdf in found.values():
        assert pdf.startswith(b"%PDF-")
        (box,) = re.findall(rb"/MediaBox \[ *0 0 ([\d.]+) ([\d.]+) *\]", pdf)
        assert float(box[0]) == pytest.approx(3.25 * 72, abs=0.1)
        assert b"/FontFile2" in pdf
        assert b"/Type3" not in pdf
        assert not re.search(rb"CreationDate|ModDate|Producer|Creator|Author", pdf)


LONG = ("a_baseline_with_a_very_long_name_indeed", "./my_plug_ins/router.py:MyOwnLongRouter")


@pytest.mark.parametrize("width", [3.0, 3.25, 6.75])
def test_nothing_is_cut_off_and_letters_are_legible(lab, width, monkeypatch):
    drawn = []
    to_pdf = style.to_pdf
    monkeypatch.setattr(style, "to_pdf", lambda made: drawn.append(made) or to_pdf(made))
    sections, evidence = rich(lab, LONG)
    with style.house(paper_width=width):
        figures(sections, evidence, width)
        assert len(drawn) == len(SHOWN)
        for made_ in drawn:
            box, (wide, high) = made_.get_tightbbox(), made_.get_size_inches()
            assert wide == width
            assert box.x0 >= -0.02
            assert box.x1 <= wide + 0.02
            assert box.y0 >= -0.02
            assert box.y1 <= high + 0.02
            sizes = {text.get_fontsize() for text in made_.findobj(Text) if text.get_text()}
            assert min(sizes) >= 7
            assert max(sizes) <= 8
            for axes in made_.axes:
                assert axes.get_window_extent().width > 0.25 * made_.bbox.width / len(made_.axes)
            assert len(made_.axes) > 1 or not made_.axes[0].get_title(loc="left")


def test_of_one_trial_there_is_a_point_and_its_budget_stands_above_all(lab):
    lab.run("dense", 0.7)
    for trial in range(3):
        lab.run("moe", 0.6 + trial / 10, config={"trial": trial})
    evidence = lab.evidence()
    (output,) = (output for output in find_outputs() if output.name == "budget_curve")
    with style.house(paper_width=3.25):
        made_ = output.draw(output.frame(evidence), evidence)
        made_.draw_without_rendering()
    axes = made_.axes[0]
    assert any(len(line.get_xdata()) == 1 and line.get_marker() == "o" for line in axes.lines)
    (told,) = (text for text in axes.texts if text.get_text() == "common budget: 1")
    box, inside = told.get_window_extent(), axes.get_window_extent()
    assert box.y0 >= inside.y1
    assert box.x0 >= inside.x0


def test_a_map_of_nothing_but_0_is_no_picture(lab):
    for seed in range(2):
        lab.run("goe", 0.5, seed, arrays=[("transitions", 0, 10, np.zeros((4, 4)))])
    evidence = lab.evidence()
    (output,) = (output for output in find_outputs() if output.name == "expert_transitions")
    section = work_out(output, evidence)
    assert section.table is not None
    assert (section.picture, section.notes) == (None, ("every value is 0",))


def test_a_drawing_on_paper_leaves_no_trace_in_the_pictures_of_the_report(lab):
    sections, evidence = rich(lab)
    (before,) = (s.picture for s in sections if s.output.name == "seeds")
    figures(sections, evidence, 3.25)
    (output,) = (output for output in find_outputs() if output.name == "seeds")
    assert work_out(output, evidence).picture == before

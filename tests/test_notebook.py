"""A notebook shows a run and a comparison as bounded tables that contain nothing but text."""

import json
from dataclasses import replace
from html.parser import HTMLParser

from research_eval.comparison import compare
from research_eval.notebook import MAX_CHARACTERS, MAX_COLUMNS, MAX_ROWS
from research_eval.records import RunStatus
from research_eval.testing.runs import ended_run

HOSTILE = "</script><img src=x onerror=alert(1)> \"'&$x^2$ \ud800 🙂"

SCHEMA = {
    "properties": {
        "model_params": {"$ref": "#/$defs/Model"},
        "epochs": {"default": 3},
        "compile": {"default": 1},
    },
    "$defs": {"Model": {"properties": {"top_k": {"default": 2}, "bias": {"default": True}}}},
}


class Reader(HTMLParser):
    """Collects the elements, their attributes, and the text of each row of each section."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.rows, self.section = set(), set(), {}, None
        self._inside, self._row = "", []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self._inside = tag
        if tag in ("td", "th"):
            self._row.append("")

    def handle_endtag(self, tag):
        if tag == "tr":
            self.rows[self.section, self._row[0]] = self._row[1:]
            self._row = []

    def handle_data(self, data):
        if self._inside == "summary":
            self.section = data
        elif self._row:
            self._row[-1] += data


def a_run(experiment_id="run-1", metrics=None, **changes):
    return ended_run(experiment_id, RunStatus.COMPLETED, metrics or {}, **changes)


def test_a_run_shows_what_it_is_and_what_came_of_it():
    config = {"model_params": {"top_k": 4, "bias": True}, "epochs": 3, "compile": True}
    run = a_run(
        metrics={"train_loss": 0.25, "final_val_f1": float("nan")},
        full_config_json=json.dumps(config),
        config_schema_json=json.dumps(SCHEMA),
        seed=0,
        flags={"dead_experts": "2 of 8"},
        error="Traceback:\n  a line\nValueError: why\n",
    )
    html = run._repr_html_()
    rows = Reader(html).rows
    assert "<strong>a run: COMPLETED</strong>" in html
    assert rows["run", "experiment_id"] == ["run-1"]
    assert rows["run", "seed"] == ["0"]
    assert rows["run", "error"] == ["ValueError: why"]
    assert rows["flags", "dead_experts"] == ["2 of 8"]
    assert [name for section, name in rows if section == "metrics"][1:] == [
        "final_val_f1",
        "train_loss",
    ]
    assert rows["metrics", "final_val_f1"] == ["nan"]
    changed = {name: row for (section, name), row in rows.items() if section[:7] == "changed"}
    assert changed == {"model_params.top_k": ["4"], "compile": ["true"]}
    assert not {("run", "git_commit"), ("run", "contended")} & set(rows)


def test_without_a_schema_all_parameters_are_shown_and_not_called_changed():
    rows = Reader(a_run()._repr_html_()).rows
    assert rows["parameters", "model_params.bias"] == ["true"]


def test_a_comparison_shows_what_differs_and_the_metrics_side_by_side():
    one = a_run("run-1", {"final_val_f1": 0.5})
    other = replace(
        a_run("run-2", {"final_val_f1": 0.75, "val_loss": 1.5}),
        full_config_json=one.full_config_json.replace("2", "4"),
        flags={"dead_experts": "2 of 8"},
    )
    rows = Reader(compare([one, other])._repr_html_()).rows
    assert rows["runs", "status"] == ["COMPLETED", "COMPLETED"]
    assert rows["runs", "flags"] == ["-", "dead_experts"]
    assert rows["parameters that differ", ""] == ["run-1", "run-2"]
    assert rows["parameters that differ", "model_params.top_k"] == ["2", "4"]
    assert ("parameters that differ", "model_params.bias") not in rows
    assert rows["metrics", "final_val_f1"] == ["0.5", "0.75"]
    assert rows["metrics", "val_loss"] == ["-", "1.5"]
    same = Reader(compare([one, one])._repr_html_()).rows
    assert ("parameters that differ", "no parameter differs") in same


def test_hostile_names_are_text_and_nothing_has_a_colour():
    run = a_run(
        HOSTILE,
        {HOSTILE: 1.0},
        experiment_name=HOSTILE,
        full_config_json=json.dumps({HOSTILE: HOSTILE}),
        flags={HOSTILE: HOSTILE},
        error=HOSTILE,
        tags=(HOSTILE,),
    )
    other = replace(run, full_config_json="{}")
    for html in (run._repr_html_(), compare([run, other])._repr_html_()):
        found = Reader(html)
        assert found.tags <= {"div", "strong", "details", "summary", "table", "tr", "th", "td"}
        assert found.attributes == {"class", "style", "open"}
        assert "color" not in html
        assert "background" not in html
        html.encode()  # a lone surrogate would break the notebook's connection
        name = HOSTILE.replace("\ud800", "?")
        assert found.rows["metrics", name][0] == "1"


def test_what_is_shown_is_bounded_and_the_rest_is_counted():
    metrics = {f"metric {i:04} {'x' * 500}": i / 7 for i in range(1000)}
    config = json.dumps({f"param {i}": "y" * 10_000 for i in range(1000)})
    run = a_run(metrics=metrics, full_config_json=config)
    html = run._repr_html_()
    assert len(html) < 20_000
    assert f"... and {1000 - MAX_ROWS} more in .metrics" in html
    assert f"... and {1000 - MAX_ROWS} more in .changed_params" in html
    assert f"{'y' * MAX_CHARACTERS}... (10,000 characters)" in html
    assert "y" * (MAX_CHARACTERS + 1) not in html
    others = [replace(run, experiment_id=f"run-{i}", full_config_json="{}") for i in range(49)]
    html = compare([run, *others])._repr_html_()
    assert len(html) < 60_000
    assert f"... {50 - MAX_COLUMNS} more" in html
    assert html.count("<td>COMPLETED</td>") == MAX_COLUMNS
    assert "50 runs compared" in html

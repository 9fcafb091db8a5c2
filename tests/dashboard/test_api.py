"""The JSON API, without a browser: what is answered is what was recorded."""

import csv
import io
import math
import statistics

import numpy as np
import pytest

from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.testing.runs import new_run, record

HOSTILE_PART = "<img src=x"


def problem(client, path, **params):
    answer = client.get(f"/api/v1{path}", params=params)
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == answer.status_code
    return told


def curve(ask, run, metric="val_loss", **params):
    (found,) = ask("/series", run=run, metric=metric, **params)["metrics"][0]["curves"]
    return found


# ---------------------------------------------------------------------------------------- runs


def test_a_filter_a_sort_and_columns_choose_what_is_listed(ask):
    found = ask(
        "/runs",
        q='model_type == "moe" and metrics.final_val_loss < 1.3 and study is null',
        sort="-metrics.final_val_loss",
        columns="seed, metrics.final_val_loss, model_params.top_k",
    )
    assert found["ids"] == ["run2", "run0"]
    assert [column["name"] for column in found["columns"]] == [
        "seed",
        "metrics.final_val_loss",
        "model_params.top_k",
    ]
    assert found["values"] == [[1, 0], [1.2, 1.0], [3, 1]]
    assert found["total"] == 2


def test_of_a_long_list_a_part_is_sent_and_the_whole_is_counted(ask):
    whole = ask("/runs", sort="experiment_id")
    part = ask("/runs", sort="experiment_id", limit=5, offset=10)
    assert part["ids"] == whole["ids"][10:15]
    assert part["total"] == whole["total"] == len(whole["ids"])


def test_values_that_json_cannot_hold_are_names(ask):
    found = ask("/runs", q='experiment_id == "spiky"', columns="metrics.never, metrics.broken.max")
    assert found["values"] == [["NaN"], [2.0]]


def test_a_mistake_in_a_filter_is_pointed_at(client):
    told = problem(client, "/runs", q="seed >> 2")
    assert (told["status"], told["position"]) == (400, 6)
    assert "expected a value" in told["detail"]


@pytest.mark.parametrize(
    ("path", "params", "detail"),
    [
        ("/runs", {"limit": "0"}, "limit is a whole number from 1 to 5000"),
        ("/runs", {"limit": "²"}, "limit is a whole number"),
        ("/runs", {"sorted": "seed"}, "there is no parameter 'sorted'"),
        ("/runs", {"sort": ["seed", "status"]}, "sort stands there 2 times"),
        ("/runs", {"columns": ", ".join(f"a.b{i}" for i in range(61))}, "at most 60 columns"),
        ("/series", {"metric": "val_loss"}, "run names what to draw"),
        ("/series", {"run": "run0"}, "metric says what to draw"),
        ("/series", {"run": [f"r{i}" for i in range(51)], "metric": "a"}, "at most 50"),
        ("/series", {"run": "run0", "metric": "a", "buckets": "99999999999999999"}, "buckets is"),
        ("/series", {"run": "run0", "metric": "a", "from": "3"}, "go together"),
        ("/series/later", {"metric": "val_loss", "since": "run0"}, "since is a run and its cursor"),
        ("/groups", {}, "by says what to group by"),
        ("/groups", {"by": "experiment_id; drop"}, "cannot read"),
        ("/compare", {}, "run names what to compare"),
        ("/runs/experts/experts/coupling", {"step": "101"}, "not recorded at step 101"),
        ("/runs/experts/experts/nope", {}, "has no array 'nope'"),
        ("/studies/searhc", {}, "did you mean 'search'"),
        ("/runs/nope", {}, "no run is called 'nope'"),
        ("/nope", {}, "nothing under this address"),
    ],
)
def test_what_cannot_be_answered_is_said(client, path, params, detail):
    assert detail in problem(client, path, **params)["detail"]


def test_sql_in_a_filter_a_sort_and_a_name_is_only_text(ask, client):
    before = ask("/runs")["total"]
    for text in ("seed; DROP TABLE runs", "1=1--", "seed) UNION SELECT 1--"):
        assert client.get("/api/v1/runs", params={"sort": text}).status_code == 400
        assert client.get("/api/v1/runs", params={"q": text}).status_code == 400
    injected = "val_loss' OR '1'='1"
    assert ask("/series", run="run0", metric=injected)["metrics"][0]["curves"] == []
    assert ask("/runs")["total"] == before


def test_a_table_for_spreadsheets_holds_no_formula(client_of, tmp_path):
    file = tmp_path / "formula.db"
    with Store.open(file, create=True) as store:
        run = store.start(new_run("a", experiment_name="=1+1"))
        run.log({"loss": -0.5}, step=1)
        run.finish(RunStatus.COMPLETED)
    params = {"columns": "experiment_name, metrics.loss"}
    answer = client_of(file).get("/api/v1/runs.csv", params=params)
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert rows == [["experiment_id", "experiment_name", "metrics.loss"], ["a", "'=1+1", "-0.5"]]


def test_groups_tell_mean_deviation_and_how_many_started(ask):
    found = ask("/groups", by="model_type", metric="final_val_loss", q="study is null")
    by_key = {group["key"][0]: group for group in found["groups"]}
    spread = by_key["moe"]["metrics"]["final_val_loss"]
    assert spread["mean"] == pytest.approx(1.2)
    assert spread["deviation"] == pytest.approx(statistics.stdev([1.0, 1.2, 1.4]))
    assert (spread["n"], spread["started"]) == (3, 5)
    assert by_key["moe"]["statuses"] == {"COMPLETED": 4, "FAILED": 1}


def test_groups_over_different_data_are_noticed(client_of, tmp_path):
    file = tmp_path / "data.db"
    with Store.open(file, create=True) as store:
        for name, data in (("a", "one"), ("b", "two"), ("c", "two")):
            record(store, name, {"loss": 1.0}, model_type="moe", data_hash=data)
    client = client_of(file)
    assert client.get("/api/v1/groups?by=model_type").json()["data"] == 2
    assert client.get('/api/v1/groups?by=model_type&q=data_hash=="two"').json()["data"] == 1


def test_runs_side_by_side_name_what_differs(ask):
    found = ask("/compare", run=["run0", "run1"])
    assert set(found["differing"]) == {"model_type", "model_params.top_k"}
    assert found["params"]["optimizer_params.lr"] == [1e-3, 1e-3]
    assert found["metrics"]["final_val_loss"] == [[1.0] * 3, [1.1] * 3]


def test_one_run_is_told_whole(ask):
    found = ask("/runs/spiky")
    assert found["error"].endswith("boom")
    assert found["metrics"]["never"]["value"] == "NaN"
    assert found["metrics"]["broken"]["nonfinite"] == 2
    assert ask("/runs/experts/log")["text"] == "first line\nlast line\n"


# -------------------------------------------------------------------------------------- curves


def test_few_points_are_sent_as_they_are(ask):
    found = curve(ask, "run0")
    assert (found["width"], found["points"]) == (0, 40)
    expected = [2 * math.exp(-step / 40) for step in range(40)]
    assert found["mean"] == pytest.approx(expected, rel=1e-5)


def test_one_high_value_among_thousands_stays_visible(ask):
    found = curve(ask, "spiky", buckets=50)
    assert len(found["steps"]) == 50
    place = found["maximum"].index(99.0)
    assert found["steps"][place] <= 3210 < found["steps"][place] + found["width"]
    assert found["mean"][place] == pytest.approx((99 + 99) / 100)
    assert sum(found["counts"]) == found["points"] == 5000


def test_a_part_is_asked_for_anew_and_exact(ask):
    found = curve(ask, "spiky", buckets=50, **{"from": 3200, "to": 3219})
    assert found["steps"] == list(range(3200, 3220))
    assert found["mean"][10] == 99.0


def test_values_that_are_not_finite_are_counted_where_they_are(ask):
    found = curve(ask, "spiky", "broken")
    assert found["mean"] == [1.0, None, None, 2.0]
    assert found["nonfinite"] == [[1, 1], [2, 1]]


def test_another_metric_may_be_the_axis(ask):
    found = curve(ask, "run1", x="tokens_seen")
    assert found["places"] == [64.0 * step for step in range(40)]


@pytest.mark.parametrize("buckets", [10, 2000])
def test_time_may_be_the_axis(ask, buckets):
    found = curve(ask, "run1", x="relative", buckets=buckets)
    assert found["places"][0] == 0.0
    assert found["places"] == sorted(found["places"])
    assert found["places"][-1] > 0
    wall = curve(ask, "run1", x="wall", buckets=buckets)
    assert wall["places"][0] > 1.7e9


def test_only_what_came_later_is_sent(client_of, tmp_path):
    file = tmp_path / "live.db"
    with Store.open(file, create=True) as store:
        run = store.start(new_run("live"))
        other = store.start(new_run("other"))
        for step in range(5):
            run.log({"loss": float(step)}, step=step)
            other.log({"loss": 1.0}, step=step)
        run.flush()
        other.flush()
        client = client_of(file)
        params = {"run": ["live", "other"], "metric": "loss"}
        first = client.get("/api/v1/series", params=params).json()["metrics"][0]["curves"]
        since = [f"{each['id']}:{each['cursor']}" for each in first]
        news = {"metric": "loss", "since": since}
        assert client.get("/api/v1/series/later", params=news).json()["runs"] == {}
        run.log({"loss": math.inf}, step=5)
        run.log({"loss": 6.0}, step=6)
        run.flush()
        later = client.get("/api/v1/series/later", params=news).json()["runs"]
        run.finish(RunStatus.COMPLETED)
        other.finish(RunStatus.COMPLETED)
    assert list(later) == ["live"]
    assert later["live"]["steps"] == [5, 6]
    assert later["live"]["mean"] == [None, 6.0]
    assert later["live"]["nonfinite"] == [1, 0]


def test_groups_are_averaged_over_runs_before_steps_become_buckets(ask):
    condition = 'experiment_id in ["run0", "run2", "run4"]'
    found = ask("/groups/series", by="model_type", q=condition, metric="val_loss", buckets=10)
    ((key,),) = found["keys"]
    (mean,) = found["metrics"][0]["curves"]
    levels = np.array([2.0, 2.2, 2.4])
    at_step = levels[:, None] * np.exp(-np.arange(40) / 40)
    assert key == "moe"
    assert mean["counts"] == [3] * 10
    assert mean["mean"] == pytest.approx(at_step.mean(axis=0).reshape(10, 4).mean(axis=1), rel=1e-5)
    deviation = np.sqrt(at_step.var(axis=0, ddof=1).reshape(10, 4).mean(axis=1))
    assert mean["deviation"] == pytest.approx(deviation, rel=1e-4)


# ------------------------------------------------------------------------------------- experts


def test_loads_matrices_and_measures_of_experts(ask):
    found = ask("/runs/paths/experts")
    assert found["load"]["steps"] == [100, 200, 300]
    loads = np.array(found["load"]["values"])
    assert loads.shape == (3, 2, 8)
    assert loads[:, 1, 0].max() < 0.01
    names = {measure["name"]: measure for measure in found["measures"]}
    assert names["dead experts"]["last"] == [1.0, 1.0]
    assert names["train drop rate"]["metrics"] == [f"train_drop_rate_layer{i}" for i in (0, 1)]
    assert set(found["flags"]) == {"dead_experts", "waives_batch_independent"}
    flow = ask("/runs/paths/experts/transitions", step=200)
    assert np.array(flow["layers"]["0"]).shape == (8, 8)


def test_a_run_without_experts_says_so_by_having_nothing(ask):
    found = ask("/runs/run1/experts")
    assert (found["load"], found["arrays"], found["measures"]) == (None, {}, [])


# ------------------------------------------------------------------------------------- studies


def test_a_study_is_told_with_every_trial(ask):
    found = ask("/studies/search")
    assert (found["finished"], found["total"]) == (48, 60)
    assert found["counts"] == {"COMPLETED": 40, "PRUNED": 8}
    best = {best["arm"]: best["values"][0] for best in found["best"]}
    for arm, value in best.items():
        values = [
            trial["values"][0]
            for trial in found["trials"]
            if trial["arm"] == arm and trial["state"] == "COMPLETED"
        ]
        assert value == min(values)
    assert any(trial["is_on_front"] for trial in found["trials"])


def test_the_parameter_that_decides_is_found(ask):
    rows = ask("/importance", study="search")["rows"]
    shares = {row["parameter"]: row["importance"] for row in rows if row["arm"] == "moe"}
    assert shares["optimizer_params.lr"] > shares["model_params.top_k"]


def test_a_study_of_another_program_is_listed_without_trials(ask):
    (foreign,) = [study for study in ask("/studies") if study["name"] != "search"]
    assert HOSTILE_PART in foreign["name"]
    assert foreign["best"] == []


# --------------------------------------------------------------------------------------- files


def test_what_was_not_changed_is_not_sent_again(client):
    first = client.get("/api/v1/runs")
    again = client.get("/api/v1/runs", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_answers_are_compressed(client):
    answer = client.get("/api/v1/runs", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"


def test_a_file_of_a_run_is_saved_and_never_shown(client):
    answer = client.get("/api/v1/runs/experts/files/experts/sample.txt")
    assert answer.text == "a sample"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")


def test_reports_are_listed_and_shown_in_a_sandbox(client, tmp_path):
    folder = tmp_path / "reports" / "parity"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<h1>Parity</h1>")
    (folder / ".hidden").write_text("no")
    (found,) = client.get("/api/v1/reports").json()["files"]
    assert found["path"] == "parity/report.html"
    answer = client.get("/reports/parity/report.html")
    assert answer.text == "<h1>Parity</h1>"
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")

"""What becomes of trials, and what is kept of them."""

import csv
import json
import math
from pathlib import Path

import optuna
import pytest

from research_eval.errors import ConfigError, StoppedError
from research_eval.knobs import Uniform
from research_eval.records import RunStatus

from .conftest import recorded, states

LINE = {"x": Uniform(0.0, 1.0)}


def test_the_total_is_reached_once_and_a_finished_study_stays_as_it_is(search):
    first = search(n_trials=5)
    again = search(n_trials=5)
    assert again.trials == first.trials
    assert len(recorded()) == 5
    assert len(search(n_trials=7).trials) == 7


def test_every_end_has_its_state_and_all_count(search):
    def objective(trial):
        match trial.number:
            case 0:
                raise ValueError("a mistake")
            case 1:
                return math.nan
            case 2:
                return math.inf
        return trial.params["x"]

    result = search(objective, LINE, n_trials=5)
    assert states(result) == ["FAILED", "DIVERGED", "DIVERGED", "COMPLETED", "COMPLETED"]
    assert "ValueError: a mistake" in result.trials[0].error
    assert "Traceback" in recorded()[0].error
    assert result.best["objective"].number in (3, 4)


def test_a_table_has_a_row_for_every_trial_as_soon_as_it_has_ended(search):
    seen = []

    def objective(trial):
        if table is not None:
            with table.open(newline="") as file:
                seen.append(len(list(csv.DictReader(file))))
        return trial.params["x"]

    table = None
    table = search(objective, LINE, n_trials=1).table
    result = search(objective, LINE, n_trials=4)
    assert seen == [1, 2, 3]
    assert (
        result.table.name == "optuna_study_research_eval_study_function_objective_full_results.csv"
    )
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["value_value"]) for row in rows] == [t.values[0] for t in result.trials]
    assert [json.loads(row["params_x"]) for row in rows] == [t.params["x"] for t in result.trials]
    assert {row["state"] for row in rows} == {"COMPLETED"}


def test_a_table_is_whole_and_in_order_whatever_happens_to_it_between(search):
    """Columns that only the second arm has, a row that changes later, a file that is removed."""

    def objective(trial):
        if trial.number == 3:
            next(Path().glob("optuna_study_*.csv")).unlink()
        return trial.params["x"]

    for total in (3, 6):
        result = search(objective, LINE, n_trials=total, arms=("a", "b"), confirm=1)
    rows = list(csv.DictReader(result.table.read_text().splitlines()))
    assert [int(row["trial_number"]) for row in rows] == list(range(6))
    confirmed = {trial.number for trial in result.trials if trial.confirmed}
    assert {int(row["trial_number"]) for row in rows if row["confirmed"]} == confirmed
    assert sorted(path.name for path in Path().glob("*.csv*")) == [result.table.name]


def slope(trial):
    """Return a curve that the first steps tell; even trials are good."""
    good = trial.number % 2 == 0
    for step in range(9):
        trial.report(step, (1.0 if good else 0.1) * step + trial.params["x"] / 100)
    return 9.0 if good else 1.0


@pytest.mark.parametrize("pruner", ["auto", "asha", "median", "hyperband"])
def test_hopeless_trials_are_pruned_and_keep_their_metrics(search, pruner):
    result = search(slope, LINE, n_trials=16, objectives=["value:max"], pruner=pruner)
    pruned = [trial for trial in result.trials if str(trial.state) == "PRUNED"]
    assert {trial.number for trial in result.trials[6:] if trial.number % 2} <= {
        trial.number for trial in pruned
    }
    assert max(result.trials, key=lambda trial: trial.values[0]) not in pruned
    assert all(math.isfinite(trial.values[0]) for trial in pruned)
    for trial in pruned:
        run = trial.runs[0]
        assert run.status is RunStatus.PRUNED
        assert 1 <= run.metrics["value"].count <= 9


def test_pruning_goes_on_after_a_break_as_without_it(search):
    asked = {"objectives": ["value:max"], "pruner": "asha", "sampler": "random"}
    whole = search(slope, LINE, n_trials=14, name="whole", **asked)
    search(slope, LINE, n_trials=7, name="parts", **asked)
    parts = search(slope, LINE, n_trials=14, name="parts", **asked)
    assert states(parts) == states(whole)
    assert "PRUNED" in states(whole)[7:]


def test_without_a_pruner_nothing_is_pruned(search):
    result = search(slope, LINE, n_trials=8, objectives=["value:max"], pruner="none")
    assert set(states(result)) == {"COMPLETED"}


def test_of_several_objectives_all_must_be_hopeless(search):
    def objective(trial):
        kind = trial.number % 3  # good in both, good in one, good in none
        scores = {"a": 1.0 if kind == 0 else 0.0, "b": 0.0 if kind == 2 else 1.0}
        for step in range(6):
            trial.report(step, {name: value + 0.001 * step for name, value in scores.items()})
        return {"a": scores["a"] + trial.params["x"] / 1e6, "b": scores["b"]}

    result = search(objective, LINE, n_trials=18, objectives=["a:max", "b:max"], pruner="asha")
    pruned = {trial.number % 3 for trial in result.trials if str(trial.state) == "PRUNED"}
    assert pruned == {2}
    assert {trial.number % 3 for trial in result.front} == {0}


def test_the_front_is_what_nothing_beats(search):
    def objective(trial):
        return trial.params["x"], 1 - trial.params["x"] + (trial.number % 2)

    result = search(objective, LINE, n_trials=10, objectives=["small:min", "other:min"])
    good = [t for t in result.trials if t.number % 2 == 0]
    assert {trial.number for trial in good} <= {trial.number for trial in result.front}
    for one in result.front:
        assert not any(
            o.values[0] <= one.values[0] and o.values[1] < one.values[1] for o in result.trials
        )


def test_the_score_of_a_trial_is_the_mean_over_its_seeds(search):
    def objective(trial):
        return trial.params["x"] + trial.seed

    result = search(objective, LINE, n_trials=4, seeds=3)
    assert len(recorded()) == 12
    for trial in result.trials:
        assert sorted(run.seed for run in trial.runs) == [0, 1, 2]
        assert trial.values[0] == pytest.approx(trial.params["x"] + 1)


def test_wilcoxon_gives_up_the_other_seeds_of_a_worse_configuration(search):
    def objective(trial):
        return (trial.number > 4) + trial.params["x"] / 100 + trial.seed / 1000

    asked = {"seeds": 8, "pruner": "wilcoxon", "sampler": "random"}
    result = search(objective, LINE, n_trials=8, **asked)
    late = [trial for trial in result.trials if trial.number > 4]
    assert {str(trial.state) for trial in late} == {"PRUNED"}
    assert all(len(trial.runs) < 8 for trial in late)
    assert states(search(objective, LINE, n_trials=8, **asked)) == states(result)


def test_constraints_keep_out_what_breaks_them(search):
    def objective(trial):
        return {"value": -trial.params["x"], "size": trial.params["x"]}

    result = search(objective, LINE, n_trials=20, constraints=["size<=0.5"])
    best = result.best["objective"]
    assert best.params["x"] <= 0.5
    assert best.is_feasible
    broken = [trial for trial in result.trials if trial.params["x"] > 0.5]
    assert broken
    assert not any(trial.is_feasible for trial in broken)


def test_winners_are_confirmed_on_seeds_that_the_search_has_not_seen(search):
    def objective(trial):
        return trial.params["x"]

    asked = {"n_trials": 6, "arms": ("a", "b"), "seeds": 2, "confirm": 3}
    result = search(objective, LINE, **asked)
    confirmed = [run for run in recorded() if run.phase == "confirm"]
    assert len(confirmed) == 6
    for arm in ("a", "b"):
        winner = result.best[arm]
        mine = [run for run in confirmed if run.model_type == arm]
        assert sorted(run.seed for run in mine) == [2, 3, 4]
        assert {run.parent for run in mine} == {winner.runs[0].experiment_id}
        assert {run.trial for run in mine} == {winner.number}
    search(objective, LINE, **asked)
    assert len([run for run in recorded() if run.phase == "confirm"]) == 6


def test_an_interrupted_trial_is_continued_under_its_number(search):
    interrupts = [2]

    def objective(trial):
        if trial.number in interrupts:
            interrupts.clear()
            raise KeyboardInterrupt
        return trial.params["x"]

    with pytest.raises(StoppedError):
        search(objective, LINE, n_trials=4, sampler="random")
    result = search(objective, LINE, n_trials=4, sampler="random")
    whole = search(objective, LINE, n_trials=4, sampler="random", name="whole")
    assert states(result) == ["COMPLETED"] * 4
    assert [t.params for t in result.trials] == [t.params for t in whole.trials]
    assert len(recorded()) == 4
    assert [run.attempt for run in recorded()] == [1, 1, 2, 1]


def test_time_that_is_over_starts_nothing_new(search):
    result = search(n_trials=5, timeout=0.0)
    assert result.trials == ()
    assert len(search(n_trials=5).trials) == 5


def test_studies_in_one_process_do_not_mix(search):
    one = search(n_trials=3, name="one")
    two = search(n_trials=4, name="two")
    assert (len(one.trials), len(two.trials)) == (3, 4)
    assert {run.study for run in recorded("one")} == {"one"}
    assert search(n_trials=3, name="one").trials == one.trials


def test_finished_trials_are_copied_once_to_an_optuna_storage(search):
    def objective(trial):
        return math.nan if trial.number == 1 else trial.params["x"]

    for total in (2, 4):
        result = search(objective, LINE, n_trials=total, storage="sqlite:///mirror.db")
    study = optuna.load_study(study_name="research_eval_study", storage="sqlite:///mirror.db")
    copied = {trial.user_attrs["research_eval_trial"]: trial for trial in study.trials}
    assert len(study.trials) == len(copied) == 4
    for trial in result.trials:
        assert copied[trial.number].params == {"model_type": "objective", **trial.params}
        assert copied[trial.number].user_attrs["runs"] == [trial.runs[0].experiment_id]
    assert copied[1].value is None
    assert copied[2].value == result.trials[2].values[0]


def test_no_trial_sees_the_test_split(search):
    with pytest.raises(ConfigError, match="never looks at the test split"):
        search(objectives=["final_test_f1:max"])

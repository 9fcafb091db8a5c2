"""What was done otherwise than planned is said, whatever it was."""

from dataclasses import replace
from datetime import timedelta

import pytest

from research_eval.comparing import report
from research_eval.comparing.departures import departures
from research_eval.hpo import Study, TrialState
from research_eval.records import RunStatus
from research_eval.store import Store


@pytest.fixture(autouse=True)
def _only_verdicts(monkeypatch):
    monkeypatch.setattr(report, "find_outputs", list)


@pytest.fixture
def carried_out(comparison):
    """Return plan and records of a comparison in which all went as planned."""
    prepared = comparison()
    outcome = prepared.run()
    with Store.open("experiment_results.db", mode="ro") as store:
        return outcome.plan, prepared._records(store, outcome.study)


def changed(trial, **changes):
    """Return a trial whose first run differs."""
    return replace(trial, runs=(replace(trial.runs[0], **changes), *trial.runs[1:]))


def test_each_departure_is_told(carried_out):
    plan, records = carried_out
    assert departures(plan, records) == []
    first, *rest = records.trials
    winner = records.winners["moe"]
    lost = replace(winner.confirmed[0], status=RunStatus.FAILED)
    early = first.runs[0].timestamp - timedelta(days=1)
    newer = first.runs[0].env_details_json.replace('"torch": "', '"torch": "9')
    expensive = {
        "active_param_count": first.runs[0].metrics["active_param_count"]._replace(value=1e6)
    }
    cases = {
        "mine has 1 of 2 planned trials: its space is exhausted.": {
            "trials": rest,
            "closed": {"mine": "its space is exhausted"},
        },
        "mine has 3 trials, but 2 were planned.": {
            "trials": [*records.trials, replace(first, number=4)]
        },
        "1 of 2 trials of mine ended as DIVERGED, without a full score.": {
            "trials": [replace(first, state=TrialState.DIVERGED), *rest]
        },
        "moe lacks seed 2 of its confirmation.": {
            "winners": records.winners | {"moe": replace(winner, confirmed=winner.confirmed[:1])}
        },
        "Seed 1 of the confirmation of moe ended as FAILED.": {
            "winners": records.winners
            | {"moe": replace(winner, confirmed=(lost, winner.confirmed[1]))}
        },
        "moe was also run on seed 9, which was not planned.": {
            "winners": records.winners
            | {
                "moe": replace(
                    winner, confirmed=(*winner.confirmed, replace(winner.confirmed[0], seed=9))
                )
            }
        },
        "moe has no winner, so nothing of it is confirmed.": {
            "winners": {"mine": records.winners["mine"]}
        },
        "1 run was deleted (runs list --deleted).": {"deleted": 1},
        "1 run began before the plan was written.": {
            "trials": [changed(first, timestamp=early), *rest]
        },
        "1 of 4 runs of mine was made by other code than planned.": {
            "trials": [changed(first, code_hash="other"), *rest]
        },
        "Runs of mine cost up to ": {"trials": [changed(first, metrics=expensive), *rest]},
        "1 run was made with torch 9": {"trials": [changed(first, env_details_json=newer), *rest]},
    }
    for sentence, changes in cases.items():
        told = departures(plan, replace(records, **changes))
        assert any(each.startswith(sentence) for each in told), (sentence, told)


def test_more_trials_and_other_ranges_of_the_study_are_noticed(comparison):
    comparison().run()
    spec = comparison().spec
    Study(replace(spec, n_trials=6, search=("optimizer_params.lr=1e-3:2e-3",))).run()
    told = comparison().run().departures
    assert "mine has 3 trials, but 2 were planned." in told
    assert any(each.startswith("The ranges of the search were changed") for each in told)


def test_a_deleted_run_is_made_again_and_told(comparison):
    first = comparison().run()
    with Store.open("experiment_results.db") as store:
        fresh = [run for run in store.study_runs("compare_mine") if run.phase == "confirm"]
        store.delete([fresh[0].experiment_id])
    again = comparison().run()
    assert again.verdicts == first.verdicts
    assert again.departures == ("1 run was deleted (runs list --deleted).",)

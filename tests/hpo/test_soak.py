"""A whole study of all architectures, as a user would run it; `make soak`, 20 minutes at most."""

from collections import Counter
from pathlib import Path

import pytest

from research_eval import MODELS_MAP
from research_eval.config import load_text
from research_eval.hpo import TrialState, optimize
from research_eval.records import RunStatus

REFERENCE = {
    "dataset_name": "parity",
    "epochs": 5,
    "batch_size": 64,
    "dataset_params": {"num_samples": 5000, "seq_len": 16, "vocab_size": 8},
}


@pytest.mark.slow
def test_96_trials_are_legal_different_and_dealt_out_equally():
    result = optimize(REFERENCE, n_trials=96, workers=2, db="soak.db")
    assert Counter(trial.arm for trial in result.trials) == dict.fromkeys(MODELS_MAP, 16)
    assert [trial.number for trial in result.trials] == list(range(96))

    failures = {trial.number: trial.error for trial in result.trials if trial.error}
    states = {trial.state for trial in result.trials}
    ended = {TrialState.COMPLETED, TrialState.PRUNED, TrialState.DIVERGED, TrialState.COLLAPSED}
    assert states <= ended, failures
    assert {TrialState.COMPLETED, TrialState.PRUNED} <= states

    runs = [run for trial in result.trials for run in trial.runs]
    assert len(runs) == len({run.config_hash for run in runs}) == 96
    for run in runs:
        load_text(run.full_config_json, base_dir=Path.cwd())  # raises if it is not legal
        assert run.status is not RunStatus.RUNNING

    assert set(result.best) == set(MODELS_MAP)
    for arm, best in result.best.items():
        assert best.values[0] == max(
            trial.values[0]
            for trial in result.trials
            if trial.arm == arm and trial.state is TrialState.COMPLETED
        )


@pytest.mark.slow
def test_a_search_learns_what_can_be_learned():
    """Rows of 16 tokens need more than the 395 steps of the reference; rows of 8 do not."""
    short = REFERENCE | {"dataset_params": REFERENCE["dataset_params"] | {"seq_len": 8}}
    result = optimize(short, arms=("dense", "moe"), n_trials=16, workers=2, db="short.db")
    assert {arm for arm, best in result.best.items() if best.values[0] > 0.95} == {"dense", "moe"}

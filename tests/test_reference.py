"""What every architecture learns: parity, on three seeds; and what none may: noise."""

from dataclasses import replace
from pathlib import Path

import pytest

import research_eval
from research_eval.errors import ConfigError
from research_eval.records import RunStatus
from research_eval.registry import MODELS_MAP
from research_eval.testing.learning_checks import learns_nothing_from_noise
from research_eval.testing.subject import Subject
from research_eval.testing.variants import variants

CONFIGS = Path(__file__).resolve().parents[1] / "examples" / "configs"
BARS = {"dense": 0.99, "moe": 0.99}
OTHERS = 0.95


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("model", sorted(MODELS_MAP))
def test_parity_at_the_reference_setting(model, seed, tmp_path):
    record = research_eval.run(
        CONFIGS / f"{model}_parity.json", overrides=[f"seed={seed}"], db=tmp_path / "runs.db"
    )
    assert record.status is RunStatus.COMPLETED
    assert record.value("final_val_f1") >= BARS.get(model, OTHERS)
    assert record.value("final_test_f1") >= BARS.get(model, OTHERS)


def every_way_to_work():
    """Return each model with each of its modes and numbers of experts, for language modelling."""
    found = []
    for model, spec in sorted(MODELS_MAP.items()):
        start = Subject.of(spec, "language_modeling", num_layers=1)
        for words, params in variants(start.params, fixed={"checkpoint_activations"}):
            subject = replace(start, params=params, vocab_size=32)
            try:
                subject.network()
            except ConfigError:  # refused with its reason, as expert_choice is for this task
                continue
            found.append(pytest.param(subject, id=f"{model} {words}".strip()))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("subject", every_way_to_work())
def test_noise_stays_noise(subject):
    learns_nothing_from_noise(subject, steps=400)

"""The promise that every architecture learns: parity at the reference setting, three seeds each."""

from pathlib import Path

import pytest

import research_eval
from research_eval.records import RunStatus
from research_eval.registry import MODELS_MAP

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

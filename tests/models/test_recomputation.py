"""`checkpoint_activations` changes what is kept, and nothing that is computed."""

from contextlib import nullcontext

import pytest
import torch

from research_eval.registry import MODELS_MAP
from research_eval.testing.subject import Subject, gradients

RECOMPUTED = {"checkpoint_activations": True}


@pytest.mark.parametrize("task", ["classification", "language_modeling"])
@pytest.mark.parametrize("model", sorted(MODELS_MAP))
def test_recomputation_changes_nothing(model, task):
    plain = Subject.of(MODELS_MAP[model], task, dropout=0.2)
    found = []
    for subject in (plain, plain.having(**RECOMPUTED)):
        network, batch = subject.network(), subject.batch(padded=True)
        torch.manual_seed(5)
        found.append(gradients(network, batch))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("model", sorted(MODELS_MAP))
def test_recomputation_keeps_less(model):
    subject = Subject.of(MODELS_MAP[model], "classification", num_layers=16)
    kept, recomputed = (
        each.network().step_bytes(256, 12, nullcontext)
        for each in (subject, subject.having(**RECOMPUTED))
    )
    assert recomputed < kept / 4  # of its sixteen layers, one at a time is held whole

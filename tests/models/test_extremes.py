"""One expert, and scores that a low precision cannot hold: defined, and never NaN."""

import pytest
import torch

from research_eval.registry import MODELS_MAP
from research_eval.testing.subject import Subject

TASKS = ["classification", "language_modeling"]
WITH_EXPERTS = sorted(
    name for name, spec in MODELS_MAP.items() if "num_experts" in spec.params.model_fields
)
COUPLING_SCORES = ("edges_EE", "content_2D", "weights_H")
ALONE = {"num_experts": 1, "top_k": 1, "hyperedge_size": 1}


def alone(model, task):
    spec = MODELS_MAP[model]
    fields = {name: value for name, value in ALONE.items() if name in spec.params.model_fields}
    return Subject.of(spec, task, **fields)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", WITH_EXPERTS)
def test_one_expert_keeps_every_promise(model, task, assert_quick_promises):
    assert_quick_promises(alone(model, task))


@pytest.mark.parametrize("model", ["gnn_moe", "hgnn_moe"])
def test_one_expert_exchanges_no_messages(model):
    subject = alone(model, "classification")
    ablation = subject.having(coupling="mean")
    weights = [each.network().state_dict() for each in (subject, ablation)]
    assert weights[0].keys() == weights[1].keys()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", WITH_EXPERTS)
def test_scores_beyond_a_low_precision_are_finite(model, task, dtype):
    network = (subject := Subject.of(MODELS_MAP[model], task)).network()
    batch = subject.batch(padded=True)
    deciding = network.routing_parameters() or [
        p for name, p in network.named_parameters() if name.rsplit(".", 1)[-1] in COUPLING_SCORES
    ]
    assert deciding
    with torch.no_grad():
        for parameter in deciding:
            parameter.mul_(1e6)  # scores around 1e6 and more; fp16 ends at 65,504
    with torch.autocast("cpu", dtype=dtype):
        output = network(batch.ids_BL, batch.mask_BL, batch.labels)
    total = output.loss + sum(term.weight * term.value for term in output.aux_losses.values())
    total.backward()
    assert total.isfinite()
    if dtype is torch.float16:
        return  # gradients may leave its range: the scaler sees that and skips the step
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)

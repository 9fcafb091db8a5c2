"""Shared experts, dense layers between, recomputation, low precision: in the whole model."""

import pytest
import torch

from research_eval.counting import count_flops
from research_eval.errors import ConfigError
from research_eval.models._blocks import FeedForward
from research_eval.models._dispatch import Experts
from research_eval.models.moe import MoEBlock, MoEParams, routed_layers
from research_eval.registry import MODELS_MAP
from research_eval.testing.subject import Subject, assert_close, gradients

MOE = MODELS_MAP["moe"]


@pytest.mark.parametrize(
    ("moe_layers", "num_layers", "expected"),
    [
        ("all", 3, (0, 1, 2)),
        ("every_other", 4, (1, 3)),
        ("every_other", 3, (0, 2)),
        ("every_other", 1, (0,)),
        ("last", 3, (2,)),
        ([2, 0], 3, (0, 2)),
    ],
)
def test_layers_with_experts(moe_layers, num_layers, expected):
    params = MoEParams(num_layers=num_layers, moe_layers=moe_layers)
    assert routed_layers(params) == expected


@pytest.mark.parametrize("moe_layers", [[3], [0, 0]])
def test_a_layer_that_is_not_there_is_named(moe_layers):
    with pytest.raises(ConfigError, match=r"model_params\.moe_layers: name layers 0 to 1"):
        Subject.of(MOE, "classification", moe_layers=moe_layers).network()


def test_records_name_the_layer_that_they_come_from():
    subject = Subject.of(MOE, "classification", num_layers=4, moe_layers="every_other")
    network, batch = subject.network(), subject.batch()
    kinds = [isinstance(block, MoEBlock) for block in network.body.blocks]
    assert kinds == [False, True, False, True]
    records = network(batch.ids_BL, batch.mask_BL, batch.labels).routing
    assert [record.layer for record in records] == [1, 3]


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_copies_of_a_feed_forward_are_their_sum(activation):
    params = MoEParams(embed_dim=8, num_heads=2, activation=activation)
    wide, parts = FeedForward(params, copies=2), [FeedForward(params) for _ in range(2)]
    gates = 2 if activation == "swiglu" else 1
    into = [part.into.weight.chunk(gates) for part in parts]
    with torch.no_grad():
        wide.into.weight.copy_(torch.cat([torch.cat(pair) for pair in zip(*into, strict=True)]))
        wide.out.weight.copy_(torch.cat([part.out.weight for part in parts], dim=1))
    x = torch.randn(3, 8)
    assert_close(wide(x), parts[0](x) + parts[1](x), "two experts side by side")


def test_shared_experts_work_on_every_token():
    subject = Subject.of(MOE, "classification", num_shared_experts=2, router="threshold")
    network, batch = subject.network(), subject.batch()
    with torch.no_grad():
        for block in network.body.blocks:
            block.experts.scores.weight.zero_()
    closed = subject.having(threshold=0.9).network()
    closed.load_state_dict(network.state_dict())
    layer, x = closed.body.blocks[0].experts, torch.randn(5, 32)
    tokens = type("Tokens", (), {"ids_T": torch.arange(5), "positions_T": torch.arange(5)})
    y, record, _aux = layer(x, tokens)
    assert not record.weights_TK.any(), "every token falls through"
    assert_close(y, layer.shared(x), "the shared experts alone")
    assert closed(batch.ids_BL, None, batch.labels).loss.isfinite()


def test_experts_do_not_work_for_choices_that_do_not_count():
    experts = Experts(MoEParams(embed_dim=8, num_heads=2), 4)
    x, chosen = torch.randn(6, 8), torch.tensor([[0, 1], [1, 2], [2, 0]] * 2)
    weights = torch.rand(6, 2) * torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]] * 2)
    whole = count_flops(lambda: experts(x, chosen, weights))
    partial = count_flops(lambda: experts(x, chosen, weights, weights != 0))
    combine = 2 * weights.numel() * 8
    assert partial - combine == (whole - combine) / 2


@pytest.mark.parametrize("router", ["softmax", "noisy_topk", "random", "expert_choice"])
def test_recomputation_changes_nothing_in_any_mode(router):
    plain = Subject.of(
        MOE,
        "classification",
        router=router,
        dropout=0.2,
        capacity_factor=1.0,
        num_shared_experts=1,
        moe_layers="last",
    )
    found = []
    for subject in (plain, plain.having(checkpoint_activations=True)):
        network, batch = subject.network(), subject.batch(padded=True)
        torch.manual_seed(5)
        found.append(gradients(network, batch))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("router", ["softmax", "sigmoid", "threshold", "expert_choice"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_beyond_a_low_precision_are_finite(router, dtype):
    subject = Subject.of(MOE, "classification", router=router)
    network, batch = subject.network(), subject.batch(padded=True)
    with torch.no_grad():
        for block in network.body.blocks:
            block.experts.scores.weight.mul_(1e6)  # scores around 1e6; fp16 ends at 65,504
    with torch.autocast("cpu", dtype=dtype):
        output = network(batch.ids_BL, batch.mask_BL, batch.labels)
    terms = {name: term.value for name, term in output.aux_losses.items()}
    assert all(value.isfinite() for value in {"loss": output.loss, **terms}.values())
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)

"""The frame around a body: heads, positions, counts, and input that does not fit."""

import math
from contextlib import nullcontext
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from research_eval.counting import LiveBytes
from research_eval.errors import ConfigError
from research_eval.network import Network
from research_eval.registry import MODELS_MAP, ROUTERS_MAP
from research_eval.spec import IGNORED_LABEL, BodyContext
from research_eval.testing.subject import Subject, gradients

LM, CLASSIFY = "language_modeling", "classification"


def subject(task, model="dense", **fields):
    return Subject.of(MODELS_MAP[model], task, **fields)


@pytest.mark.parametrize("tie_embeddings", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_language_loss_and_gradients_equal_plain_cross_entropy(tie_embeddings, padded):
    case = subject(LM, tie_embeddings=tie_embeddings)
    network, batch = case.network(), case.batch(padded=padded)
    batch.labels[0, 3] = IGNORED_LABEL
    found = network(batch.ids_BL, batch.mask_BL, batch.labels)
    actual = gradients(network, batch)
    network.zero_grad()
    logits = network.logits(batch.ids_BL, batch.mask_BL)
    plain = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten())
    plain.backward()
    assert found.loss.item() == pytest.approx(plain.item(), rel=1e-5)
    assert found.num_targets.item() == (batch.labels != IGNORED_LABEL).sum().item()
    for name, parameter in network.named_parameters():
        apart = (actual[name] - parameter.grad).norm() / parameter.grad.norm()
        assert apart.item() < 1e-5, name
    assert ("head.weight" in actual) != tie_embeddings


def test_classification_averages_over_real_positions_only():
    case = subject(CLASSIFY)
    network = case.network().eval()
    ids = case.batch(rows=1, length=5).ids_BL
    padded = F.pad(ids, (0, 4))
    mask = torch.arange(9)[None] < 5
    assert torch.allclose(network.logits(padded, mask), network.logits(ids, None), atol=1e-5)


def test_a_row_of_padding_gets_the_scores_of_the_bias():
    case = subject(CLASSIFY, model="moe")
    network = case.network().eval()
    ids = torch.zeros(2, 6, dtype=torch.int64)
    mask = torch.zeros(2, 6, dtype=torch.bool)
    logits = network.logits(ids, mask)
    assert torch.equal(logits, network.head.bias.expand(2, -1))


def test_classification_counts_every_row_and_names_every_class():
    case = subject(CLASSIFY)
    batch = case.batch(rows=6)
    found = case.network()(batch.ids_BL, None, batch.labels)
    assert found.num_targets.item() == 6
    assert found.logits_BC.shape == (6, 3)


def test_auxiliary_terms_are_named_and_not_in_the_loss():
    case = subject(CLASSIFY, model="moe", aux_loss_weight=5.0, z_loss_weight=7.0)
    batch = case.batch()
    network = case.network()
    found = network(batch.ids_BL, None, batch.labels)
    assert {n: t.weight for n, t in found.aux_losses.items()} == {"load_balance": 5, "router_z": 7}
    assert found.loss.item() == F.cross_entropy(found.logits_BC, batch.labels).item()


def test_auxiliary_terms_are_means_over_layers():
    case = subject(CLASSIFY, model="moe", num_experts=4, top_k=1)
    batch = case.batch()
    found = case.network()(batch.ids_BL, None, batch.labels)
    by_hand = []
    for record in found.routing:
        share = torch.bincount(record.chosen_TK.flatten(), minlength=4) / record.chosen_TK.numel()
        by_hand.append(4 * (share * record.probs_TE.mean(dim=0)).sum())
    value = found.aux_losses["load_balance"].value.item()
    assert value == pytest.approx(sum(by_hand).item() / 2)


def test_routing_records_cover_real_tokens_only():
    case = subject(LM, model="moe")
    batch = case.batch(padded=True)
    found = case.network()(batch.ids_BL, batch.mask_BL, batch.labels)
    assert [record.layer for record in found.routing] == [0, 1]
    for record in found.routing:
        assert record.chosen_TK.shape == (int(batch.mask_BL.sum()), 2)
        assert not record.weights_TK.requires_grad


def test_controls_have_no_projection_and_no_auxiliary_terms():
    case = subject(LM, model="moe", router="hash")
    network, batch = case.network(), case.batch()
    assert not network(batch.ids_BL, None, batch.labels).aux_losses
    assert not [name for name, _ in network.named_parameters() if "scores" in name]


def test_router_scores_stay_fp32_where_fp16_would_overflow():
    case = subject(LM, model="moe", num_experts=4)
    network, batch = case.network(), case.batch()
    with torch.no_grad():
        for block in network.body.blocks:
            block.experts.scores.weight.mul_(1e6)
    with torch.autocast("cpu", dtype=torch.float16):
        found = network(batch.ids_BL, None, batch.labels)
    assert all(r.probs_TE.dtype == torch.float32 for r in found.routing)
    assert found.aux_losses["router_z"].value.item() > 65_504**2
    assert found.aux_losses["router_z"].value.isfinite()


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
@pytest.mark.parametrize("positions", ["learned", "rope", "none"])
@pytest.mark.parametrize("model", ["dense", "moe"])
def test_positions_and_activations_work_together(model, positions, activation):
    case = subject(LM, model=model, positions=positions, activation=activation)
    network, batch = case.network(), case.batch(padded=True)
    assert all(g.any() for g in gradients(network, batch).values())


def test_order_is_invisible_without_positions_and_visible_with_rope():
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    for positions, blind in (("none", True), ("rope", False), ("learned", False)):
        network = subject(CLASSIFY, positions=positions).network().eval()
        same = torch.allclose(
            network.logits(ids, None), network.logits(ids.flip(1), None), atol=1e-5
        )
        assert same == blind, positions


def test_fresh_weights_have_the_documented_scale():
    case = subject(LM, model="moe", embed_dim=128, num_layers=2, tie_embeddings=False)
    network = case.network(stirred=False)
    block = network.body.blocks[0]
    for weight in (network.head.weight, block.attention.attention.qkv.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    for weight in (block.attention.attention.out.weight, block.experts.experts.out_EFD):
        assert weight.std().item() == pytest.approx(0.02 / math.sqrt(4), rel=0.05)


def test_data_longer_than_the_positions_names_both_sides():
    with pytest.raises(ConfigError) as caught:
        subject(LM, max_positions=8).network()
    message = str(caught.value)
    assert "model_params.max_positions: the model has 8 positions" in message
    assert "12 tokens" in message
    assert "dataset_params" in message


def test_input_longer_than_the_positions_is_refused():
    network = subject(LM).network()
    with pytest.raises(ConfigError, match="13 tokens"):
        network.logits(torch.ones(1, 13, dtype=torch.int64), None)


def test_more_positions_than_needed_are_fine():
    network = subject(LM, max_positions=20).network()
    assert network.logits(torch.ones(1, 20, dtype=torch.int64), None).shape == (1, 20, 17)


def test_rope_refuses_heads_of_odd_width():
    with pytest.raises(ConfigError, match=r"model_params\.positions: rope .* = 1 is odd"):
        subject(LM, positions="rope", num_heads=32).network()


def test_router_must_be_known():
    with pytest.raises(ConfigError, match="unknown router 'sofmax'; did you mean 'softmax'"):
        subject(LM, model="moe", router="sofmax").network()


def test_counts_of_a_known_model():
    context = BodyContext(100, 16, causal=True, find_router=ROUTERS_MAP.__getitem__)
    spec = MODELS_MAP["moe"]
    params = spec.params(
        embed_dim=8, num_layers=1, num_heads=2, ff_factor=2.0, num_experts=4, top_k=1
    )
    network = Network(spec, params, context, task="language_modeling", num_classes=0)
    frame = 100 * 8 + 16 * 8 + 2 * 8
    attention, expert, router = 4 * 8 * 8 + 4 * 8, 2 * 8 * 16, 8 * 4
    assert network.param_count() == frame + attention + 4 * expert + router
    assert network.active_param_count() == frame + attention + expert + router
    mixing = 4 * 8 * (16 + 1) / 2
    flops = 2 * (4 * 8 * 8 + expert + router + 8) + mixing + 2 * 100 * 8
    assert network.flops_per_token(16) == flops


def autocasting(precision):
    return partial(torch.autocast, "cpu", torch.bfloat16, enabled=precision == "bf16")


def test_memory_estimate_grows_with_the_batch_and_changes_nothing():
    network = subject(LM, model="moe", router="random").network()
    state = torch.get_rng_state()
    one, two = (network.step_bytes(rows, 12, nullcontext) for rows in (8, 16))
    assert one < two < 2 * one
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize(
    ("task", "model"), [(CLASSIFY, "dense"), (LM, "dense"), (LM, "moe"), (LM, "gnn_moe")]
)
def test_memory_estimate_is_what_a_step_takes(task, model, recomputed, precision):
    sizes = {"embed_dim": 32, "ff_factor": 4.0, "num_layers": 3}
    case = subject(task, model=model, checkpoint_activations=recomputed, **sizes)
    network, batch, casting = case.network(), case.batch(rows=64), autocasting(precision)
    rows, length = batch.ids_BL.shape
    expected = network.step_bytes(rows, length, casting)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    for _ in range(2):  # the second step has the optimizer's means from the first
        means = [value for state in optimizer.state.values() for value in state.values()]
        known = [*network.parameters(), *network.buffers(), *means]
        with LiveBytes(known) as live:
            with casting():
                loss = network(batch.ids_BL, None, batch.labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    taken = 3 * 4 * network.param_count() + live.peak
    assert expected == pytest.approx(taken, rel=0.15), expected / taken


def test_dropout_acts_in_training_only():
    case = subject(LM, dropout=0.5)
    network, ids = case.network(), case.batch().ids_BL
    assert not torch.equal(network.logits(ids, None), network.logits(ids, None))
    network.eval()
    assert torch.equal(network.logits(ids, None), network.logits(ids, None))

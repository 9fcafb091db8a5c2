"""Parallel blocks equal separate ones; what layers with a coupling promise, record and learn."""

import math
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from research_eval.config import validate
from research_eval.errors import ConfigError
from research_eval.models._blocks import Block, attention_pattern
from research_eval.models._coupling import Readout, similarity
from research_eval.models._parallel_blocks import ParallelBlocks
from research_eval.models.gnn_moe import GNNMoEParams
from research_eval.registry import MODELS_MAP
from research_eval.spec import BodyInput, TransformerParams
from research_eval.testing.model_checks import (
    declared_costs_are_counted_costs,
    later_tokens_change_nothing_earlier,
    odd_batches_are_finite,
    samples_are_independent,
)
from research_eval.testing.subject import Subject, assert_close, gradients, task_loss

COUPLED = ("gnn_moe", "hgnn_moe")


def subject_of(model, task="language_modeling", **fields):
    return Subject.of(MODELS_MAP[model], task, **fields)


def stirred_blocks(count, **fields):
    """Return blocks whose every weight matters, gains and biases included."""
    params = TransformerParams(embed_dim=16, num_heads=4, ff_factor=2.0, **fields)
    blocks = [Block(params) for _ in range(count)]
    with torch.no_grad():
        for block in blocks:
            for weight in block.parameters():
                weight.add_(0.3 * torch.randn_like(weight))
    return params, blocks


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
@pytest.mark.parametrize("positions", ["learned", "rope"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_parallel_blocks_equal_separate_ones(activation, positions, causal, padded):
    params, blocks = stirred_blocks(3, activation=activation, positions=positions)
    parallel = ParallelBlocks(params, blocks)
    x_BLD = torch.randn(2, 5, 16, requires_grad=True)
    mask_BL = torch.tensor([[True] * 5, [True] * 3 + [False] * 2]) if padded else None
    ids_BL = torch.zeros(2, 5, dtype=torch.int64)
    pattern = attention_pattern(BodyInput(x_BLD, ids_BL, mask_BL), causal=causal)
    separate_ETD = torch.stack([block(x_BLD, pattern) for block in blocks]).flatten(1, 2)
    parallel_ETD = parallel(x_BLD, pattern)
    assert_close(parallel_ETD, separate_ETD, "outputs")

    upstream = torch.randn_like(separate_ETD)
    (expected,) = torch.autograd.grad(separate_ETD, x_BLD, upstream, retain_graph=True)
    (found,) = torch.autograd.grad(parallel_ETD, x_BLD, upstream, retain_graph=True)
    assert_close(found, expected, "gradient of the tokens")
    separate_ETD.backward(upstream)
    parallel_ETD.backward(upstream)
    for name, pick in {
        "attention_gain": lambda block: block.attention.norm.weight,
        "attention_bias": lambda block: block.attention.norm.bias,
        "qkv_ED3D": lambda block: block.attention.attention.qkv.weight,
        "mixed_EDD": lambda block: block.attention.attention.out.weight,
        "gain": lambda block: block.norm.weight,
        "bias": lambda block: block.norm.bias,
        "into_EDG": lambda block: block.feed_forward.into.weight,
        "out_EFD": lambda block: block.feed_forward.out.weight,
    }.items():
        stacked = getattr(parallel, name).grad.view(3, -1)
        for expert, block in enumerate(blocks):
            gradient = pick(block).grad
            expected = gradient.t() if gradient.ndim == 2 else gradient
            assert_close(stacked[expert], expected.flatten(), f"{name} of expert {expert}")


def test_norms_of_parallel_blocks_escape_weight_decay_like_those_of_one_block():
    params, blocks = stirred_blocks(3)
    vectors = sum(p.numel() for block in blocks for p in block.parameters() if p.ndim < 2)
    parallel = ParallelBlocks(params, blocks)
    assert sum(p.numel() for p in parallel.parameters() if p.ndim < 2) == vectors


def test_dropout_is_drawn_for_each_expert():
    params, blocks = stirred_blocks(1, dropout=0.5)
    twins = ParallelBlocks(params, [blocks[0], blocks[0]])
    x_BLD = torch.randn(2, 5, 16)
    pattern = attention_pattern(BodyInput(x_BLD, torch.zeros(2, 5), None), causal=False)
    first, second = twins(x_BLD, pattern)
    assert not torch.allclose(first, second)
    first, second = twins.eval()(x_BLD, pattern)
    assert torch.equal(first, second)


def test_rotary_positions_need_heads_of_even_width():
    with pytest.raises(ConfigError, match=r"embed_dim / num_heads = 1 is odd"):
        subject_of("gnn_moe", embed_dim=4, num_heads=4, positions="rope").network()


VARIANTS = [
    ("gnn_moe", {"num_experts": 1}),
    ("gnn_moe", {"num_experts": 2, "normalize": "sum"}),
    ("gnn_moe", {"num_experts": 8, "readout": "content", "positions": "rope"}),
    ("gnn_moe", {"coupling": "mean", "activation": "swiglu"}),
    ("hgnn_moe", {"num_experts": 1, "hyperedge_size": 1}),
    ("hgnn_moe", {"num_experts": 2, "edge_gate": True}),
    ("hgnn_moe", {"num_experts": 8, "hyperedges": "all_triplets", "readout": "content"}),
    ("hgnn_moe", {"num_experts": 5, "hyperedges": "all_triplets", "edge_gate": True}),
    ("hgnn_moe", {"num_experts": 3, "hyperedges": "all"}),
    ("hgnn_moe", {"num_experts": 8, "hyperedges": "ring", "hyperedge_size": 3}),
    ("hgnn_moe", {"num_experts": 3, "hyperedges": "dynamic", "hyperedge_size": 3}),
    ("hgnn_moe", {"hyperedges": [[0, 1], [1, 2, 3]], "edge_gate": True}),
    ("hgnn_moe", {"coupling": "mean"}),
]


@pytest.mark.parametrize(("model", "fields"), VARIANTS, ids=str)
def test_every_variant_keeps_the_promises_that_a_coupling_could_break(model, fields):
    subject = subject_of(model, **fields)
    later_tokens_change_nothing_earlier(subject)
    samples_are_independent(subject)
    odd_batches_are_finite(subject)
    declared_costs_are_counted_costs(subject)
    samples_are_independent(subject_of(model, "classification", **fields))


@pytest.mark.parametrize("model", COUPLED)
def test_checkpointing_changes_memory_and_nothing_else(model):
    plain = subject_of(model, dropout=0.3, readout="content")
    leaner = plain.having(checkpoint_activations=True)
    found = []
    for subject in (plain, leaner):
        network, batch = subject.network(), subject.batch(padded=True)
        torch.manual_seed(3)
        loss = task_loss(network, batch).detach()
        torch.manual_seed(3)
        found.append({"loss": loss, **gradients(network, batch)})
        evaluated = network.eval()(batch.ids_BL, batch.mask_BL, batch.labels)
        assert len(evaluated.couplings) == 2
    for name, expected in found[0].items():
        assert torch.equal(found[1][name], expected), name
    deep = [s.having(num_layers=8).network() for s in (plain, leaner)]
    kept = [network.step_bytes(256, 12, nullcontext) for network in deep]
    assert kept[1] < kept[0] / 5  # of its eight layers, one at a time is held whole


@pytest.mark.parametrize("model", COUPLED)
def test_every_expert_and_every_coupling_weight_learns(model):
    network = subject_of(model, readout="content").network()
    batch = subject_of(model).batch(rows=32)
    for name, gradient in gradients(network, batch).items():
        stacked = any(part in name for part in ("_ED3D", "_EDD", "_EDG", "_EFD"))
        for one in gradient if stacked else [gradient]:
            assert one.abs().max() > 1e-9, name


@pytest.mark.parametrize("model", COUPLED)
def test_coupling_changes_the_function_and_the_ablation_has_none(model):
    coupled = subject_of(model)
    mean = coupled.having(coupling="mean")
    networks = [subject.network(stirred=False).eval() for subject in (coupled, mean)]
    networks[1].load_state_dict(networks[0].state_dict(), strict=False)
    ids_BL = coupled.batch().ids_BL
    outputs = [network.logits(ids_BL, None) for network in networks]
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3
    assert not any("coupling" in name for name, _ in networks[1].named_parameters())


@pytest.mark.parametrize("model", COUPLED)
def test_renumbered_experts_permute_the_records_and_nothing_else(model):
    subject = subject_of(model, num_layers=1, gnn_layers=1, readout="content")
    network, batch = subject.network().eval(), subject.batch(padded=True)
    order = torch.tensor([2, 0, 3, 1])
    before = network(batch.ids_BL, batch.mask_BL, batch.labels)
    with torch.no_grad():
        experts = network.body.layers[0].experts
        for stack in experts.parameters():
            stack.copy_(stack.view(4, -1)[order].view_as(stack))
        for name, weight in network.body.layers[0].coupling.named_parameters():
            if name.endswith("edges_EE"):
                weight.copy_(weight[order][:, order])
            if name.endswith("weights_H"):  # pairs of experts in the order of `combinations`
                pairs = torch.zeros(4, 4)
                first, second = torch.combinations(torch.arange(4)).unbind(1)
                pairs[first, second] = pairs[second, first] = weight.clone()
                weight.copy_(pairs[order][:, order][first, second])
    after = network(batch.ids_BL, batch.mask_BL, batch.labels)
    assert_close(after.loss, before.loss, "loss")
    for field in ("weights_EE", "similarity_EE"):
        expected = getattr(before.couplings[0], field)[order][:, order]
        assert_close(getattr(after.couplings[0], field), expected, field)
        assert not torch.allclose(getattr(before.couplings[0], field), expected, atol=1e-4)


@pytest.mark.parametrize("model", COUPLED)
def test_records_are_made_in_evaluation_over_the_real_tokens(model):
    subject = subject_of(model, num_layers=1, **({} if model == "gnn_moe" else {"edge_gate": True}))
    network, batch = subject.network(), subject.batch(padded=True)
    assert network(batch.ids_BL, batch.mask_BL, batch.labels).couplings == ()
    network.eval()
    rows, real = [], []
    for row, mask_L in enumerate(batch.mask_BL):
        length = int(mask_L.sum())
        output = network(batch.ids_BL[row : row + 1, :length], None, batch.labels[row, :length])
        rows.append(output.couplings[0])
        real.append(length)
    (together,) = network(batch.ids_BL, batch.mask_BL, batch.labels).couplings
    share = torch.tensor(real) / sum(real)
    for field in ("weights_EE", "similarity_EE"):
        expected = sum(s * getattr(row, field) for s, row in zip(share, rows, strict=True))
        assert_close(getattr(together, field), expected, field)
        assert not getattr(together, field).requires_grad


def test_the_record_of_an_uncoupled_layer_says_that_nobody_takes_anything():
    subject = subject_of("gnn_moe", coupling="mean")
    batch = subject.batch()
    records = subject.network().eval()(batch.ids_BL, None, batch.labels).couplings
    assert [record.layer for record in records] == [0, 1]
    assert not records[0].weights_EE.any()
    assert records[0].similarity_EE.diag().allclose(torch.ones(4))


def test_similarity_is_the_mean_cosine():
    x_TED = torch.randn(7, 3, 5)
    expected_EE = F.cosine_similarity(x_TED[:, :, None], x_TED[:, None], dim=-1).mean(dim=0)
    assert_close(similarity(x_TED), expected_EE, "similarity")
    twins_TED = x_TED[:, :1] + 1e-3 * torch.randn(7, 2, 5)
    assert 0.9999 < similarity(twins_TED)[0, 1] <= 1
    assert similarity(x_TED[:0]).isfinite().all()


def test_a_content_readout_starts_as_the_mean_and_follows_its_scores():
    params = GNNMoEParams(embed_dim=8, readout="content")
    readout, plain = Readout(params), Readout(params.model_copy(update={"readout": "mean"}))
    plain.load_state_dict(readout.state_dict(), strict=False)
    x_TED = torch.randn(6, 4, 8)
    assert_close(readout(x_TED), plain(x_TED), "fresh readout")
    with torch.no_grad():
        readout.score_D.copy_(1e4 * torch.eye(8)[0])
    loudest_T = x_TED[:, :, 0].argmax(dim=1)
    chosen_T1D = x_TED[torch.arange(6), loudest_T][:, None]
    assert_close(readout(x_TED), plain(chosen_T1D), "readout of the expert with the top score")


@pytest.mark.parametrize("model", COUPLED)
def test_names_of_the_originals_are_understood(model):
    config = {"experiment_name": "t", "model_type": model, "dataset_name": "parity"}
    given = {"num_experts_per_layer": 3, "dropout_rate": 0.1, "dim_feedforward_factor": 2.0}
    params = validate({**config, "model_params": given}).config.model_params
    assert (params.num_experts, params.dropout, params.ff_factor) == (3, 0.1, 2.0)


def train(subject, draw, steps, goal=0.0):
    """Return the mean loss of the last 20 steps; stop where it is below `goal`."""
    network = subject.network(stirred=False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        ids_BL, labels = draw()
        loss = network(ids_BL, None, labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if len(losses) >= 20 and sum(losses[-20:]) < 20 * goal:
            break
    return sum(losses[-20:]) / 20


@pytest.mark.parametrize(
    ("model", "fields"), [("gnn_moe", {}), ("hgnn_moe", {"edge_gate": True})], ids=str
)
def test_noise_teaches_nothing(model, fields):
    """The original hypergraph reached 0.004 here, with four experts and all pairs."""
    rng = torch.Generator().manual_seed(5)

    def draw():
        ids_BL = torch.randint(0, 32, (16, 13), generator=rng)
        return ids_BL[:, :-1], ids_BL[:, 1:]

    subject = subject_of(model, num_experts=4, num_layers=1, embed_dim=16, **fields)
    assert train(replace(subject, vocab_size=32), draw, 150) >= math.log(32) - 0.01


@pytest.mark.parametrize("model", COUPLED)
def test_parity_of_short_rows_is_learned(model):
    rng = torch.Generator().manual_seed(5)

    def draw():
        ids_BL = torch.randint(1, 7, (64, 6), generator=rng)
        return ids_BL, (ids_BL == 1).sum(dim=1) % 2

    subject = subject_of(model, "classification", num_experts=2, num_layers=1)
    assert train(subject, draw, 300, goal=0.15) < 0.15

"""Replaced routing, over every registered model: what it changes, and what it must not."""

import pytest
import torch

from research_eval.diagnostics.routing import load_counts, served
from research_eval.errors import ConfigError
from research_eval.registry import MODELS_MAP
from research_eval.routing_controls import CONTROLS
from research_eval.spec import RouterOutput
from research_eval.testing.subject import Subject

E = 5
"""Experts; no other size of the subjects is 5."""

ROUTED = [name for name, spec in MODELS_MAP.items() if "num_experts" in spec.params.model_fields]
TASKS = ("classification", "language_modeling")

each_model = pytest.mark.parametrize("model", ROUTED)
each_control = pytest.mark.parametrize("control", list(CONTROLS))
each_task = pytest.mark.parametrize("task", TASKS)


def network_of(model, task="language_modeling", **fields):
    subject = Subject.of(MODELS_MAP[model], task, **{"num_experts": E, **fields})
    network = subject.network().eval()
    with torch.no_grad():
        for parameter in network.routing_parameters():
            parameter.mul_(3)  # decisions that differ between tokens
    return subject, network


def run(network, batch, control=None, seed=0):
    with torch.no_grad():
        if control is None:
            return network(batch.ids_BL, batch.mask_BL, batch.labels)
        with network.routing_replaced(control, seed=seed):
            return network(batch.ids_BL, batch.mask_BL, batch.labels)


def logits(network, batch, control=None):
    with torch.no_grad():
        if control is None:
            return network.logits(batch.ids_BL, batch.mask_BL)
        with network.routing_replaced(control):
            return network.logits(batch.ids_BL, batch.mask_BL)


def make_experts_alike(network):
    """Give all experts the weights of the first; what decides keeps its own."""
    deciding = {id(parameter) for parameter in network.routing_parameters()}
    with torch.no_grad():
        for name, parameter in network.body.named_parameters():
            if ".experts." not in f".{name}" or id(parameter) in deciding:
                continue
            by_expert = parameter if parameter.shape[0] == E else parameter.view(E, -1)
            by_expert.copy_(by_expert[:1].expand_as(by_expert).clone())


@each_model
@each_control
def test_other_experts_give_another_result_and_what_was_learned_comes_back(model, control):
    subject, network = network_of(model)
    batch = subject.batch(rows=8, padded=True)
    before = logits(network, batch)
    assert not torch.allclose(logits(network, batch, control), before, atol=1e-4)
    assert torch.equal(logits(network, batch), before)
    with pytest.raises(RuntimeError, match="boom"), network.routing_replaced(control):
        raise RuntimeError("boom")
    assert torch.equal(logits(network, batch), before)


# In goe_original, as a language model, a token's output gate looks at those who share its expert.
ALIKE = [(m, t) for m in ROUTED for t in TASKS if (m, t) != ("goe_original", "language_modeling")]


@pytest.mark.parametrize(("model", "task"), ALIKE)
@each_control
def test_among_experts_that_are_alike_it_does_not_matter_who_is_chosen(model, task, control):
    subject, network = network_of(model, task)
    make_experts_alike(network)
    batch = subject.batch(rows=6, padded=True)
    torch.testing.assert_close(
        logits(network, batch, control), logits(network, batch), atol=2e-5, rtol=1e-4
    )


@each_model
@each_control
def test_a_control_repeats_and_another_seed_draws_anew(model, control):
    subject, network = network_of(model)
    batch = subject.batch(rows=8, padded=True)
    first, again, other = (run(network, batch, control, seed).losses for seed in (0, 0, 1))
    assert torch.equal(first, again)
    if control == "random":
        assert not torch.equal(first, other)


@each_model
@each_control
def test_no_token_learns_of_a_later_one_of_its_row(model, control):
    subject, network = network_of(model)
    batch = subject.batch(rows=4)
    before = logits(network, batch, control)
    batch.ids_BL[0, -3:] = (batch.ids_BL[0, -3:] + 5) % subject.vocab_size
    after = logits(network, batch, control)
    torch.testing.assert_close(after[0, :-3], before[0, :-3])
    assert not torch.allclose(after[0, -1], before[0, -1])


@each_model
@each_task
@pytest.mark.parametrize("control", ["random", "uniform"])
def test_random_and_uniform_decisions_depend_on_no_other_row(model, control, task):
    subject, network = network_of(model, task)
    batch = subject.batch(rows=4, padded=True)
    together = run(network, batch, control).losses
    for row in range(4):
        alone = type(batch)(*(part[row : row + 1] for part in vars_of(batch)))
        torch.testing.assert_close(run(network, alone, control).losses[0], together[row])


def vars_of(batch):
    return batch.ids_BL, batch.mask_BL, batch.labels


@pytest.mark.parametrize("model", ["dense", "gnn_moe", "hgnn_moe"])
def test_a_model_that_decides_nothing_is_refused(model):
    fields = {} if model == "dense" else {"coupling": "mean"}
    network = Subject.of(MODELS_MAP[model], "classification", **fields).network()
    with pytest.raises(ConfigError, match=f"model {model}, as it is configured, has no routing"):
        network.routing_replaced("random").__enter__()


# ------------------------------------------------------------------------------ tokens and experts


def first_layer(network, batch, control=None):
    return run(network, batch, control).routing[0]


def test_random_experts_are_different_and_about_equally_frequent():
    subject, network = network_of("moe")
    record = first_layer(network, subject.batch(rows=60), "random")
    assert (record.chosen_TK[:, 0] != record.chosen_TK[:, 1]).all()
    shares = load_counts(record) / record.chosen_TK.numel()
    assert (shares - 1 / E).abs().max() < 0.05
    assert torch.equal(record.weights_TK, first_layer(network, subject.batch(rows=60)).weights_TK)


def test_uniform_gives_every_expert_an_equal_part_of_the_weight():
    subject, network = network_of("moe", top_k=1)
    batch = subject.batch()
    learned, uniform = (first_layer(network, batch, control) for control in (None, "uniform"))
    assert uniform.chosen_TK.shape[1] == E
    torch.testing.assert_close(uniform.weights_TK * E, learned.weights_TK.expand(-1, E))


def test_shuffled_tokens_exchange_decisions_with_their_own_position():
    subject, network = network_of("moe")
    batch = subject.batch(rows=8, padded=True)
    learned, shuffled = (first_layer(network, batch, control) for control in (None, "shuffled"))
    assert torch.equal(load_counts(learned), load_counts(shuffled))
    positions_T = batch.mask_BL.nonzero()[:, 1]
    for position in positions_T.unique():
        rows = [r.chosen_TK[positions_T == position].tolist() for r in (learned, shuffled)]
        assert sorted(rows[0]) == sorted(rows[1])
    assert (learned.chosen_TK != shuffled.chosen_TK).any(dim=1).float().mean() > 0.3


@each_control
def test_a_token_that_no_expert_took_keeps_its_weight_of_nothing(control):
    subject, network = network_of("moe", router="threshold", threshold=0.6)
    batch = subject.batch(rows=8)
    learned, replaced = (first_layer(network, batch, name) for name in (None, control))
    fell = [(~served(record).any(dim=1)).sum() for record in (learned, replaced)]
    assert 0 < fell[0] < len(learned.chosen_TK)
    assert fell[0] == fell[1]


def test_an_empty_batch_of_tokens_is_shuffled_into_itself():
    nobody = torch.zeros(0, dtype=torch.int64)
    routed = RouterOutput(nobody.view(0, 2), torch.zeros(0, 2), torch.zeros(0, E))
    for control in CONTROLS.values():
        assert len(control(0, 0).experts(routed, E, nobody, nobody).chosen_TK) == 0


# ------------------------------------------------------------------------------------------- paths


@each_control
@each_task
def test_a_path_ends_where_the_controller_ends_it_and_visit_limits_hold(control, task):
    subject, network = network_of(
        "goe_original", task, num_experts=3, num_layers=4, max_visits_per_expert=1
    )
    with torch.no_grad():
        network.body.controller.norm.bias[-1] = 0.5  # some paths end early
    batch = subject.batch(rows=24, padded=True)
    learned, replaced = (run(network, batch, name).path.chosen_NP for name in (None, control))
    assert torch.equal(learned[:, 0] < 0, replaced[:, 0] < 0)
    assert (replaced[:, -1] == -1).all()  # three experts, one visit each
    for path in replaced.tolist():
        visited = [expert for expert in path if expert >= 0]
        assert len(set(visited)) == len(visited)
        assert path[: len(visited)] == visited


def test_uniform_paths_visit_the_experts_in_turn():
    subject, network = network_of("goe", num_layers=E)
    chosen_NP = run(network, subject.batch(), "uniform").path.chosen_NP
    assert (chosen_NP.sort(dim=1).values == torch.arange(E)).all()
    assert chosen_NP[:, 0].unique().numel() == E


# ---------------------------------------------------------------------------------------- couplings


@each_control
@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4)])
def test_an_expert_takes_as_much_from_the_others_as_before_and_keeps_its_own(control, shape):
    weights = torch.rand(shape)
    replaced = CONTROLS[control](0, 0).coupling(weights)
    torch.testing.assert_close(replaced.sum(dim=-1), weights.sum(dim=-1))
    assert torch.equal(replaced.diagonal(dim1=-2, dim2=-1), weights.diagonal(dim1=-2, dim2=-1))
    off = ~torch.eye(4, dtype=torch.bool)
    assert ((replaced - weights)[..., off].abs() > 1e-6).all()


def test_shuffled_experts_exchange_givers():
    weights = torch.tensor([[9.0, 1, 2, 3], [4, 9, 5, 6], [7, 8, 9, 1], [2, 3, 4, 9]])
    expected = [[9.0, 3, 1, 2], [6, 9, 4, 5], [1, 7, 9, 8], [4, 2, 3, 9]]
    assert CONTROLS["shuffled"](0, 0).coupling(weights).tolist() == expected


@each_control
def test_with_two_experts_there_is_nobody_else_to_take_from(control):
    weights = torch.rand(3, 2, 2)
    torch.testing.assert_close(CONTROLS[control](0, 0).coupling(weights), weights)

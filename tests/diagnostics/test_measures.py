"""Measures of what experts do, against values worked out by hand."""

import math

import pytest
import torch

from research_eval.diagnostics import coupling, load, paths, routing, specialisation
from research_eval.diagnostics.totals import ExpertTotals
from research_eval.spec import CouplingRecord, PathRecord, RoutingRecord


def record(chosen, probs, *, weights=None, dropped=None, layer=0):
    probs_TE = torch.tensor(probs)
    return RoutingRecord(
        layer=layer,
        num_experts=probs_TE.shape[1],
        probs_TE=probs_TE,
        chosen_TK=torch.tensor(chosen),
        weights_TK=torch.ones(len(chosen), len(chosen[0]))
        if weights is None
        else torch.tensor(weights),
        dropped_TK=None if dropped is None else torch.tensor(dropped),
    )


EVEN, ONE = torch.tensor([5, 5, 5, 5]), torch.tensor([8, 0, 0, 0])


@pytest.mark.parametrize(
    ("measure", "even", "one"),
    [
        (load.load_entropy, 1, 0),
        (load.effective_experts, 4, 1),
        (load.variation, 0, math.sqrt(3)),
        (load.max_violation, 0, 3),
        (load.dead_experts, 0, 3),
    ],
)
def test_load_measures_span_their_range(measure, even, one):
    assert measure(EVEN) == pytest.approx(even)
    assert measure(ONE) == pytest.approx(one)


def test_a_single_expert_is_even_and_no_load_is_no_number():
    assert load.load_entropy(torch.tensor([3])) == 1
    assert math.isnan(load.load_entropy(torch.tensor([0, 0])))
    assert math.isnan(load.variation(torch.tensor([0, 0])))


def test_an_expert_is_dead_below_a_tenth_of_an_even_share():
    assert load.dead_experts(torch.tensor([98, 2])) == 1  # 0.02 < 0.05
    assert load.dead_experts(torch.tensor([94, 6])) == 0


def test_only_choices_that_were_worked_on_count_as_load():
    probs = [[0.5, 0.5, 0.0], [0.5, 0.25, 0.25]]
    assert routing.load_counts(record([[0, 1], [0, 2]], probs)).tolist() == [2, 1, 1]
    dropped = record([[0, 1], [0, 2]], probs, dropped=[[False, True], [False, False]])
    assert routing.load_counts(dropped).tolist() == [2, 0, 1]
    assert float(routing.drop_rate(dropped)) == 0.25
    unweighted = record([[0, 1], [0, 2]], probs, weights=[[1.0, 0.0], [0.0, 0.0]])
    assert routing.load_counts(unweighted).tolist() == [1, 0, 0]
    assert int(routing.fallen_through(unweighted)) == 1


def test_certainty_of_a_token():
    made = record([[0], [1]], [[0.5, 0.5], [0.1, 0.9]])
    assert routing.token_entropy(made)[0] == pytest.approx(math.log(2))
    assert routing.token_margin(made).tolist() == pytest.approx([0.0, 0.8])


def test_coactivation_counts_tokens_that_chose_both():
    made = record([[0, 1], [0, 2], [1, 0]], [[1 / 3] * 3] * 3)
    assert routing.coactivation(made).tolist() == [[3, 2, 1], [2, 2, 0], [1, 0, 1]]


def test_saturation_is_the_share_of_final_choices_made_early():
    early = torch.tensor([[0, 1], [2, 3]])
    final = torch.tensor([[1, 0], [2, 0]])
    assert routing.saturation(early, final) == pytest.approx(0.75)


def test_mutual_information_of_known_tables():
    assert specialisation.mutual_information(torch.tensor([[4, 0], [0, 4]])) == pytest.approx(
        math.log(2)
    )
    assert specialisation.mutual_information(torch.tensor([[2, 2], [2, 2]])) == pytest.approx(0)
    assert specialisation.mutual_information(torch.zeros(2, 2)) == 0


def test_specialisation_stands_out_from_chance_only_where_it_is_real():
    groups_N = torch.arange(60) % 3
    real = specialisation.specialisation(groups_N, torch.eye(3)[groups_N] * 10)
    assert real.information == pytest.approx(math.log(3))
    assert real.information > 5 * real.chance_high
    generator = torch.Generator().manual_seed(0)
    by_chance = torch.randint(0, 9, (60, 3), generator=generator)
    none = specialisation.specialisation(groups_N, by_chance)
    assert none.information < none.chance_high
    assert none.counts_GE.sum() == by_chance.sum()


def test_the_baseline_knows_that_tokens_of_a_row_go_together():
    # Ten rows whose 1,000 tokens each go to one expert, by chance: tokens are no evidence.
    generator = torch.Generator().manual_seed(1)
    experts = torch.randint(0, 2, (10,), generator=generator)
    found = specialisation.specialisation(torch.arange(10) % 2, torch.eye(2)[experts] * 1000)
    assert found.chance_high > 0.1


def test_coupling_measures():
    alike = torch.ones(3, 3)
    ring = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert coupling.row_entropy(alike) == pytest.approx(1)
    assert coupling.row_entropy(ring) == pytest.approx(0)
    assert math.isnan(coupling.row_entropy(torch.ones(2, 2)))
    assert coupling.asymmetry(alike) == 0
    assert coupling.asymmetry(ring) == pytest.approx(1)
    assert coupling.mean_similarity(torch.tensor([[1.0, 0.2], [0.4, 1.0]])) == pytest.approx(0.3)
    assert math.isnan(coupling.mean_similarity(torch.ones(1, 1)))


def test_paths():
    chosen = torch.tensor([[0, 1], [0, 1], [1, -1], [-1, -1]])
    found = paths.summarise(chosen, num_experts=2)
    assert found.mean_length == pytest.approx(5 / 4)
    assert found.ended_early == 0.5
    assert found.ended_at_once == 0.25
    assert found.top_share == 0.5
    entropy = 0.5 * math.log(2) + 2 * 0.25 * math.log(4)
    assert found.effective_paths == pytest.approx(math.exp(entropy))
    assert found.usage_PE.tolist() == [[0.5, 0.25], [0.0, 0.5]]
    # Expert 0 is visited twice and both times followed by 1; expert 1 ends every path.
    assert found.transitions_EE.tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_totals_add_up_over_batches_and_leave_out_padding():
    totals = ExpertTotals()
    mask = torch.tensor([[True, True], [True, False]])
    first = record([[0], [1], [1]], [[0.9, 0.1], [0.2, 0.8], [0.2, 0.8]])
    totals.add((first,), (), None, mask, (2, 2), torch.tensor([0, 1]))
    second = record([[0], [0]], [[1.0, 0.0], [1.0, 0.0]])
    totals.add((second,), (), None, None, (1, 2), torch.tensor([0]))
    report = totals.report()
    assert report.arrays["load_share"][0].tolist() == pytest.approx([0.6, 0.4])
    assert report.arrays["by_group"][0].tolist() == [[3, 1], [0, 1]]
    assert report.arrays["chosen"][0].tolist() == [[0], [1], [1], [0], [0]]
    assert report.scores["router_margin_layer0"] == pytest.approx((0.8 + 0.6 + 0.6 + 2) / 5)


def test_totals_of_couplings_are_weighted_by_tokens():
    totals = ExpertTotals()
    one, two = torch.eye(2), torch.ones(2, 2)
    for weights, shape in ((one, (1, 3)), (two, (1, 1))):
        made = CouplingRecord(layer=1, weights_EE=weights, similarity_EE=two)
        totals.add((), (made,), None, None, shape, None)
    report = totals.report()
    assert report.arrays["coupling"][1].tolist() == [[1.0, 0.25], [0.25, 1.0]]
    assert report.scores["expert_similarity_layer1"] == pytest.approx(1)


def test_totals_of_paths():
    totals = ExpertTotals()
    for chosen in ([[0, 2]], [[1, -1]]):
        path = PathRecord(
            num_experts=3, chosen_NP=torch.tensor(chosen), probs_NPA=torch.ones(1, 2, 4) / 4
        )
        totals.add((), (), path, None, (1, 1), None)
    report = totals.report()
    assert report.scores["path_length"] == 1.5
    assert report.arrays["path_usage"][0].tolist() == [0.5, 0.5, 0.0]


def test_a_model_without_experts_has_nothing_to_report():
    report = ExpertTotals().report()
    assert not report.scores
    assert not report.arrays

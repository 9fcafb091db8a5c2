"""Every router keeps every promise; and what each of them alone does."""

import pytest
import torch

from research_eval.models._balance import load_balance, router_z
from research_eval.models.moe import MoEParams
from research_eval.registry import ROUTERS_MAP
from research_eval.spec import RouterContext, RouterInput
from research_eval.testing.routers import RouterContract


class TestRouters(RouterContract):
    @pytest.fixture(params=sorted(ROUTERS_MAP))
    def spec(self, request):
        return ROUTERS_MAP[request.param]


def build(name, num_experts=8, top_k=2, layer=0):
    context = RouterContext(
        num_experts=num_experts,
        top_k=top_k,
        vocab_size=5000,
        layer=layer,
        causal=False,
        params=MoEParams(),
    )
    return ROUTERS_MAP[name].build(context)


def tokens(ids_T, num_experts=8):
    positions_T = torch.arange(len(ids_T))
    return RouterInput(torch.zeros(len(ids_T), num_experts), ids_T, positions_T)


def test_softmax_weights_are_renormalised_for_two_experts_but_not_for_one():
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.0]])
    ids = torch.zeros(1, dtype=torch.int64)
    one = build("softmax", 4, 1)(RouterInput(logits, ids, ids))
    two = build("softmax", 4, 2)(RouterInput(logits, ids, ids))
    probs = logits.softmax(dim=1)[0]
    assert one.chosen_TK.tolist() == [[0]]
    assert one.weights_TK[0, 0] == probs[0]
    assert two.chosen_TK.tolist() == [[0, 2]]
    assert torch.allclose(two.weights_TK[0], probs[[0, 2]] / (probs[0] + probs[2]))


def test_hash_sends_a_token_id_to_the_same_experts_wherever_it_stands():
    chosen = build("hash")(tokens(torch.tensor([7, 3, 7, 7]))).chosen_TK
    assert torch.equal(chosen[0], chosen[2])
    assert torch.equal(chosen[0], chosen[3])
    assert not torch.equal(chosen[0], chosen[1])


@pytest.mark.parametrize("name", ["hash", "random"])
def test_controls_spread_tokens_evenly_and_each_layer_differently(name):
    ids = torch.arange(5000)
    first, second = (build(name, layer=layer).eval()(tokens(ids)).chosen_TK for layer in (0, 1))
    share = torch.bincount(first.flatten(), minlength=8) / first.numel()
    assert (share - 1 / 8).abs().max() < 0.01  # 3.4 standard deviations of an even draw
    same = (first == second).float().mean()
    assert abs(same - 1 / 8) < 0.02


def test_random_draws_anew_in_training_and_never_in_evaluation():
    router, batch = build("random"), tokens(torch.arange(100))
    assert not torch.equal(router(batch).chosen_TK, router(batch).chosen_TK)
    router.eval()
    assert torch.equal(router(batch).chosen_TK, router(batch).chosen_TK)


def test_random_evaluation_depends_on_the_position():
    router = build("random").eval()
    chosen = router(tokens(torch.full((100,), 7))).chosen_TK
    assert len(set(map(tuple, chosen.tolist()))) > 20


@pytest.mark.parametrize("top_k", [1, 2])
def test_load_balance_is_one_when_even_and_e_when_one_expert_gets_all(top_k):
    num_experts, probs = 4, torch.full((8, 4), 0.25)
    even = torch.arange(8 * top_k).view(8, top_k) % num_experts
    assert load_balance(even, probs).item() == pytest.approx(1)
    collapsed = torch.zeros(8, 1, dtype=torch.int64)
    certain = torch.eye(4)[0].expand(8, 4)
    assert load_balance(collapsed, certain).item() == pytest.approx(num_experts)


def test_router_z_is_the_mean_squared_logsumexp():
    logits = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    ln2 = torch.log(torch.tensor(2.0)).item()
    assert router_z(logits).item() == pytest.approx((ln2**2 + (1 + ln2) ** 2) / 2)

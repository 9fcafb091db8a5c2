"""What each learned router chooses and how it weighs, against numbers worked out by hand."""

import math

import pytest
import torch


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_sigmoid_weighs_by_scores_that_do_not_compete(router, scores):
    found = router("sigmoid", 4, 2)(scores([[0.0, 2.0, -1.0, 1.0]]))
    assert found.chosen_TK.tolist() == [[1, 3]]
    total = sigmoid(2) + sigmoid(1)
    assert found.weights_TK[0].tolist() == pytest.approx([sigmoid(2) / total, sigmoid(1) / total])
    everything = sum(map(sigmoid, (0, 2, -1, 1)))
    assert found.probs_TE[0, 2].item() == pytest.approx(sigmoid(-1) / everything)


def test_sigmoid_of_one_expert_is_not_moved_by_the_others(router, scores):
    one = router("sigmoid", 3, 1)
    weights = one(scores([[1.0, 0.0, 0.0], [1.0, -9.0, 0.9]])).weights_TK
    assert weights.flatten().tolist() == pytest.approx([sigmoid(1)] * 2)


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "noisy_topk", "threshold"])
def test_straight_through_weighs_one_with_the_gradient_of_the_score(name, router, scores):
    gradients = []
    for k1_weight in ("prob", "straight_through"):
        tokens = scores([[1.0, 0.2, -0.5]])
        tokens.logits_TE.requires_grad_()
        weights = router(name, 3, 1, k1_weight=k1_weight)(tokens).weights_TK
        (gradient,) = torch.autograd.grad(weights.sum(), tokens.logits_TE)
        gradients.append(gradient)
    assert weights.item() == 1
    assert gradients[0].any()
    assert torch.equal(*gradients)


def test_noise_is_annealed_to_nothing(router, scores):
    noisy, clean = (router(name, 8, 2) for name in ("noisy_topk", "softmax"))
    logits = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    agreement = []
    for progress in (0.0, 0.5, 0.9, 1.0):
        tokens = scores(logits, progress=progress)
        same = noisy(tokens).chosen_TK[:, 0] == clean(tokens).chosen_TK[:, 0]
        agreement.append(same.float().mean().item())
    assert agreement == sorted(agreement)
    assert agreement[0] < 0.6
    assert agreement[-1] == 1


def test_noise_moves_choices_only_and_never_in_evaluation(router, scores):
    noisy, clean = router("noisy_topk", 8, 2, router_noise=5.0), router("softmax", 8, 8)
    tokens = scores(torch.randn(50, 8), progress=0.0)
    drawn, exact = noisy(tokens), clean(tokens)
    assert torch.allclose(drawn.probs_TE, exact.probs_TE)
    chosen_probs = exact.probs_TE.gather(1, drawn.chosen_TK)
    expected = chosen_probs / chosen_probs.sum(dim=1, keepdim=True)
    assert torch.allclose(drawn.weights_TK, expected)
    assert not torch.equal(drawn.chosen_TK, noisy(tokens).chosen_TK)
    noisy.eval()
    assert torch.equal(noisy(tokens).chosen_TK, exact.chosen_TK[:, :2])


def test_threshold_takes_what_exceeds_it(router, scores):
    # Sigmoids: 0.731, 0.5, 0.269 and so on; the threshold is 0.6, that is z > 0.405.
    tokens = scores([[1.0, 0.0, 2.0, 3.0], [1.0, 0.0, 0.3, 0.1], [0.0, 0.1, 0.4, -2.0]])
    tokens.logits_TE.requires_grad_()
    found = router("threshold", 4, 2, threshold=0.6)(tokens)
    assert found.chosen_TK[0].tolist() == [3, 2], "no more than top_k, the highest"
    total = sigmoid(3) + sigmoid(2)
    assert found.weights_TK[0].tolist() == pytest.approx([sigmoid(3) / total, sigmoid(2) / total])
    assert found.chosen_TK[1, 0] == 0
    assert found.weights_TK[1].tolist() == pytest.approx([sigmoid(1), 0])
    assert found.weights_TK[2].tolist() == [0, 0]
    (gradient,) = torch.autograd.grad(found.weights_TK.square().sum(), tokens.logits_TE)
    assert gradient.isfinite().all()
    assert [row.any().item() for row in gradient] == [True, True, False]


def test_expert_choice_loads_all_experts_alike_in_training(router, scores):
    logits = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    logits[:, 0] += 3  # every token likes expert 0 best
    found = router("expert_choice", 4, 2)(scores(logits))
    taken = found.weights_TK != 0
    counts = torch.bincount(found.chosen_TK[taken], minlength=4)
    assert counts.tolist() == [32, 32, 32, 32]
    liked = found.probs_TE[:, 0].topk(32).indices
    took_0 = ((found.chosen_TK == 0) & taken).any(dim=1).nonzero().squeeze(1)
    assert set(took_0.tolist()) == set(liked.tolist())
    probs = found.probs_TE.gather(1, found.chosen_TK)
    assert torch.equal(found.weights_TK[taken], probs[taken])


def test_expert_choice_is_token_choice_in_evaluation(router, scores):
    logits = torch.randn(64, 4)
    found = router("expert_choice", 4, 2).eval()(scores(logits))
    top = logits.softmax(dim=1).topk(2, dim=1)
    assert torch.equal(found.chosen_TK, top.indices)
    assert torch.equal(found.weights_TK, top.values)

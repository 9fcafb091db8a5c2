"""What every router promises, as functions that raise `AssertionError` with a readable message.

T tokens, E experts, K experts chosen per token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from research_eval.spec import RouterContext, RouterInput, RouterOutput, RouterSpec
from research_eval.testing.subject import assert_close

SIZES = ((1, 1), (4, 1), (4, 2), (8, 3), (3, 3))
"""Pairs (E, K) that every router is tried with."""

VOCABULARY = 50


def _routers(spec: RouterSpec, params: Any) -> Iterator[tuple[str, nn.Module, RouterContext]]:
    for num_experts, top_k in SIZES:
        torch.manual_seed(0)
        context = RouterContext(
            num_experts=num_experts,
            top_k=top_k,
            vocab_size=VOCABULARY,
            layer=1,
            causal=False,
            params=params,
        )
        yield f"E={num_experts}, K={top_k}", spec.build(context), context


def _tokens(spec: RouterSpec, num_experts: int, num_tokens: int = 40) -> RouterInput:
    rng = torch.Generator().manual_seed(7)
    logits_TE = torch.zeros(num_tokens, num_experts)
    if spec.learned:
        logits_TE.normal_(std=2, generator=rng)
    ids_T = torch.randint(0, VOCABULARY, (num_tokens,), generator=rng)
    return RouterInput(logits_TE, ids_T, torch.arange(num_tokens) % 10)


def _part(tokens: RouterInput, index_T: Tensor) -> RouterInput:
    return RouterInput(
        tokens.logits_TE[index_T], tokens.ids_T[index_T], tokens.positions_T[index_T]
    )


def outputs_are_well_formed(spec: RouterSpec, params: Any) -> None:
    """Chosen experts exist and differ, weights are finite fp32, probabilities sum to one."""
    for what, router, context in _routers(spec, params):
        for training in (True, False):
            router.train(training)
            for num_tokens in (40, 1, 0):
                found = router(_tokens(spec, context.num_experts, num_tokens))
                case = f"{what}, {num_tokens} tokens"
                top_k = context.top_k
                if training and "batch_independent" in spec.waives:
                    top_k = found.chosen_TK.shape[1]
                _assert_well_formed(case, found, num_tokens, top_k, context.num_experts)


def _assert_well_formed(
    what: str, found: RouterOutput, num_tokens: int, top_k: int, num_experts: int
) -> None:
    chosen_TK, weights_TK, probs_TE = found.chosen_TK, found.weights_TK, found.probs_TE
    expected = (num_tokens, top_k)
    if chosen_TK.shape != expected or weights_TK.shape != expected:
        raise AssertionError(
            f"{what}: chosen {tuple(chosen_TK.shape)} and weights {tuple(weights_TK.shape)} "
            f"should be {expected}"
        )
    if chosen_TK.dtype != torch.int64 or weights_TK.dtype != torch.float32:
        raise AssertionError(f"{what}: chosen {chosen_TK.dtype}, weights {weights_TK.dtype}")
    if any(len(set(row)) < len(row) for row in chosen_TK.tolist()):
        raise AssertionError(f"{what}: a token chose the same expert twice")
    if num_tokens and not (chosen_TK.min() >= 0 and chosen_TK.max() < num_experts):
        raise AssertionError(f"{what}: an expert was chosen that does not exist")
    if not weights_TK.isfinite().all():
        raise AssertionError(f"{what}: a weight is not finite")
    if probs_TE.shape != (num_tokens, num_experts):
        raise AssertionError(f"{what}: probabilities have shape {tuple(probs_TE.shape)}")
    assert_close(probs_TE.sum(dim=1), torch.ones(num_tokens), f"{what}: sum of probabilities")


def extreme_scores_are_finite(spec: RouterSpec, params: Any) -> None:
    """Equal, huge and hugely negative scores give finite weights and gradients.

    The largest are beyond what fp16 and the fp32 products of bf16 inputs can reach.
    """
    for what, router, context in _routers(spec, params):
        tokens = _tokens(spec, context.num_experts)
        for scale in (0.0, 1e4, -1e4, 1e30, -1e30):
            logits_TE = (tokens.logits_TE * scale).requires_grad_()
            found = router(RouterInput(logits_TE, tokens.ids_T, tokens.positions_T))
            numbers = [found.weights_TK, found.probs_TE]
            if found.weights_TK.requires_grad:
                numbers += torch.autograd.grad(found.weights_TK.sum(), logits_TE)
            if not all(number.isfinite().all() for number in numbers):
                raise AssertionError(f"{what}: scores times {scale:g} give a value not finite")


def task_gradient_reaches_the_scores(spec: RouterSpec, params: Any) -> None:
    """A learned router gets a gradient through its weights, for k = 1 too; a control gets none."""
    for what, router, context in _routers(spec, params):
        if context.num_experts == 1:
            continue  # one expert leaves nothing to learn
        tokens = _tokens(spec, context.num_experts)
        logits_TE = tokens.logits_TE.requires_grad_()
        weights_TK = router(RouterInput(logits_TE, tokens.ids_T, tokens.positions_T)).weights_TK
        if not spec.learned:
            if weights_TK.requires_grad:
                raise AssertionError(f"{what}: declared as not learned, but the scores are used")
            continue
        if not weights_TK.requires_grad:
            raise AssertionError(f"{what}: the weights do not depend on the scores")
        pull_TK = torch.linspace(0.5, 2, weights_TK.numel()).view(weights_TK.shape)
        (gradient_TE,) = torch.autograd.grad((weights_TK * pull_TK).sum(), logits_TE)
        if not gradient_TE.abs().max() > 1e-5:
            raise AssertionError(f"{what}: the gradient of the scores is zero, so it never learns")


def tokens_are_routed_alone(spec: RouterSpec, params: Any) -> None:
    """In evaluation a token's experts depend on nothing but the token, and repeat."""
    for what, router, context in _routers(spec, params):
        router.eval()
        tokens = _tokens(spec, context.num_experts)
        together = router(tokens)
        for name, index_T in {
            "again": torch.arange(40),
            "in reverse order": torch.arange(40).flip(0),
            "without the later half": torch.arange(20),
            "alone": torch.tensor([17]),
        }.items():
            torch.manual_seed(len(name))
            found = router(_part(tokens, index_T))
            if not torch.equal(found.chosen_TK, together.chosen_TK[index_T]):
                raise AssertionError(f"{what}: tokens routed {name} get other experts")
            assert_close(found.weights_TK, together.weights_TK[index_T], f"{what}: weights {name}")


def experts_have_no_order(spec: RouterSpec, params: Any) -> None:
    """Renumbering the columns of the scores renumbers the chosen experts and nothing else."""
    for what, router, context in _routers(spec, params):
        if not spec.learned:
            continue
        router.eval()
        tokens = _tokens(spec, context.num_experts)
        order_E = torch.randperm(context.num_experts)
        logits_TE = tokens.logits_TE[:, order_E]
        found = router(RouterInput(logits_TE, tokens.ids_T, tokens.positions_T))
        before = router(tokens)
        if not torch.equal(order_E[found.chosen_TK], before.chosen_TK):
            raise AssertionError(f"{what}: renumbered experts are chosen differently")
        assert_close(found.weights_TK, before.weights_TK, f"{what}: weights of renumbered experts")


def bias_decides_only_who_is_chosen(spec: RouterSpec, params: Any) -> None:
    """A router that takes a bias chooses a favoured expert always, at its unfavoured weight."""
    for what, router, context in _routers(spec, params):
        if not spec.takes_bias:
            continue
        tokens = _tokens(spec, context.num_experts)
        bias_E = torch.zeros(context.num_experts)
        bias_E[0] = 100.0
        router.eval()
        found = router(replace(tokens, bias_E=bias_E))
        if not (found.chosen_TK == 0).any(dim=1).all():
            raise AssertionError(f"{what}: declared to take a bias, but it does not decide")
        if context.top_k < context.num_experts or spec.partial:
            continue
        weights = [
            torch.zeros(tokens.logits_TE.shape).scatter(1, each.chosen_TK, each.weights_TK)
            for each in (found, router(tokens))
        ]
        assert_close(weights[0], weights[1], f"{what}: weights with a bias and without")


@dataclass(frozen=True, slots=True)
class RouterCheck:
    """One promise of a router; `run(spec, params)` raises `AssertionError` if it is broken."""

    run: Callable[[RouterSpec, Any], None]

    @property
    def promise(self) -> str:
        """What is promised, as a sentence."""
        return (self.run.__doc__ or "").splitlines()[0]


ROUTER_CHECKS = tuple(
    RouterCheck(run)
    for run in (
        outputs_are_well_formed,
        extreme_scores_are_finite,
        task_gradient_reaches_the_scores,
        tokens_are_routed_alone,
        experts_have_no_order,
        bias_decides_only_who_is_chosen,
    )
)
"""Every promise."""

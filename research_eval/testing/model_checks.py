"""What every model promises, as functions that raise `AssertionError` with a readable message.

`ModelContract` runs them under pytest; a command can run them without. A promise that a model
waives for training (`Network.waives`) is checked in evaluation only.

B batch, L length.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, pairwise

import torch
from torch import Tensor, nn

from research_eval.diagnostics.routing import served
from research_eval.models.hgnn_moe import Hypergraph
from research_eval.models.moe import MoELayer
from research_eval.network import Network
from research_eval.spec import Past
from research_eval.testing.learning_checks import (
    learns_nothing_from_noise,
    overfits_a_few_samples,
    solves_an_order_task,
)
from research_eval.testing.params_checks import (
    corners_of_the_search_box_are_legal,
    fields_are_documented,
    repaired_values_are_legal,
)
from research_eval.testing.reference import naive_experts
from research_eval.testing.subject import (
    Batch,
    Subject,
    assert_close,
    gradients,
    stacked_experts,
    task_loss,
)


def later_tokens_change_nothing_earlier(subject: Subject) -> None:
    """Changing token t changes no output before t, in training and in evaluation."""
    network = subject.network()
    for training in (False, True):
        network.train(training)
        ids_BL = subject.batch().ids_BL
        before_BLV = _logits(network, ids_BL, None)
        for t in (1, subject.max_length // 2, subject.max_length - 1):
            changed_BL = ids_BL.clone()
            changed_BL[:, t] = changed_BL[:, t] % (subject.vocab_size - 1) + 1
            after_BLV = _logits(network, changed_BL, None)
            mode = "training" if training else "evaluation"
            assert_close(
                after_BLV[:, :t],
                before_BLV[:, :t],
                f"token {t} changed the outputs before ({mode})",
            )
            if torch.equal(after_BLV[:, t], before_BLV[:, t]):
                raise AssertionError(f"token {t} changed nothing, not even its own output ({mode})")


def samples_are_independent(subject: Subject) -> None:
    """A sample's output does not depend on other samples, their order, or padding."""
    network = subject.network()
    batch = subject.batch(rows=5, padded=True)
    modes = [False]
    if "batch_independent" not in network.waives() and not _is_noisy(network, batch):
        modes.append(True)
    for training in modes:
        network.train(training)
        mode = "training" if training else "evaluation"
        together = _logits(network, batch.ids_BL, batch.mask_BL)
        reverse = _logits(network, batch.ids_BL.flip(0), _mask(batch).flip(0)).flip(0)
        for row, mask_L in enumerate(_mask(batch)):
            length = int(mask_L.sum())
            kept = slice(None) if subject.task == "classification" else slice(length)
            alone = _logits(network, batch.ids_BL[row : row + 1, :length], None)[0]
            expected = together[row][kept]
            assert_close(alone[kept], expected, f"alone and in a padded batch ({mode})")
            assert_close(reverse[row][kept], expected, f"in a batch in reverse order ({mode})")


def padding_is_not_read(subject: Subject) -> None:
    """The ids behind a row's end change no output."""
    network = subject.network().eval()
    batch = subject.batch(padded=True)
    mask_BL = _mask(batch)
    filled_BL = torch.where(mask_BL, batch.ids_BL, subject.vocab_size - 1)
    before, after = (_logits(network, ids, mask_BL) for ids in (batch.ids_BL, filled_BL))
    if subject.task == "language_modeling":
        before, after = before[mask_BL], after[mask_BL]
    assert_close(after, before, "other ids in the padding")


def odd_batches_are_finite(subject: Subject) -> None:
    """Rows of padding only, a whole batch of them, and rows of one token give finite numbers."""
    network = subject.network()
    padded = subject.batch(padded=True)
    one_empty, all_empty = _mask(padded).clone(), torch.zeros_like(_mask(padded))
    one_empty[1] = False
    for what, batch in {
        "a row of padding": Batch(padded.ids_BL, one_empty, padded.labels),
        "a batch of padding": Batch(padded.ids_BL, all_empty, padded.labels),
        "padding on the left": Batch(padded.ids_BL, _mask(padded).flip(1), padded.labels),
        "rows of one token": subject.batch(length=1),
    }.items():
        found = gradients(network, batch)
        scores = _logits(network, batch.ids_BL, batch.mask_BL)
        numbers = {"loss": task_loss(network, batch), "output": scores, **found}
        for name, value in numbers.items():
            if not value.isfinite().all():
                raise AssertionError(f"{what}: {name} is not finite")


def every_weight_learns_from_the_task(subject: Subject) -> None:
    """The task loss alone gives every weight a gradient; a router that gets none is dead."""
    network = _with_different_hyperedges(subject)
    has_choice = getattr(subject.params, "num_experts", None) != 1
    nothing_to_decide = {id(p) for p in ([] if has_choice else network.routing_parameters())}
    learning = [n for n, p in network.named_parameters() if id(p) not in nothing_to_decide]
    found = gradients(network, subject.batch(rows=32))
    norms = {name: found[name].norm().item() for name in learning}
    # What is zero in exact arithmetic is 1e-8 of the others in fp32.
    floor = 1e-6 * max(norms.values())
    dead = [name for name, norm in norms.items() if not norm > floor]
    if dead:
        raise AssertionError(f"the task loss gives no gradient to {', '.join(dead)}")


def _with_different_hyperedges(subject: Subject) -> Network:
    """Return the first network in which no layer's learned hyperedges all hold the same experts.

    There their weights cancel out, as they must. Everything without such hyperedges is drawn once.
    """
    networks = (subject.network(seed=seed) for seed in count())
    return next(each for each in networks if not any(map(_are_one, each.modules())))


def _are_one(module: nn.Module) -> bool:
    if not (isinstance(module, Hypergraph) and module.dynamic):
        return False
    members_HE = module().detach().round()
    return bool((members_HE == members_HE[0]).all())


def experts_learn_from_their_own_tokens(subject: Subject) -> None:
    """An expert that saw a token gets a gradient, and one that saw none gets zeros."""
    network = subject.network()
    batch = subject.batch(rows=1, length=2)
    torch.manual_seed(3)
    records = network(batch.ids_BL, batch.mask_BL, batch.labels).routing
    torch.manual_seed(3)
    found = gradients(network, batch)
    for (name, _experts), record in zip(stacked_experts(network), records, strict=True):
        used = set(record.chosen_TK[served(record)].unique().tolist())
        for matrix in ("into_EDG", "out_EFD"):
            for expert, gradient in enumerate(found[f"{name}.{matrix}"]):
                if bool(gradient.any()) != (expert in used):
                    saw = "a token but no" if expert in used else "no token but a"
                    raise AssertionError(f"{name}.{matrix}: expert {expert} saw {saw} gradient")


def fast_path_equals_the_loop(subject: Subject) -> None:
    """Outputs and gradients equal those of a plain loop over experts, to fp32 rounding."""
    fast, slow = subject.network(), subject.network()
    for _name, experts in stacked_experts(slow):
        experts.forward = naive_experts.__get__(experts)  # type: ignore[method-assign]  # the point
    batch = subject.batch(rows=8, padded=True)
    results = []
    for network in (fast, slow):
        torch.manual_seed(3)
        loss = task_loss(network, batch).detach()
        torch.manual_seed(3)
        results.append({"loss": loss, **gradients(network, batch)})
    for name, expected in results[1].items():
        assert_close(results[0][name], expected, f"fast path and loop: {name}")


def experts_have_no_order(subject: Subject) -> None:
    """Renumbering the experts, with their columns of the router, changes nothing."""
    network = subject.network().eval()
    batch = subject.batch()
    before = _logits(network, batch.ids_BL, None)
    for layer in _routed_layers(network):
        order = torch.randperm(layer.params.num_experts)
        with torch.no_grad():
            for stack in (layer.scores.weight, layer.experts.into_EDG, layer.experts.out_EFD):
                stack.copy_(stack[order].clone())
    assert_close(_logits(network, batch.ids_BL, None), before, "renumbered experts")


def evaluation_repeats(subject: Subject) -> None:
    """Two evaluations give the same bits, whatever the random state and whatever ran between."""
    network = subject.having(dropout=0.5).network().eval()
    batch = subject.batch(padded=True)
    first = _logits(network, batch.ids_BL, batch.mask_BL, seed=1)
    task_loss(network.train(), batch)
    second = _logits(network.eval(), batch.ids_BL, batch.mask_BL, seed=2)
    if not torch.equal(first, second):
        raise AssertionError("two evaluations of the same batch differ")


def seed_decides_everything(subject: Subject) -> None:
    """The same seed gives the same bits of weights and gradients; another seed other weights."""
    noisy = subject.having(dropout=0.1)
    one, two = (gradients(noisy.network(), noisy.batch(padded=True)) for _ in range(2))
    for name, gradient in one.items():
        if not torch.equal(gradient, two[name]):
            raise AssertionError(f"the same seed gave another gradient of {name}")
    weights = [subject.network(seed=s, stirred=False).state_dict() for s in (0, 1)]
    if all(torch.equal(a, b) for a, b in zip(*(w.values() for w in weights), strict=True)):
        raise AssertionError("two seeds gave the same weights")


def weights_survive_a_file(subject: Subject) -> None:
    """A network of another seed that loads the state dict gives the same bits."""
    network, other = subject.network(seed=0).eval(), subject.network(seed=1).eval()
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    ids_BL = subject.batch().ids_BL
    if not torch.equal(_logits(network, ids_BL, None), _logits(other, ids_BL, None)):
        raise AssertionError("a state dict that was saved and loaded gives other outputs")


def rows_can_be_read_in_pieces(subject: Subject) -> None:
    """Where a body says `takes_past`, rows read piece by piece give what whole rows give."""
    network = subject.network().eval()
    ids_BL = subject.batch().ids_BL
    whole_BLV = _logits(network, ids_BL, None)
    length = ids_BL.shape[1]
    past = Past(length)
    cuts = sorted({0, length // 3, length // 3 + 1, length})
    for start, end in pairwise(cuts):
        with torch.no_grad():
            found_BV = network.next_logits(ids_BL[:, start:end], past)
        assert_close(
            found_BV, whole_BLV[:, end - 1], f"tokens {start} to {end - 1} read behind the others"
        )


def declared_costs_are_counted_costs(subject: Subject) -> None:
    """Declared FLOPs and active parameters are what a counter finds, within 1 %.

    What a path costs depends on the path, and a router may be free to choose fewer experts; there
    the declaration is for the dearest case.
    """
    network = subject.network()
    batch = subject.batch(rows=1, length=1)
    takes_a_path = network(batch.ids_BL, batch.mask_BL, batch.labels).path is not None
    may_cost_less = takes_a_path or any(layer.spec.partial for layer in _routed_layers(network))
    for length in (1, subject.max_length):
        declared = network.flops_per_token(length)
        counted = network.counted_flops_per_token(length)
        apart = counted / declared - 1
        if apart > 0.01 or (apart < -0.01 and not may_cost_less):
            raise AssertionError(
                f"at length {length} {declared:.0f} FLOPs per token are declared, "
                f"but {counted:.0f} are counted"
            )
    if may_cost_less:
        return
    found = gradients(network, batch)
    idle = sum(
        int((~gradient.flatten(1).any(dim=1)).sum()) * gradient[0].numel()
        for name, _experts in stacked_experts(network)
        for gradient in (found[f"{name}.into_EDG"], found[f"{name}.out_EFD"])
    )
    active, declared_active = network.param_count() - idle, network.active_param_count()
    if abs(declared_active / active - 1) > 0.01:
        raise AssertionError(
            f"{declared_active} active parameters are declared, but one token reaches {active}"
        )


def _logits(network: Network, ids_BL: Tensor, mask_BL: Tensor | None, seed: int = 3) -> Tensor:
    torch.manual_seed(seed)
    with torch.no_grad():
        return network.logits(ids_BL, mask_BL)


def _mask(batch: Batch) -> Tensor:
    return (
        torch.ones_like(batch.ids_BL, dtype=torch.bool) if batch.mask_BL is None else batch.mask_BL
    )


def _routed_layers(network: Network) -> list[MoELayer]:
    return [module for module in network.modules() if isinstance(module, MoELayer)]


def _is_noisy(network: Network, batch: Batch) -> bool:
    """Return whether training draws random numbers, so that two passes cannot be compared."""
    network.train()
    _logits(network, batch.ids_BL, batch.mask_BL, seed=1)
    drawn = torch.get_rng_state()
    return not torch.equal(drawn, torch.manual_seed(1).get_state())


def _always(_subject: Subject) -> bool:
    return True


def _is_causal(subject: Subject) -> bool:
    return subject.task == "language_modeling"


def _takes_past(subject: Subject) -> bool:
    return _is_causal(subject) and subject.network().takes_past()


def _has_experts(subject: Subject) -> bool:
    return any(True for _ in stacked_experts(subject.network()))


def _has_learned_router(subject: Subject) -> bool:
    return any(layer.learned for layer in _routed_layers(subject.network()))


def _knows_positions(subject: Subject) -> bool:
    return subject.params.positions != "none"


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """One promise.

    Attributes:
        run: Raises `AssertionError` if it is broken.
        applies: Whether the promise concerns a subject at all.
        waiver: Key of `Network.waives` under which a model declares that it does not hold in
            training; empty if it cannot be waived.
    """

    run: Callable[[Subject], None]
    applies: Callable[[Subject], bool] = _always
    waiver: str = ""

    @property
    def promise(self) -> str:
        """What is promised, as a sentence."""
        return (self.run.__doc__ or "").splitlines()[0]


MODEL_CHECKS = (
    ModelCheck(later_tokens_change_nothing_earlier, _is_causal),
    ModelCheck(samples_are_independent, waiver="batch_independent"),
    ModelCheck(padding_is_not_read),
    ModelCheck(odd_batches_are_finite),
    ModelCheck(every_weight_learns_from_the_task),
    ModelCheck(experts_learn_from_their_own_tokens, _has_experts),
    ModelCheck(fast_path_equals_the_loop, _has_experts),
    ModelCheck(experts_have_no_order, _has_learned_router),
    ModelCheck(evaluation_repeats),
    ModelCheck(seed_decides_everything),
    ModelCheck(weights_survive_a_file),
    ModelCheck(rows_can_be_read_in_pieces, _takes_past),
    ModelCheck(declared_costs_are_counted_costs),
    ModelCheck(learns_nothing_from_noise, _is_causal),
    ModelCheck(overfits_a_few_samples),
    ModelCheck(solves_an_order_task, _knows_positions),
    ModelCheck(fields_are_documented),
    ModelCheck(repaired_values_are_legal),
    ModelCheck(corners_of_the_search_box_are_legal),
)
"""Every promise, quick ones first."""

"""What a model must be able to learn, and what it must not.

V vocabulary, L length.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from research_eval.network import Network
from research_eval.spec import IGNORED_LABEL
from research_eval.testing.subject import Batch, Subject

NOISE_STEPS, OVERFIT_STEPS, ORDER_STEPS = 150, 150, 300


def learns_nothing_from_noise(subject: Subject) -> None:
    """On fresh uniform random tokens the loss stays at ln V; below it, the future leaks."""
    batches = torch.Generator().manual_seed(5)

    def draw() -> Batch:
        shape = (16, subject.max_length + 1)
        ids_BL = torch.randint(0, subject.vocab_size, shape, generator=batches)
        return Batch(ids_BL[:, :-1], None, ids_BL[:, 1:])

    losses = _train(subject.network(stirred=False), draw, NOISE_STEPS)
    loss, floor = sum(losses[-20:]) / 20, math.log(subject.vocab_size)
    if loss < floor - 0.01:
        raise AssertionError(
            f"loss {loss:.3f} on noise whose floor is {floor:.3f}: it sees targets"
        )


def overfits_a_few_samples(subject: Subject) -> None:
    """The loss on eight fixed samples goes to zero."""
    batch = subject.batch(rows=8)
    losses = _train(subject.network(stirred=False), lambda: batch, OVERFIT_STEPS)
    loss = sum(losses[-10:]) / 10
    if loss > 0.1:
        raise AssertionError(f"loss {loss:.3f} after {OVERFIT_STEPS} steps on eight samples")


def solves_an_order_task(subject: Subject) -> None:
    """A task that depends on the order of tokens is learned, so positions reach the output.

    Classification: which of two tokens comes first among fillers. Language modelling: the second
    half of a row repeats the first.
    """
    batches = torch.Generator().manual_seed(5)
    classify = subject.task == "classification"
    draw = _which_is_first if classify else _second_half_repeats
    losses = _train(subject.network(stirred=False), lambda: draw(subject, batches), ORDER_STEPS)
    loss = sum(losses[-20:]) / 20
    chance = math.log(2 if classify else subject.vocab_size - 1)
    if loss > 0.5 * chance:
        raise AssertionError(f"loss {loss:.3f} on an order task where chance is {chance:.3f}")


def _which_is_first(subject: Subject, rng: torch.Generator) -> Batch:
    rows, length = 32, 8
    ids_BL = torch.randint(3, subject.vocab_size, (rows, length), generator=rng)
    places_B2 = torch.rand(rows, length, generator=rng).topk(2).indices
    row_B = torch.arange(rows)
    ids_BL[row_B, places_B2[:, 0]] = 1
    ids_BL[row_B, places_B2[:, 1]] = 2
    return Batch(ids_BL, None, (places_B2[:, 0] < places_B2[:, 1]).long())


def _second_half_repeats(subject: Subject, rng: torch.Generator) -> Batch:
    half_BL = torch.randint(1, subject.vocab_size, (32, 4), generator=rng)
    ids_BL = torch.cat([half_BL, half_BL], dim=1)
    targets_BL = ids_BL[:, 1:].clone()
    targets_BL[:, :3] = IGNORED_LABEL
    return Batch(ids_BL[:, :-1], None, targets_BL)


def _train(network: Network, draw: Callable[[], Batch], steps: int) -> list[float]:
    """Return the task loss of each step of AdamW at 3e-3, warmed up over 20 steps."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.0)
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20))
    losses = []
    for _ in range(steps):
        batch = draw()
        found = network(batch.ids_BL, batch.mask_BL, batch.labels)
        total = found.loss + sum(term.weight * term.value for term in found.aux_losses.values())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        warmup.step()
        losses.append(found.loss.item())
    return losses

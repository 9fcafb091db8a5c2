"""What a model must be able to learn, and what it must not.

V vocabulary, L length.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean

import torch

from research_eval.network import Network
from research_eval.spec import IGNORED_LABEL
from research_eval.testing.subject import Batch, Subject

NOISE_STEPS, PATIENCE = 150, 400
"""Steps on noise, and steps after which a task should have been learned."""


def learns_nothing_from_noise(subject: Subject, steps: int = NOISE_STEPS) -> None:
    """On fresh uniform random tokens the loss stays at ln V; below it, the future leaks."""
    batches = torch.Generator().manual_seed(5)

    def draw() -> Batch:
        shape = (16, subject.max_length + 1)
        ids_BL = torch.randint(0, subject.vocab_size, shape, generator=batches)
        return Batch(ids_BL[:, :-1], None, ids_BL[:, 1:])

    loss, _steps = _train(subject.network(stirred=False), draw, steps)
    floor = math.log(subject.vocab_size)
    if loss < floor - 0.01:
        raise AssertionError(
            f"loss {loss:.3f} on noise whose floor is {floor:.3f}: it sees targets"
        )


def overfits_a_few_samples(subject: Subject) -> None:
    """The loss on eight fixed samples goes to zero."""
    batch, goal = subject.batch(rows=8), 0.1
    loss, steps = _train(subject.network(stirred=False), lambda: batch, PATIENCE, goal)
    if loss > goal:
        raise AssertionError(f"loss {loss:.3f} after {steps} steps on eight samples")


def solves_an_order_task(subject: Subject) -> None:
    """A task that depends on the order of tokens is learned, so positions reach the output.

    Classification: the first token is the class. Language modelling: the second half of a row
    repeats the first.
    """
    batches = torch.Generator().manual_seed(5)
    classify = subject.task == "classification"
    draw = _first_is_the_class if classify else _second_half_repeats
    chance = math.log(subject.num_classes if classify else subject.vocab_size - 1)
    loss, steps = _train(
        subject.network(stirred=False), lambda: draw(subject, batches), PATIENCE, 0.3 * chance
    )
    if loss > 0.3 * chance:
        raise AssertionError(
            f"loss {loss:.3f} after {steps} steps on an order task where chance is {chance:.3f}"
        )


def _first_is_the_class(subject: Subject, rng: torch.Generator) -> Batch:
    ids_BL = torch.randint(0, subject.num_classes, (32, 8), generator=rng)
    return Batch(ids_BL + 1, None, ids_BL[:, 0])


def _second_half_repeats(subject: Subject, rng: torch.Generator) -> Batch:
    half_BL = torch.randint(1, subject.vocab_size, (32, 4), generator=rng)
    ids_BL = torch.cat([half_BL, half_BL], dim=1)
    targets_BL = ids_BL[:, 1:].clone()
    targets_BL[:, :3] = IGNORED_LABEL
    return Batch(ids_BL[:, :-1], None, targets_BL)


def _train(
    network: Network, draw: Callable[[], Batch], steps: int, goal: float = 0.0
) -> tuple[float, int]:
    """Train with AdamW at 3e-3, warmed up over 20 steps, until the loss is below `goal`.

    Returns:
        The mean task loss of the last 20 steps, and how many steps were taken.
    """
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.0)
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20))
    losses: list[float] = []
    while len(losses) < steps:
        batch = draw()
        found = network(batch.ids_BL, batch.mask_BL, batch.labels)
        total = found.loss + sum(term.weight * term.value for term in found.aux_losses.values())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        warmup.step()
        losses.append(found.loss.item())
        if fmean(losses[-20:]) < goal:
            break
    return fmean(losses[-20:]), len(losses)

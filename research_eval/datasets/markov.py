"""A random Markov chain, whose entropy is known: no model can predict it better.

V vocabulary, N rows, L length, S = V^order contexts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from research_eval.datasets._splits import stream
from research_eval.datasets._synthetic import Rows, SequenceParams, generate
from research_eval.errors import DataError
from research_eval.spec import Dataset, DatasetSpec, LoadContext

MAX_TRANSITIONS = 10_000_000
"""Largest table of transition probabilities: 80 MB in float64."""


class MarkovParams(SequenceParams):
    """Rows of a stationary Markov chain over the tokens 1..vocab_size.

    Each row of the transition table is drawn from the flat Dirichlet distribution, by
    `data_seed`. The first tokens of a row are drawn from the stationary distribution.
    """

    order: Annotated[int, Field(ge=1, le=8)] = 1
    """Earlier tokens that the next one depends on."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A stationary Markov chain.

    Attributes:
        next_SV: Probability of each next token after each context, float64.
        start_S: Probability of each context at the start of a row: the stationary distribution.
    """

    next_SV: Tensor
    start_S: Tensor

    @classmethod
    def random(cls, vocab_size: int, order: int, generator: torch.Generator) -> Chain:
        """Draw transitions and find their stationary distribution by power iteration.

        Raises:
            DataError: If the table of transitions would be too large.
        """
        if vocab_size ** (order + 1) > MAX_TRANSITIONS:
            raise DataError(
                f"markov with order={order} and vocab_size={vocab_size} needs "
                f"{vocab_size ** (order + 1):,} transitions; lower one of them until "
                f"vocab_size^(order + 1) is at most {MAX_TRANSITIONS:,}"
            )
        # Exponential variables divided by their sum are flat-Dirichlet distributed.
        weights_SV = torch.empty(vocab_size**order, vocab_size, dtype=torch.float64)
        weights_SV.exponential_(generator=generator)
        next_SV = weights_SV / weights_SV.sum(dim=1, keepdim=True)
        start_S = torch.full((len(next_SV),), 1 / len(next_SV), dtype=torch.float64)
        for _ in range(1000):
            before_S = start_S
            # A context (x1, ..., xk) followed by y becomes the context (x2, ..., xk, y).
            start_S = (start_S[:, None] * next_SV).view(vocab_size, -1).sum(dim=0)
            if (start_S - before_S).abs().max() < 1e-15:
                break
        return cls(next_SV, start_S)

    @property
    def order(self) -> int:
        """Tokens in a context."""
        contexts, vocab_size = self.next_SV.shape
        return next(k for k in range(1, contexts + 1) if vocab_size**k == contexts)

    def entropy_rate(self) -> float:
        """Return the mean entropy of a token given all earlier ones, in nats: at most ln V."""
        entropy_S = torch.special.entr(self.next_SV).sum(dim=1)
        return float((self.start_S * entropy_S).sum())

    def sample(self, generator: torch.Generator, rows: int, length: int) -> Tensor:
        """Draw `rows` x `length` tokens from 0 to V - 1, int64; length is at least `order`."""
        contexts, vocab_size = self.next_SV.shape
        context_N = torch.multinomial(self.start_S, rows, replacement=True, generator=generator)
        powers = [vocab_size**power for power in reversed(range(self.order))]
        columns = [context_N // power % vocab_size for power in powers]
        while len(columns) < length:
            next_N1 = torch.multinomial(self.next_SV[context_N], 1, generator=generator)
            columns.append(next_N1[:, 0])
            context_N = (context_N * vocab_size + columns[-1]) % contexts
        return torch.stack(columns[:length], dim=1)

    def loss(self, tokens_NL: Tensor) -> float:
        """Return the chain's own mean loss on all tokens but the first of each row, in nats.

        A token inside the first context is judged by what stands before it in its row alone.
        """
        contexts, vocab_size = self.next_SV.shape
        order, (rows, length) = self.order, tokens_NL.shape
        context_N = torch.zeros(rows, dtype=torch.int64)
        for position in range(order):
            context_N = context_N * vocab_size + tokens_NL[:, position]
        first_V = self.start_S.view(vocab_size, -1).sum(dim=1)
        total = (first_V[tokens_NL[:, 0]].log() - self.start_S[context_N].log()).sum()
        for position in range(order, length):
            total -= self.next_SV[context_N, tokens_NL[:, position]].log().sum()
            context_N = (context_N * vocab_size + tokens_NL[:, position]) % contexts
        return float(total) / (rows * (length - 1))


def load(params: MarkovParams, _context: LoadContext) -> Dataset:
    """Generate rows of one chain; `Split.loss_floor` is the chain's own loss on them."""
    chain = Chain.random(params.vocab_size, params.order, stream(params.data_seed, "chain"))

    def draw(generator: torch.Generator, count: int) -> Rows:
        return Rows((chain.sample(generator, count, params.seq_len + 1) + 1).int())

    return generate(
        "markov",
        params,
        draw,
        task="language_modeling",
        vocab_size=params.vocab_size + 1,
        loss_floor=lambda ids_NL: chain.loss(ids_NL.long() - 1),
    )


SPEC = DatasetSpec(
    name="markov",
    dataset_type="synthetic",
    params=MarkovParams,
    load=load,
    tasks=("language_modeling",),
)

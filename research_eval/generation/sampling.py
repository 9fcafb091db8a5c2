"""Tokens from a network, one step at a time for all rows of a batch.

B rows, L length, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from research_eval.generation.decoding import Decoding
from research_eval.network import Network
from research_eval.spec import Past
from research_eval.training.seeding import derive


class Draws:
    """A uniform number for each row and step, from a stream of its own for each row.

    What is written behind a prompt does not depend on the prompts beside it.

    Args:
        seed: Of all streams.
        places: Which prompt each row is.
    """

    def __init__(self, seed: int, places: Sequence[int]) -> None:
        seeds = [derive(seed, "generation", place) for place in places]
        self._streams = [torch.Generator().manual_seed(each) for each in seeds]

    def next(self, wanted_B: Sequence[bool]) -> Tensor:
        """Return [B] numbers in [0, 1); a stream moves on only where its number is wanted."""
        numbers_B = torch.zeros(len(self._streams))
        for row, stream in enumerate(self._streams):
            if wanted_B[row]:
                numbers_B[row].uniform_(generator=stream)
        return numbers_B


def choose(logits_BV: Tensor, uniform_B: Tensor, how: Decoding) -> Tensor:
    """Return the next token of each row, [B] int64.

    Args:
        logits_BV: Scores in fp32.
        uniform_B: In [0, 1): where each row's token lies in the cumulated distribution.
        how: Temperature and truncation.
    """
    if how.temperature == 0:
        return logits_BV.argmax(dim=-1)
    order = logits_BV.sort(dim=-1, descending=True, stable=True)
    probs_BV = (order.values.double() / how.temperature).softmax(dim=-1)
    before_BV = probs_BV.cumsum(dim=-1) - probs_BV
    kept_BV = before_BV < how.top_p
    if how.top_k is not None:
        kept_BV[:, how.top_k :] = False
    upto_BV = (probs_BV * kept_BV).cumsum(dim=-1)
    place_B1 = uniform_B.to(upto_BV)[:, None] * upto_BV[:, -1:]
    index_B1 = torch.searchsorted(upto_BV, place_B1, right=True)
    last_B1 = kept_BV.sum(dim=-1, keepdim=True) - 1
    return order.indices.gather(1, index_B1.minimum(last_B1)).squeeze(1)


def most_positions(network: Network) -> int | None:
    """Return the positions that the network has learned; None if it has no table of them."""
    return network.num_positions if network.params.positions == "learned" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Prompts that are written on together.

    Attributes:
        prompts: Ids, at least one each.
        places: Which of all prompts they are; decides their random numbers.
        done: Rows that need no more tokens; whoever takes the tokens may add to it.
    """

    prompts: Sequence[Sequence[int]]
    places: Sequence[int]
    done: set[int] = field(default_factory=set)


@torch.inference_mode()
def write_on(
    network: Network, batch: Batch, how: Decoding, *, cached: bool = True
) -> Iterator[dict[int, int]]:
    """Write behind prompts; yield after each step the new token of each row that got one.

    All rows are read up to the end of the shortest prompt, then on token by token; a longer
    prompt supplies its own tokens until it ends. So rows need no padding, and each is read as if
    it were alone. It ends when every row has its tokens, or when the last position is taken.

    Args:
        network: A language model in evaluation.
        batch: What to write on; a prompt has at most as many tokens as there are positions.
        how: Length and choice.
        cached: Whether keys and values are kept, where the body can use them.
    """
    device, rows = network.embedding.weight.device, range(len(batch.prompts))
    lengths = [len(prompt) for prompt in batch.prompts]
    ends = [length + how.max_new_tokens for length in lengths]
    last = min(max(ends) - 1, most_positions(network) or max(ends))
    ids_BL = torch.zeros(len(rows), last + 1, dtype=torch.int64)
    for row, prompt in enumerate(batch.prompts):
        ids_BL[row, : len(prompt)] = torch.tensor(prompt)
    ids_BL = ids_BL.to(device)
    past = Past(last) if cached and network.takes_past() else None
    draws = Draws(how.seed, batch.places)
    for position in range(min(lengths), last + 1):
        writes = [row not in batch.done and lengths[row] <= position < ends[row] for row in rows]
        start = 0 if past is None else past.length
        logits_BV = network.next_logits(ids_BL[:, start:position], past)
        chosen_B = choose(logits_BV, draws.next(writes).to(device), how)
        writes_B = torch.tensor(writes, device=device)
        ids_BL[:, position] = torch.where(writes_B, chosen_B, ids_BL[:, position])
        yield {row: token for row, token in enumerate(chosen_B.tolist()) if writes[row]}
        if all(row in batch.done or ends[row] <= position + 1 for row in rows):
            return

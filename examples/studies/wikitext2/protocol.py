"""Score the same weights by both protocols, and show what each choice moves.

    python protocol.py experiment_results.db ID_THEIRS ID_OURS

The runs are those of `protocols/theirs.json` and `protocols/ours.json`. All scores are of the
validation split, which is what the GNN-MoE repositories report.
"""

from __future__ import annotations

import math
import sys
from contextlib import nullcontext
from dataclasses import replace

import torch

from research_eval import load_data, load_model
from research_eval.network import Network
from research_eval.spec import Split
from research_eval.training.batches import Batches
from research_eval.training.evaluate import evaluate

BATCH_SIZE = 32


def main(database: str, theirs: str, ours: str) -> None:
    """Print a table: a row for each way to score, a column for each run."""
    lines = load_data(theirs, "validation", db=database)
    documents = load_data(ours, "validation", db=database)
    ways = {
        "lines, cut, without token 0": (lines, False),
        "... with token 0": (replace(lines, unscored_id=None), False),
        "... mean of the means of batches": (lines, True),
        "packed documents": (documents, False),
    }
    networks = [load_model(run, db=database) for run in (theirs, ours)]
    print(f"{'scored on':34}{'targets':>9}{'trained: theirs':>17}{'ours':>9}{'per word':>18}")
    for name, (split, by_batch) in ways.items():
        found = [perplexities(network, split, by_batch=by_batch) for network in networks]
        tokens, words = zip(*found, strict=True)
        print(
            f"{name:34}{num_targets(split):9,}{tokens[0]:17.1f}{tokens[1]:9.1f}"
            f"{words[0]:9.1f}{words[1]:9.1f}"
        )


def num_targets(split: Split) -> int:
    """Return how many tokens are predicted."""
    (batch,) = Batches(split, "language_modeling", torch.device("cpu")).in_order(len(split))
    return int((batch.labels >= 0).sum())


def perplexities(network: Network, split: Split, *, by_batch: bool) -> tuple[float, float]:
    """Return perplexity per token, over all targets or over means of batches, and per word."""
    means: list[float] = []
    found = evaluate(
        network,
        Batches(split, "language_modeling", torch.device("cpu")),
        batch_size=BATCH_SIZE,
        autocast=nullcontext,
        observe=lambda _batch, output: means.append(float(output.loss)),
    )
    loss = sum(means) / len(means) if by_batch else found.scores["loss"]
    return math.exp(loss), found.scores["word_perplexity"]


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python protocol.py DATABASE ID_THEIRS ID_OURS")
    main(*sys.argv[1:])

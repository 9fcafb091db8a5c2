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
from research_eval.errors import ResearchEvalError
from research_eval.network import Network
from research_eval.spec import Split
from research_eval.training.batches import Batches
from research_eval.training.evaluate import evaluate

BATCH_SIZE = 32


def main(database: str, theirs: str, ours: str) -> None:
    """Print a row for each way to score: perplexities of both models per token, and per word."""
    lines = load_data(theirs, "validation", db=database)
    everything = replace(lines, unscored_id=None)
    left_out = num_targets(everything) - num_targets(lines)
    print(f"targets that are left out as token {lines.unscored_id}: {left_out}")
    networks = [load_model(run, db=database) for run in (theirs, ours)]
    print(f"{'scored on':32}{'targets':>9}{'trained by theirs':>19}{'by ours':>9}{'per word':>18}")
    documents = load_data(ours, "validation", db=database)
    for name, split in (("lines, cut", lines), ("packed documents", documents)):
        found = [scores(network, split) for network in networks]
        for score, way in (("perplexity", name), ("perplexity_of_means", "  mean of batches")):
            row = f"{way:32}{num_targets(split):9,}{found[0][score]:19.1f}{found[1][score]:9.1f}"
            words = "".join(f"{each['word_perplexity']:9.0f}" for each in found)
            print(row + (words if way == name else ""))


def num_targets(split: Split) -> int:
    """Return how many tokens are predicted."""
    (batch,) = Batches(split, "language_modeling", torch.device("cpu")).in_order(len(split))
    return int((batch.labels >= 0).sum())


def scores(network: Network, split: Split) -> dict[str, float]:
    """Return the scores of all targets, and the perplexity of the mean over batches beside them."""
    means: list[float] = []
    found = evaluate(
        network,
        Batches(split, "language_modeling", torch.device("cpu")),
        batch_size=BATCH_SIZE,
        autocast=nullcontext,
        observe=lambda _batch, output: means.append(float(output.loss)),
    )
    of_batches = math.exp(sum(means) / len(means))
    return {**found.scores, "perplexity_of_means": of_batches}


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python protocol.py DATABASE ID_THEIRS ID_OURS")
    try:
        main(*sys.argv[1:])
    except ResearchEvalError as error:
        sys.exit(f"error: {error}")

"""How a training step of the graph-of-experts models grows with the number of experts.

    python benchmarks/goe_growth.py                      # both tasks; some 5 minutes
    python benchmarks/goe_growth.py --tasks classification --rounds 5
    RESEARCH_EVAL_ALLOCATOR=default python benchmarks/goe_growth.py

Only chosen experts run, so a classifier's step should cost the same with 2 experts as with 32. A
language model's experts need keys and values for all tokens of the rows that they are used in, so
its step should grow like its FLOPs, which are counted in the very forward pass that is timed.

Classification: 64 rows, of 16 tokens at width 64 (the parity setting), and of 64 tokens at width
128. Language modelling: 32 rows of 64 tokens, width 128, 256 different tokens. Everything else is
at its default; routers are fresh, so their choices are spread over all experts. A step is forward
and backward, clipping, and fused AdamW; `passes` is without the last two, whose work is per
parameter and not per token. All sizes alternate within one process, and ratios of medians are
shown.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from research_eval.allocator import tune_allocator

MODELS = ("goe", "goe_original")
EXPERTS = (2, 8, 32)
SETTINGS = {  # task: (rows, tokens, width)
    "classification": ((64, 16, 64), (64, 64, 128)),
    "language_modeling": ((32, 64, 128),),
}
VOCABULARY, WARM_UP_STEPS = 256, 2


@dataclass(frozen=True)
class Contestant:
    """A training step that reports its seconds: the passes', and all."""

    flops: int
    step: Callable[[], tuple[float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--rounds", type=int, default=21)
    args = parser.parse_args()
    print(tune_allocator())
    for task in args.tasks:
        for setting in SETTINGS[task]:
            for model in args.models:
                compare(model, task, *setting, rounds=args.rounds)


def compare(model: str, task: str, rows: int, length: int, width: int, *, rounds: int) -> None:
    contestants = {e: contestant(model, task, rows, length, width, e) for e in EXPERTS}
    seconds: dict[int, list[tuple[float, float]]] = {e: [] for e in EXPERTS}
    for _ in range(rounds):
        for experts, each in contestants.items():
            seconds[experts].append(each.step())
    print(f"{model}, {task}, {rows} x {length} tokens, width {width}")
    medians = {e: [statistics.median(s) for s in zip(*seconds[e], strict=True)] for e in EXPERTS}
    first = EXPERTS[0]
    for experts, (passes, step) in medians.items():
        flops = contestants[experts].flops / contestants[first].flops
        print(
            f"  E = {experts:2}: step {1e3 * step:7.1f} ms, x {step / medians[first][1]:.2f};"
            f" passes x {passes / medians[first][0]:.2f}; FLOPs x {flops:.2f};"
            f" step / FLOPs x {step / medians[first][1] / flops:.2f}",
            flush=True,
        )


def contestant(
    model: str, task: str, rows: int, length: int, width: int, experts: int
) -> Contestant:
    """Return a training step of one size, warmed up."""
    import torch

    from research_eval.counting import count_flops
    from research_eval.network import Network
    from research_eval.registry import MODELS_MAP, ROUTERS_MAP
    from research_eval.spec import BodyContext

    torch.manual_seed(0)
    spec = MODELS_MAP[model]
    params = spec.params(embed_dim=width, num_experts=experts)
    context = BodyContext(
        VOCABULARY, length, causal=task == "language_modeling", find_router=ROUTERS_MAP.__getitem__
    )
    network = Network(spec, params, context, task=task, num_classes=2)
    ids_BL = torch.randint(VOCABULARY, (rows, length))
    labels = torch.randint(2, (rows,)) if task == "classification" else ids_BL.roll(-1, dims=1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)

    def step() -> tuple[float, float]:
        start = time.perf_counter()
        found = network(ids_BL, None, labels, 0.0)
        aux = sum(term.weight * term.value for term in found.aux_losses.values())
        (found.loss + aux).backward()
        middle = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return middle - start, time.perf_counter() - start

    with torch.no_grad():
        flops = count_flops(lambda: network(ids_BL, None, labels, 0.0))
    for _ in range(WARM_UP_STEPS):
        step()
    return Contestant(flops, step)


if __name__ == "__main__":
    main()

"""Coupled experts against the same experts without messages, and against separate blocks.

    python benchmarks/coupling.py              # all three tables; some 5 minutes
    python benchmarks/coupling.py --rows 2 --experts 4 --rounds 5        # a quick look
    RESEARCH_EVAL_ALLOCATOR=default python benchmarks/coupling.py

One layer of width 256 with 4 heads and 1,024 units, rows of 128 tokens, causal, fp32, no head;
forward and backward with all gradients. `mean` is the model with coupling="mean". `separate` is
gnn_moe with each expert a block of its own, run one after another. The contestants of a table
alternate within one process, and medians are compared. Memory is the peak of one such step in a
process of its own over what it held before, with 256 tokens, less that of `mean`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from research_eval.allocator import tune_allocator

WIDTH, HEADS, LENGTH = 256, 4, 128
MEAN = {"coupling": "mean"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experts", type=int, nargs="+", default=[4, 32])
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, help="CPU threads of torch")
    parser.add_argument("--memory-of", help="used by this script: measure one body and print it")
    args = parser.parse_args()
    print(tune_allocator(), file=sys.stderr)
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    if args.memory_of:
        print(peak_mb(**json.loads(args.memory_of)))
        return
    for experts in args.experts:
        compare_with_mean("gnn_moe", experts, args.rows, args.rounds)
        compare_with_separate(experts, args.rows, args.rounds)
    compare_with_mean("hgnn_moe", 8, args.rows, args.rounds, edge_gate=True)
    show_memory(max(args.experts))


def compare_with_mean(model: str, experts: int, rows: int, rounds: int, **extra: object) -> None:
    """Show how much longer a coupled model takes, beside how many more FLOPs it has."""
    contestants = {
        "mean": MEAN,
        "gnn_layers=1": {"gnn_layers": 1},
        "gnn_layers=2": {"gnn_layers": 2},
        **{f"{name}={value}": {name: value} for name, value in extra.items()},
    }
    built = {name: body(model, experts, **fields) for name, fields in contestants.items()}
    seconds = alternate({name: step(module, rows) for name, (module, _) in built.items()}, rounds)
    for name, (_, flops) in list(built.items())[1:]:
        time_over = 100 * (seconds[name] / seconds["mean"] - 1)
        flops_over = 100 * (flops / built["mean"][1] - 1)
        print(
            f"{model} E = {experts:2} {name:14} over mean: time +{time_over:.1f} %, "
            f"FLOPs +{flops_over:.1f} %: {time_over - flops_over:+.1f} points",
            flush=True,
        )


def compare_with_separate(experts: int, rows: int, rounds: int) -> None:
    """Show the time of gnn_moe over that of the same model with separate blocks."""
    wide, _ = body("gnn_moe", experts)
    separate, _ = body("gnn_moe", experts)
    use_separate_blocks(separate)
    steps = {"wide": step(wide, rows), "separate": step(separate, rows)}
    seconds = alternate(steps, rounds)
    ratio = seconds["separate"] / seconds["wide"]
    print(f"gnn_moe E = {experts:2} speed over separate blocks: {ratio:.3f}", flush=True)


def show_memory(experts: int) -> None:
    """Show the extra memory of the graph coupling, each model in a process of its own."""
    found = {}
    for name, fields in {"graph": {}, "mean": MEAN}.items():
        asked = json.dumps({"model": "gnn_moe", "experts": experts, "rows": 2, **fields})
        command = [sys.executable, __file__, "--memory-of", asked]
        found[name] = float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    extra = found["graph"] - found["mean"]
    print(f"gnn_moe E = {experts:2} memory over mean, 256 tokens: +{extra:.0f} MB", flush=True)


def body(model: str, experts: int, **fields: object) -> tuple:
    """Return a body in training mode and its forward FLOPs per token."""
    import torch

    from research_eval.registry import MODELS_MAP, ROUTERS_MAP
    from research_eval.spec import BodyContext

    torch.manual_seed(0)
    spec = MODELS_MAP[model]
    params = spec.params(
        embed_dim=WIDTH, num_heads=HEADS, num_layers=1, num_experts=experts, **fields
    )
    context = BodyContext(2, LENGTH, causal=True, find_router=ROUTERS_MAP.__getitem__)
    flops = spec.cost(params, context, LENGTH).flops_per_token
    return spec.build(params, context), flops


def step(module: object, rows: int) -> Callable[[], None]:
    """Return a forward and backward pass, ready to run."""
    import torch

    from research_eval.spec import BodyInput

    x_BLD = torch.randn(rows, LENGTH, WIDTH, requires_grad=True)
    batch = BodyInput(x_BLD, torch.zeros(rows, LENGTH, dtype=torch.int64), None)
    upstream_BLD = torch.randn(rows, LENGTH, WIDTH)

    def forward_and_backward() -> None:
        y_BLD = module(batch).hidden_BLD
        torch.autograd.grad(y_BLD, [x_BLD, *module.parameters()], upstream_BLD)

    return forward_and_backward


def alternate(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each step; one round of warm-up is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(1 + rounds):
        for name, run in steps.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}


def use_separate_blocks(module: object) -> None:
    """Replace the parallel blocks of a body by blocks that run one after another."""
    import torch
    from torch import nn

    from research_eval.models._blocks import Block

    class SeparateBlocks(nn.Module):
        def __init__(self, params: object, count: int) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(Block(params) for _ in range(count))

        def forward(self, x_BLD: torch.Tensor, pattern: object) -> torch.Tensor:
            return torch.stack([block(x_BLD, pattern).flatten(0, 1) for block in self.blocks])

    for layer in module.layers:
        layer.experts = SeparateBlocks(layer.experts.params, layer.experts.num_experts)


def peak_mb(model: str, experts: int, rows: int, **fields: object) -> float:
    """Return the peak memory of one training step over what the process holds before it."""
    module, _ = body(model, experts, **fields)
    run = step(module, rows)
    before = memory_mb("VmRSS")
    run()
    return memory_mb("VmHWM") - before


def memory_mb(field: str) -> float:
    """Return a field of /proc/self/status; getrusage's peak would include that of the parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


if __name__ == "__main__":
    main()

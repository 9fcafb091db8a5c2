"""The mixture-of-experts layer against a dense feed-forward of equal active FLOPs.

    python benchmarks/moe_layer.py               # 8 and 32 experts, fp32; about a minute
    python benchmarks/moe_layer.py --bf16        # products in bf16
    RESEARCH_EVAL_ALLOCATOR=default python benchmarks/moe_layer.py

4,096 tokens of width 256, 2 of E experts with 1,024 units each, GELU; forward and backward with
gradients of tokens, weights and router. The dense layer has 2,048 units. `naive` is a loop over
experts that gathers, multiplies and adds, with the same routing. The three alternate within one
process, and ratios of the medians are shown. Each number of experts has a process of its own, as
a training has.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from research_eval.allocator import tune_allocator

TOKENS, WIDTH, UNITS, TOP_K = 4096, 256, 1024, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experts", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    if len(args.experts) > 1:
        options = ["--rounds", str(args.rounds), *(["--bf16"] if args.bf16 else [])]
        for num_experts in args.experts:
            command = [sys.executable, __file__, "--experts", str(num_experts), *options]
            subprocess.run(command, check=True)
        return
    print(tune_allocator())
    compare(args.experts[0], args.rounds, bf16=args.bf16)


def compare(num_experts: int, rounds: int, *, bf16: bool) -> None:
    import torch

    torch.manual_seed(0)
    steps = contestants(num_experts)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        for step in steps.values():
            step()
        for _ in range(rounds):
            for name, step in steps.items():
                start = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - start)
    rate = {name: TOKENS / statistics.median(s) for name, s in seconds.items()}
    shown = ", ".join(f"{name} {tokens:,.0f}" for name, tokens in rate.items())
    print(f"E = {num_experts}, tokens/s: {shown}")
    print(f"  ours / dense {rate['ours'] / rate['dense']:.3f}", end="")
    print(f", ours / naive {rate['ours'] / rate['naive']:.3f}", flush=True)


def contestants(num_experts: int) -> dict[str, Callable[[], None]]:
    """Return one forward and backward pass of each layer, ready to run."""
    import torch

    from research_eval.models._blocks import FeedForward
    from research_eval.models._dispatch import RealTokens
    from research_eval.models.moe import MoELayer, MoEParams
    from research_eval.registry import ROUTERS_MAP
    from research_eval.spec import BodyContext, BodyInput
    from research_eval.testing.reference import naive_experts

    params = MoEParams(
        embed_dim=WIDTH, ff_factor=UNITS / WIDTH, num_experts=num_experts, top_k=TOP_K
    )
    context = BodyContext(2, TOKENS, causal=True, find_router=ROUTERS_MAP.__getitem__)
    ours = MoELayer(params, context, layer=0)
    naive = MoELayer(params, context, layer=0)
    experts = naive.experts
    experts.forward = partial(naive_experts, experts)
    dense = FeedForward(params.model_copy(update={"ff_factor": TOP_K * UNITS / WIDTH}))
    x_TD = torch.randn(TOKENS, WIDTH, requires_grad=True)
    ids_BL = torch.zeros(1, TOKENS, dtype=torch.int64)
    tokens = RealTokens(BodyInput(x_TD[None], ids_BL, None))
    gradient_TD = torch.randn(TOKENS, WIDTH)

    def step(layer: torch.nn.Module, run: Callable) -> Callable[[], None]:
        def forward_and_backward() -> None:
            y_TD = run()
            torch.autograd.grad(y_TD, [x_TD, *layer.parameters()], gradient_TD.to(y_TD.dtype))

        return forward_and_backward

    return {
        "ours": step(ours, lambda: ours(x_TD, tokens)[0]),
        "dense": step(dense, lambda: dense(x_TD)),
        "naive": step(naive, lambda: naive(x_TD, tokens)[0]),
    }


if __name__ == "__main__":
    main()

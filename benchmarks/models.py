"""Training steps of every model, beside dense at equal FLOPs, slow forms, and public packages.

    python benchmarks/models.py                        # all tables; some 15 minutes
    python benchmarks/models.py --tables bodies --models goe --rounds 3
    RESEARCH_EVAL_ALLOCATOR=default python benchmarks/models.py
    python benchmarks/models.py --device cuda --bf16   # on a GPU

bodies: two layers of width 256 with 4 heads, 32 x 128 tokens, causal and not, no embeddings and no
head; forward, backward and fused AdamW. `dense` has the width of feed-forward at which its counted
FLOPs equal the model's. `naive` is the model's slow form: a loop over experts (moe), blocks that
run one after another (gnn_moe, hgnn_moe), one row at a time (goe, goe_original). `of peak` is
three times the counted forward FLOPs per second, over what one large product reaches.

layers: the experts layer alone, 4,096 tokens of width 256, 2 of E experts with 1,024 units,
forward and backward, beside public packages (`peers.py` says how to install them).

couplings: one round of messages over all pairs of 8 experts for 512 tokens, forward and backward,
beside torch_geometric.

Every contestant has a process of its own; they take turns, one step each, and ratios of medians
are shown: above 1, ours is faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from research_eval.allocator import tune_allocator

WIDTH, LAYERS, HEADS, UNITS, ROWS, LENGTH, TOP_K = 256, 2, 4, 1024, 32, 128, 2
BODIES = {
    "moe": {"num_experts": 8, "top_k": TOP_K},
    "gnn_moe": {"num_experts": 4},
    "hgnn_moe": {"num_experts": 4},
    "goe": {"num_experts": 4},
    "goe_original": {"num_experts": 4},
}
LAYER_EXPERTS = (8, 32)
COUPLED_TOKENS, COUPLED_EXPERTS = 512, 8
OURS_AS = {"Mixtral eager": "swiglu", "Mixtral grouped_mm": "swiglu"}


Built = tuple[Callable[[], object], float]
"""A step, and a number that the tables need: what it counts as, in FLOPs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tables = {"bodies": show_bodies, "layers": show_layers, "couplings": show_couplings}
    parser.add_argument("--tables", nargs="+", default=list(tables), choices=list(tables))
    parser.add_argument("--models", nargs="+", default=list(BODIES), choices=list(BODIES))
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--contestant", help="used by this script: be one, step by step")
    args = parser.parse_args()
    allocator = tune_allocator()
    if args.contestant:
        compete(args.device, bf16=args.bf16, **json.loads(args.contestant))
        return
    print(f"{allocator}; {args.device}, {'bf16' if args.bf16 else 'fp32'}")
    for name in args.tables:
        tables[name](args)


# ------------------------------------------------------------------------------------- tables


def show_bodies(args: argparse.Namespace) -> None:
    seconds, flops = race({"product": {"kind": "product"}}, args)["product"]
    peak = flops / seconds
    print(f"peak of a large product: {peak / 1e9:,.0f} GFLOP/s")
    for model in args.models:
        for causal in (True, False):
            body = {"kind": "body", "model": model, "causal": causal}
            found = race(
                {
                    "ours": body,
                    "dense": {**body, "form": "dense"},
                    "naive": {**body, "form": "naive"},
                },
                args,
            )
            seconds, flops = found["ours"]
            print(
                f"{model:12} {'causal' if causal else 'rows':6} "
                f"{ROWS * LENGTH / seconds:8,.0f} tokens/s"
                f"   over dense {found['dense'][0] / seconds:5.2f}"
                f"   over naive {found['naive'][0] / seconds:5.2f}"
                f"   of peak {3 * flops * ROWS * LENGTH / seconds / peak:.2f}",
                flush=True,
            )


def show_layers(args: argparse.Namespace) -> None:
    from peers import PEERS, package_of

    for experts in LAYER_EXPERTS:
        layer = {"kind": "layer", "experts": experts}
        contestants = {form: {**layer, "form": form} for form in ("gelu", "swiglu", *PEERS)}
        found = race(contestants, args)
        for peer in PEERS:
            if peer in found:
                ours = found[OURS_AS.get(peer, "gelu")][0]
                print(
                    f"experts layer, E = {experts:2}: {ROWS * LENGTH / ours:7,.0f} tokens/s, "
                    f"over {peer} {found[peer][0] / ours:.2f}  ({package_of(peer)})",
                    flush=True,
                )


def show_couplings(args: argparse.Namespace) -> None:
    from peers import package_of

    forms = ("ours", "HypergraphConv")
    found = race({form: {"kind": "coupling", "form": form} for form in forms}, args)
    if "HypergraphConv" in found:
        ratio = found["HypergraphConv"][0] / found["ours"][0]
        print(f"hypergraph round, over HypergraphConv {ratio:.2f}  ({package_of('pyg')})")


def race(contestants: dict[str, dict], args: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Return median seconds of a step and its number, for each contestant that can be built."""
    running = {name: enter(each, args) for name, each in contestants.items()}
    numbers = {}
    for name, process in list(running.items()):
        said = json.loads(process.stdout.readline())
        if "absent" in said:
            print(f"left out: {name}, {said['absent']}", flush=True)
            running.pop(name).wait()
        else:
            numbers[name] = said["number"]
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(args.rounds):
        for name, process in running.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            seconds[name].append(float(process.stdout.readline()))
    for process in running.values():
        process.communicate()
    return {name: (statistics.median(seconds[name]), numbers[name]) for name in running}


def enter(contestant: dict, args: argparse.Namespace) -> subprocess.Popen:
    command = [sys.executable, __file__, "--contestant", json.dumps(contestant)]
    command += ["--device", args.device, *(["--bf16"] if args.bf16 else [])]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


# -------------------------------------------------------------------------------- contestants


def compete(device: str, *, bf16: bool, kind: str, **fields: Any) -> None:
    """Build one contestant, tell its number, and take a step whenever asked."""
    import time

    import torch

    torch.manual_seed(0)
    builders = {"product": product, "body": body, "layer": layer, "coupling": coupling}
    try:
        with torch.device(device):
            step, number = builders[kind](**fields)
    except ImportError as error:
        print(json.dumps({"absent": f"which needs {error.name}"}), flush=True)
        return

    def timed() -> float:
        start = time.perf_counter()
        with torch.device(device), torch.autocast(device, torch.bfloat16, enabled=bf16):
            step()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    timed()
    timed()
    print(json.dumps({"number": number}), flush=True)
    for _ in sys.stdin:
        print(timed(), flush=True)


def product() -> Built:
    """Return one large matrix product, and its FLOPs."""
    import torch

    side = 2048
    a_MK, b_KN = torch.randn(side, side), torch.randn(side, side)
    return lambda: torch.mm(a_MK, b_KN), 2.0 * side**3


def body(model: str, *, causal: bool, form: str = "ours") -> Built:
    """Return a training step of a body, and its forward FLOPs per token."""
    import torch

    from research_eval.registry import MODELS_MAP, ROUTERS_MAP
    from research_eval.spec import BodyContext, BodyInput

    context = BodyContext(256, LENGTH, causal=causal, find_router=ROUTERS_MAP.__getitem__)
    spec = MODELS_MAP[model]
    params = spec.params(embed_dim=WIDTH, num_layers=LAYERS, num_heads=HEADS, **BODIES[model])
    flops = spec.cost(params, context, LENGTH).flops_per_token
    if form == "dense":
        spec, params = MODELS_MAP["dense"], dense_of(flops, context)
    module = spec.build(params, context)
    rows_at_once = ROWS
    if form == "naive":
        rows_at_once = make_slow(model, module)
    x_BLD = torch.randn(ROWS, LENGTH, WIDTH)
    ids_BL = torch.zeros(ROWS, LENGTH, dtype=torch.int64)
    upstream_BLD = torch.randn(ROWS, LENGTH, WIDTH)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        for start in range(0, ROWS, rows_at_once):
            rows = slice(start, start + rows_at_once)
            found = module(BodyInput(x_BLD[rows], ids_BL[rows], None, progress=0.0))
            aux = sum(term.weight * term.value for term in found.aux_losses.values())
            ((found.hidden_BLD * upstream_BLD[rows]).sum() + aux).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step, flops


def dense_of(flops: float, context: Any) -> Any:
    """Return the parameters of a dense body with these forward FLOPs per token."""
    from research_eval.registry import MODELS_MAP

    spec = MODELS_MAP["dense"]

    def params(factor: float) -> Any:
        return spec.params(embed_dim=WIDTH, num_layers=LAYERS, num_heads=HEADS, ff_factor=factor)

    one, two = (spec.cost(params(f), context, LENGTH).flops_per_token for f in (1.0, 2.0))
    return params(1.0 + (flops - one) / (two - one))


def make_slow(model: str, module: Any) -> int:
    """Give a body its slow form; return how many rows it should get at once."""
    from functools import partial

    from coupling import use_separate_blocks

    from research_eval.testing.reference import naive_experts

    if model == "moe":
        for each in module.modules():
            if hasattr(each, "into_EDG"):
                each.forward = partial(naive_experts, each)
    elif model in ("gnn_moe", "hgnn_moe"):
        use_separate_blocks(module)
    else:
        return 1
    return ROWS


def layer(experts: int, form: str) -> Built:
    """Return forward and backward of an experts layer: ours with an activation, or a peer's."""
    import torch
    from peers import PEERS, named

    from research_eval.models._dispatch import RealTokens
    from research_eval.models.moe import MoELayer, MoEParams
    from research_eval.registry import ROUTERS_MAP
    from research_eval.spec import BodyContext, BodyInput

    tokens = ROWS * LENGTH
    if form in PEERS:
        module, run = named(form, WIDTH, UNITS, experts)
    else:
        params = MoEParams(
            embed_dim=WIDTH,
            ff_factor=UNITS / WIDTH,
            num_experts=experts,
            top_k=TOP_K,
            activation=form,
        )
        context = BodyContext(2, tokens, causal=True, find_router=ROUTERS_MAP.__getitem__)
        module = MoELayer(params, context, layer=0)
        ids_BL = torch.zeros(1, tokens, dtype=torch.int64)
        real = RealTokens(BodyInput(torch.zeros(1, tokens, WIDTH), ids_BL, None))

        def run(x_TD: torch.Tensor) -> torch.Tensor:
            return module(x_TD, real)[0]

    return passes(module, run, torch.randn(tokens, WIDTH)), 0.0


def coupling(form: str) -> Built:
    """Return forward and backward of one round over all pairs of experts."""
    import torch
    from peers import hypergraph_conv

    from research_eval.models.hgnn_moe import HGNNMoEParams, HypergraphCoupling, members_of

    params = HGNNMoEParams(
        embed_dim=WIDTH, num_experts=COUPLED_EXPERTS, hyperedges="all_pairs", gnn_layers=1
    )
    if form == "ours":
        module = HypergraphCoupling(params)

        def run(x_TED: torch.Tensor) -> torch.Tensor:
            return module(x_TED).x_TED
    else:
        module, run = hypergraph_conv(WIDTH, members_of(params), COUPLED_TOKENS)
    return passes(module, run, torch.randn(COUPLED_TOKENS, COUPLED_EXPERTS, WIDTH)), 0.0


def passes(module: Any, run: Callable, x: Any) -> Callable[[], None]:
    """Return a step that does forward and backward with all gradients."""
    import torch

    x.requires_grad_()
    upstream = torch.randn_like(x)
    wanted = [x, *(p for p in module.parameters() if p.requires_grad)]

    def step() -> None:
        y = run(x)
        torch.autograd.grad(y, wanted, upstream.to(y.dtype), allow_unused=True)

    return step


if __name__ == "__main__":
    main()

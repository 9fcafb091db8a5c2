"""Memory of a training step as a function of the number of experts, predicted and measured.

    python benchmarks/expert_memory.py --json memory.json    # 22 points; some 40 minutes alone
    python benchmarks/expert_memory.py --models gnn_moe --experts 32 --recompute yes
    python benchmarks/expert_memory.py --budget 8GiB --models gnn_moe --recompute yes
    python benchmarks/expert_memory.py --draw memory.json    # docs/images/expert_memory.png

The sizes are those of `lm_step.py`: width 256, 4 layers, vocabulary 50,257, 32 x 128 tokens. Each
point is a fresh process that takes two steps: forward, backward, clipping, fused AdamW, whose
means are there from the first step on. Peaks count from what the process held after its imports.

predicted  what `research-eval run --dry-run` says (less the data): what tensors hold
in use     most that the C allocator had given out, seen every 3 ms; glibc only
held       peak of resident memory: in use, libraries, and holes in the heap

`tuned` is the allocator of `research-eval run`, which keeps what is freed: fast, and with holes.
`lean` gives everything above 1 MiB back at once: RESEARCH_EVAL_ALLOCATOR=default and
MALLOC_MMAP_THRESHOLD_=1048576. Points that are predicted above --limit are not measured.
With --budget, the most experts whose prediction is within it are found, and measured.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from lm_step import LENGTH, ROWS, import_ours, peak_kib, resident_kib, train

MODELS = ("gnn_moe", "moe", "dense")
STEPS = 2
ALLOCATORS = {
    "tuned": {},
    "lean": {"RESEARCH_EVAL_ALLOCATOR": "default", "MALLOC_MMAP_THRESHOLD_": str(2**20)},
}
PICTURE = Path(__file__).parents[1] / "docs/images/expert_memory.png"
UNITS = {"MiB": 2**20, "GiB": 2**30}
Point = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--experts", nargs="+", type=int, default=[2, 4, 8, 16, 32])
    parser.add_argument("--precisions", nargs="+", default=["bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--recompute", nargs="+", default=["no", "yes"], choices=["no", "yes"])
    parser.add_argument("--allocators", nargs="+", default=["tuned"], choices=list(ALLOCATORS))
    parser.add_argument("--limit", type=in_bytes, default="13GiB")
    parser.add_argument("--budget", type=in_bytes)
    parser.add_argument("--json", type=Path, help="where the points are saved as they come")
    parser.add_argument("--draw", type=Path, metavar="JSON", help="draw saved points; do no more")
    parser.add_argument("--worker", help="used by this script: be one point")
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(measure(**json.loads(args.worker))))
    elif args.draw:
        draw(json.loads(args.draw.read_text()), PICTURE)
    else:
        show(args)


def in_bytes(text: str) -> int:
    return int(float(text[:-3]) * UNITS[text[-3:]])


def show(args: argparse.Namespace) -> None:
    points = []
    print(f"{'':38}{'MiB: predicted':>15} {'in use':>7} {'error':>6} {'held':>7}   s/step")
    ways = product(args.models, args.precisions, args.recompute, args.allocators)
    for model, precision, recompute, allocator in ways:
        fields = {"model": model, "precision": precision, "recompute": recompute == "yes"}
        if args.budget:
            experts = [largest(fields, args.budget)]
        else:
            experts = args.experts if model != "dense" else [1]
        for count in experts:
            point = run({**fields, "experts": count}, allocator, args.limit)
            points.append(point)
            print(line(point), flush=True)
            if args.json:
                args.json.write_text(json.dumps(points, indent=1))


def line(point: Point) -> str:
    way = "recomputed" if point["recompute"] else "kept"
    name = f"{point['model']:8} E ={point['experts']:3} {point['precision']} {way:10} "
    text = f"{name}{point['allocator']:8}{point['predicted'] / 2**20:15,.0f}"
    if point["held"] is None:
        return f"{text}   above --limit, not measured"
    error = point["predicted"] / point["in_use"] - 1
    return (
        f"{text} {point['in_use'] / 2**20:7,.0f} {error:+6.0%} {point['held'] / 2**20:7,.0f}"
        f" {point['seconds']:8.1f}"
    )


def largest(fields: Point, budget: int) -> int:
    """Return the most experts whose prediction is within the budget; by halving, from 1 up."""

    def fits(experts: int) -> bool:
        found = run({**fields, "experts": experts}, "tuned", limit=0)
        return bool(found["predicted"] <= budget)

    if not fits(1):
        raise SystemExit("not even one expert is predicted to fit")
    within, beyond = 1, 2
    while fits(beyond):
        within, beyond = beyond, 2 * beyond
    while beyond - within > 1:
        middle = (within + beyond) // 2
        within, beyond = (middle, beyond) if fits(middle) else (within, middle)
    print(f"largest E within {budget / 2**30:g} GiB, as predicted: {within}")
    return within


def run(fields: Point, allocator: str, limit: int) -> Point:
    """Return a point from a process of its own."""
    command = [sys.executable, __file__, "--worker", json.dumps({**fields, "limit": limit})]
    environment = {**os.environ, **ALLOCATORS[allocator]}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return {**fields, "allocator": allocator, **json.loads(done.stdout)}


def measure(model: str, experts: int, precision: str, recompute: bool, limit: int) -> Point:
    """Predict the memory of a step, and take some if they are predicted within the limit."""
    settings = {"num_experts": experts} if model != "dense" else {}
    build = import_ours(model, checkpoint_activations=recompute, **settings)
    import torch

    imported_kib = resident_kib()
    with most_in_use() as found:
        module, loss_of, _ = build()
        casting = partial(torch.autocast, "cpu", torch.bfloat16, enabled=precision == "bf16")
        point = {
            "parameters": module.param_count(),
            "predicted": module.step_bytes(ROWS, LENGTH, casting),
            "in_use": None,
            "held": None,
        }
        if point["predicted"] > limit:
            return point
        seconds, _ = train(module, loss_of, precision, STEPS, ROWS)
    held = 1024 * (peak_kib() - imported_kib)
    return {**point, "in_use": found[0], "held": held, "seconds": min(seconds)}


class _MallocState(ctypes.Structure):
    """What mallinfo2(3) returns."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd",
            "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


@contextmanager
def most_in_use() -> Iterator[list[int]]:
    """Give the most bytes that were allocated while the context lasts, over those at its start."""
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = _MallocState

    def in_use() -> int:
        state = library.mallinfo2()
        return int(state.uordblks + state.hblkhd)

    before, most, over = in_use(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.003):
            most[0] = max(most[0], in_use() - before)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield most
    finally:
        over.set()
        watching.join()


def draw(points: Sequence[Point], picture: Path) -> None:
    """Draw predicted memory as lines, measured memory as marks: in use filled, held hollow."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    colours = {"gnn_moe": "#0072B2", "moe": "#D55E00"}  # Wong 2011, as in docs/draw.py
    ways = sorted({p["recompute"] for p in points})
    figure, grid = plt.subplots(
        1, len(ways), figsize=(4.5 * len(ways), 3.4), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip  # one line per kind of setting
    panels = grid[0]
    for axes, recompute in zip(panels, ways, strict=True):
        for model, colour in colours.items():
            asked = (model, recompute, "bf16", "tuned")
            keys = ("model", "recompute", "precision", "allocator")
            draw_model(axes, [p for p in points if tuple(p[k] for k in keys) == asked], colour)
        axes.set_xscale("log", base=2)
        axes.set(
            title="values recomputed" if recompute else "values kept",
            xlabel="experts per layer",
            xticks=[2, 4, 8, 16, 32],
            xticklabels=[2, 4, 8, 16, 32],
        )
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set(ylabel="GiB of a training step, bf16", ylim=(0, None))
    grey = {"color": "0.4", "ls": "", "marker": "o"}
    panels[0].plot([], [], color="0.4", label="predicted")
    panels[0].plot([], [], **grey, label="in use, measured")
    panels[0].plot([], [], **grey, mfc="none", label="held by the process")
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(picture, dpi=160)


def draw_model(axes: Any, points: Sequence[Point], colour: str) -> None:
    if not points:
        return
    experts = [p["experts"] for p in points]
    predicted = [p["predicted"] / 2**30 for p in points]
    axes.plot(experts, predicted, color=colour)
    axes.annotate(
        points[0]["model"], (experts[-1], predicted[-1]), xytext=(5, 0),
        textcoords="offset points", color=colour, va="center", annotation_clip=False,
    )  # fmt: skip  # what is said, and how
    for key, face in (("in_use", colour), ("held", "none")):
        taken = [p for p in points if p[key] is not None]
        at, values = [p["experts"] for p in taken], [p[key] / 2**30 for p in taken]
        axes.plot(at, values, ls="", marker="o", ms=5, mec=colour, mfc=face)


if __name__ == "__main__":
    main()

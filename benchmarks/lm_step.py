"""One training step of the reference language model, against GPT2LMHeadModel of transformers.

    python benchmarks/lm_step.py                     # 3 rounds of 8 steps; some 5 minutes
    python benchmarks/lm_step.py --parity-steps 200  # bf16 losses beside fp32 too; 20 minutes

Width 256, 4 layers, 4 heads, vocabulary 50,257 with tied embeddings, batches of 32 x 128 tokens;
forward, backward, clipping and fused AdamW. Theirs runs as its users run it: dropout 0,
`labels=ids`, system allocator. Ours runs as `research-eval run` runs it: allocator tuned. The two
alternate in fresh processes, and the medians over all measured steps are compared. Memory is the
peak over what the process held after its imports.

With --parity-steps both precisions train on the same stream (half of the tokens follow from the
one before), and the largest relative difference of a step's loss is shown.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROWS, LENGTH, VOCABULARY = 32, 128, 50_257
WIDTH, LAYERS, HEADS = 256, 4, 4
WARM_UP_STEPS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="measured steps of each process")
    parser.add_argument("--parity-steps", type=int, default=0)
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of a batch")
    parser.add_argument("--precisions", nargs="*", default=["fp32", "bf16"])
    parser.add_argument("--worker", nargs=2, metavar=("MODEL", "PRECISION"))
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(work(*args.worker, args.steps, args.rows)))
        return
    for precision in args.precisions:
        compare(precision, args.rounds, args.steps, args.rows)
    if args.parity_steps:
        compare_losses(args.parity_steps, args.rows)


def compare(precision: str, rounds: int, steps: int, rows: int) -> None:
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    memory = dict.fromkeys(seconds, 0.0)
    for _ in range(rounds):
        for model in seconds:
            found = in_new_process(model, precision, steps, rows)
            seconds[model] += found["seconds"]
            memory[model] = max(memory[model], found["peak_mib"])
    rate = {model: rows * LENGTH / statistics.median(s) for model, s in seconds.items()}
    for model, tokens in rate.items():
        print(f"{precision} {model:6}: {tokens:7.0f} tokens/s, peak {memory[model]:5.0f} MiB")
    print(f"{precision} ours / theirs: {rate['ours'] / rate['theirs']:.2f}", flush=True)


def compare_losses(steps: int, rows: int) -> None:
    losses = [in_new_process("ours", p, steps, rows)["losses"] for p in ("fp32", "bf16")]
    apart = [abs(b / a - 1) for a, b in zip(*losses, strict=True)]
    print(f"loss of {len(apart)} steps, fp32: {losses[0][0]:.3f} -> {losses[0][-1]:.3f}")
    print(f"bf16 differs by at most {max(apart):.3%}, {statistics.mean(apart):.3%} on average")


def in_new_process(model: str, precision: str, steps: int, rows: int) -> dict:
    command = [sys.executable, __file__, "--worker", model, precision]
    command += ["--steps", str(steps), "--rows", str(rows)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def work(model: str, precision: str, steps: int, rows: int) -> dict:
    """Train for some steps and return what each took; runs in a process of its own."""
    build = import_ours() if model == "ours" else import_theirs()
    import torch

    imported_kib = resident_kib()
    torch.manual_seed(0)
    module, loss_of = build()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, fused=True)
    stream = token_stream(rows)
    seconds, losses = [], []
    for _ in range(WARM_UP_STEPS + steps):
        ids = next(stream)
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_of(ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_mib = (peak_kib - imported_kib) / 1024
    return {"seconds": seconds[WARM_UP_STEPS:], "losses": losses, "peak_mib": peak_mib}


def resident_kib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024


def token_stream(rows: int) -> Iterator:
    """Yield ids [rows, 129] in which every second token follows from the one before."""
    import torch

    rng = torch.Generator().manual_seed(0)
    successor = torch.randperm(VOCABULARY, generator=rng)
    while True:
        drawn = (VOCABULARY * torch.rand(rows, LENGTH // 2 + 1, generator=rng) ** 4).long()
        yield torch.stack([drawn, successor[drawn]], dim=2).flatten(1)[:, : LENGTH + 1]


def import_ours() -> Callable:
    from research_eval.allocator import tune_allocator

    tune_allocator()
    from research_eval.network import Network
    from research_eval.registry import MODELS_MAP, ROUTERS_MAP
    from research_eval.spec import BodyContext

    def build() -> tuple:
        spec = MODELS_MAP["dense"]
        params = spec.params(embed_dim=WIDTH, num_layers=LAYERS, num_heads=HEADS)
        context = BodyContext(VOCABULARY, LENGTH, causal=True, find_router=ROUTERS_MAP.__getitem__)
        module = Network(spec, params, context, task="language_modeling", num_classes=0)
        return module, lambda ids: module(ids[:, :-1], None, ids[:, 1:].contiguous()).loss

    return build


def import_theirs() -> Callable:
    from transformers import GPT2Config, GPT2LMHeadModel

    def build() -> tuple:
        config = GPT2Config(
            vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
        )  # fmt: skip  # one line per kind of setting
        module = GPT2LMHeadModel(config)
        return module, lambda ids: module(input_ids=ids[:, :-1], labels=ids[:, :-1]).loss

    return build


if __name__ == "__main__":
    main()

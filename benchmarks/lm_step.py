"""One training step of our language models, beside the same sizes in transformers.

    python benchmarks/lm_step.py                     # 3 rounds of 8 steps; some 12 minutes
    python benchmarks/lm_step.py --models moe --precisions bf16
    python benchmarks/lm_step.py --parity-steps 200  # bf16 losses beside fp32 too; 40 minutes more

dense stands beside GPT2LMHeadModel, moe (8 experts, 2 for each token) beside MixtralForCausalLM.
Width 256, 4 layers, 4 heads, 1,024 units, vocabulary 50,257 with tied embeddings, batches of
32 x 128 tokens; forward, backward, clipping and fused AdamW. moe has what Mixtral has: gated
experts, rotary positions, a key and a value for every head. Its norms and its losses are our own:
LayerNorm and not RMSNorm, and the balance and z-losses, which Mixtral leaves out unless asked.

Theirs runs as its users run it: dropout 0, `labels=ids`, system allocator, and the experts that
this version of transformers takes by itself; `mixtral-eager` and `mixtral-grouped_mm` ask for one
by `experts_implementation`. Ours runs as `research-eval run` runs it: allocator tuned. All
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
from functools import partial
from pathlib import Path
from typing import Any

ROWS, LENGTH, VOCABULARY = 32, 128, 50_257
WIDTH, LAYERS, HEADS, UNITS = 256, 4, 4, 1024
EXPERTS, TOP_K = 8, 2
WARM_UP_STEPS = 2

OURS: dict[str, dict[str, Any]] = {
    "dense": {},
    "moe": {"num_experts": EXPERTS, "top_k": TOP_K, "activation": "swiglu", "positions": "rope"},
}
"""Our models, and in which parameters they are not as they are by default."""

THEIRS = {
    "dense": ("gpt2",),
    "moe": ("mixtral", "mixtral-eager", "mixtral-grouped_mm"),
}
"""What stands beside each: the first as it is by default, then experts that were asked for."""

LossOf = Callable[[Any], Any]
"""Maps ids [B, L + 1] to the loss that is trained."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(OURS), choices=list(OURS))
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
    for model in args.models:
        for precision in args.precisions:
            compare(model, precision, args.rounds, args.steps, args.rows)
        if args.parity_steps:
            compare_losses(model, args.parity_steps, args.rows)


def compare(ours: str, precision: str, rounds: int, steps: int, rows: int) -> None:
    seconds: dict[str, list[float]] = {model: [] for model in (ours, *THEIRS[ours])}
    memory = dict.fromkeys(seconds, 0.0)
    experts: dict[str, str | None] = {}
    for _ in range(rounds):
        for model in seconds:
            found = in_new_process(model, precision, steps, rows)
            seconds[model] += found["seconds"]
            memory[model] = max(memory[model], found["peak_mib"])
            experts[model] = found["experts"]
    rate = {model: rows * LENGTH / statistics.median(s) for model, s in seconds.items()}
    for model, tokens in rate.items():
        beside = "" if model == ours else f", {ours} over it {rate[ours] / tokens:.2f}"
        by = f" (experts: {experts[model]})" if experts[model] else ""
        print(
            f"{precision} {model:18}: {tokens:7.0f} tokens/s, peak {memory[model]:5.0f} MiB"
            f"{beside}{by}",
            flush=True,
        )


def compare_losses(model: str, steps: int, rows: int) -> None:
    losses = [in_new_process(model, p, steps, rows)["losses"] for p in ("fp32", "bf16")]
    apart = [abs(b / a - 1) for a, b in zip(*losses, strict=True)]
    print(f"{model}: loss of {len(apart)} steps, fp32: {losses[0][0]:.3f} -> {losses[0][-1]:.3f}")
    print(f"bf16 differs by at most {max(apart):.3%}, {statistics.mean(apart):.3%} on average")


def in_new_process(model: str, precision: str, steps: int, rows: int) -> dict:
    command = [sys.executable, __file__, "--worker", model, precision]
    command += ["--steps", str(steps), "--rows", str(rows)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def work(model: str, precision: str, steps: int, rows: int) -> dict:
    """Train for some steps and return what each took; runs in a process of its own."""
    build = import_ours(model, **OURS[model]) if model in OURS else import_theirs(model)
    import torch

    imported_kib = resident_kib()
    torch.manual_seed(0)
    module, loss_of, experts = build()
    seconds, losses = train(module, loss_of, precision, WARM_UP_STEPS + steps, rows)
    return {
        "seconds": seconds[WARM_UP_STEPS:],
        "losses": losses,
        "peak_mib": (peak_kib() - imported_kib) / 1024,
        "experts": experts,
    }


def train(
    module: Any, loss_of: LossOf, precision: str, steps: int, rows: int
) -> tuple[list[float], list[float]]:
    """Train on the CPU with fused AdamW; return seconds and loss of each step."""
    import torch

    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, fused=True)
    stream = token_stream(rows)
    seconds, losses = [], []
    for _ in range(steps):
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
    return seconds, losses


def resident_kib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024


def peak_kib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def token_stream(rows: int) -> Iterator:
    """Yield ids [rows, 129] in which every second token follows from the one before."""
    import torch

    rng = torch.Generator().manual_seed(0)
    successor = torch.randperm(VOCABULARY, generator=rng)
    while True:
        drawn = (VOCABULARY * torch.rand(rows, LENGTH // 2 + 1, generator=rng) ** 4).long()
        yield torch.stack([drawn, successor[drawn]], dim=2).flatten(1)[:, : LENGTH + 1]


def import_ours(model: str, **settings: Any) -> Callable[[], tuple]:
    """Import what a model of ours needs; return what builds it: module, loss, and no experts."""
    from research_eval.allocator import tune_allocator

    tune_allocator()
    from research_eval.network import Network
    from research_eval.registry import MODELS_MAP, ROUTERS_MAP
    from research_eval.spec import BodyContext

    def build() -> tuple:
        spec = MODELS_MAP[model]
        sizes = {"embed_dim": WIDTH, "num_layers": LAYERS, "num_heads": HEADS}
        params = spec.params(**sizes, ff_factor=UNITS / WIDTH, **settings)
        context = BodyContext(VOCABULARY, LENGTH, causal=True, find_router=ROUTERS_MAP.__getitem__)
        module = Network(spec, params, context, task="language_modeling", num_classes=0)

        def loss_of(ids: Any) -> Any:
            found = module(ids[:, :-1], None, ids[:, 1:].contiguous())
            return found.loss + sum(term.weight * term.value for term in found.aux_losses.values())

        return module, loss_of, None

    return build


def import_theirs(model: str) -> Callable[[], tuple]:
    """Import what a model of transformers needs; return what builds it: module, loss, experts."""
    import transformers

    def gpt2() -> tuple:
        config = transformers.GPT2Config(
            vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
            n_inner=UNITS, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
        )  # fmt: skip  # one line per kind of setting
        return transformers.GPT2LMHeadModel(config), None

    def mixtral(**asked: str) -> tuple:
        config = transformers.MixtralConfig(
            vocab_size=VOCABULARY, max_position_embeddings=LENGTH, hidden_size=WIDTH,
            num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=HEADS,
            intermediate_size=UNITS, num_local_experts=EXPERTS, num_experts_per_tok=TOP_K,
            tie_word_embeddings=True, attention_dropout=0.0, use_cache=False, **asked,
        )  # fmt: skip  # one line per kind of setting
        module = transformers.MixtralForCausalLM(config)
        return module, module.config._experts_implementation  # there is no public way to ask

    def build() -> tuple:
        name, _, experts = model.partition("-")
        asked = {"experts_implementation": experts} if experts else {}
        module, taken = {"gpt2": gpt2, "mixtral": partial(mixtral, **asked)}[name]()
        return module, lambda ids: module(input_ids=ids[:, :-1], labels=ids[:, :-1]).loss, taken

    return build


if __name__ == "__main__":
    main()

"""Trains small networks of every kind and keeps their curves and weights in a file.

    python curves.py OUT        alone, or once for each of several processes of a launcher

Nothing random is drawn in training, and the last batch of an epoch is small: with two processes
their shares of it are 3 and 2 rows, or 1 and none.
"""

import sys
from contextlib import nullcontext, suppress
from pathlib import Path

import torch

from research_eval import ranks
from research_eval.config import ExperimentConfig
from research_eval.config.experiment import SGDParams
from research_eval.errors import StoppedError
from research_eval.models import goe, goe_original
from research_eval.network import Network
from research_eval.processes import launched
from research_eval.records import ListRecorder
from research_eval.registry import MODELS_MAP, ROUTERS_MAP
from research_eval.spec import BodyContext, Dataset, Split
from research_eval.training.progress import Nobody, StopSignal
from research_eval.training.train import Files, Trainer

SMALL = {"embed_dim": 8, "num_heads": 2, "num_layers": 2, "dropout": 0.0}
STEPS = 4

STRONG = {
    "moe": {"aux_loss_weight": 1.0, "z_loss_weight": 0.1},
    "goe": {"aux_loss_weight": 1.0, "entropy_loss_weight": 1.0},
    "goe_original": {
        "path_loss_weight": 0.3,
        "diversity_loss_weight": 1.0,
        "contrastive_loss_weight": 1.0,
        "value_loss_weight": 1.0,
    },
}
"""Auxiliary terms that weigh as much as the loss, so that a wrong gradient of theirs shows."""

VARIANTS = {
    "moe bias": {"balance": "bias", "bias_update_rate": 0.05},
    "moe sigmoid": {"router": "sigmoid", "top_k": 1, "k1_weight": "straight_through"},
    "moe threshold": {"router": "threshold", "threshold": 0.5},
    "moe hash": {"router": "hash"},
    "moe recomputed": {"checkpoint_activations": True},
    "goe dense": {"dispatch": "dense"},
    "goe_original guesses": {"meta_loss_weight": 1.0, "num_layers": 3},
    "hgnn_moe dynamic": {"hyperedges": "dynamic", "edge_gate": True},
}
"""Beside the defaults of each registered model."""

SETTINGS = {
    "moe accumulated": {"training_params": {"grad_accum_steps": 2}},
    "moe sampled": {"training_params": {"max_eval_batches": 1}},
    "moe little to validate": {"validation_rows": 1},
}


def cases(task):
    """Yield name, model and its parameters, and further settings of the training."""
    for name in sorted(MODELS_MAP):
        yield name, name, {}, {}
    if task == "classification":
        for name, params in VARIANTS.items():
            yield name, name.split()[0], params, {}
    else:
        for name, settings in SETTINGS.items():
            yield name, name.split()[0], {}, settings


def split(rows, seed, task):
    """Return padded rows in which each id follows from the one before."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(1, 7, (rows, 1), generator=generator)
    ids = ((start + torch.arange(7) - 1) % 6 + 1).int()
    lengths = torch.randint(2, 8, (rows,), generator=generator, dtype=torch.int32)
    ids[torch.arange(7) >= lengths[:, None]] = 0
    labels = start.squeeze(1) % 2 if task == "classification" else None
    return Split(ids, lengths, labels_N=labels)


def dataset(task, validation_rows=13):
    """Return 21 rows to classify, or 17 to continue."""
    return Dataset(
        task=task,
        vocab_size=7,
        max_length=7,
        train=split(21 if task == "classification" else 17, 0, task),
        validation=split(validation_rows, 1, task),
        test=None,
        label_names=("even", "odd") if task == "classification" else (),
        fingerprint="memory",
        source="memory",
    )


def make(task, model, params, settings, folder, stop=None):
    """Return a trainer and its recorder."""
    spec, data = MODELS_MAP[model], dataset(task, settings.get("validation_rows", 13))
    model_params = spec.params.model_validate({**SMALL, **STRONG.get(model, {}), **params})
    training = {"precision": "fp32", "max_steps": STEPS, "log_every": 1, "eval_every": 3}
    config = ExperimentConfig.model_validate(
        {
            "experiment_name": "curve",
            "model_type": model,
            "dataset_name": "parity",
            "batch_size": 8,
            "model_params": model_params,
            "optimizer_params": SGDParams(lr=0.3),
            "training_params": {**training, **settings.get("training_params", {})},
        }
    )
    context = BodyContext(
        vocab_size=data.vocab_size,
        max_length=data.max_length,
        causal=task == "language_modeling",
        find_router=lambda name: ROUTERS_MAP[name],
    )
    torch.manual_seed(0)
    network = Network(spec, model_params, context, task=task, num_classes=len(data.label_names))
    recorder, files = ListRecorder(), Files(folder)
    trainer = Trainer(config, network, data, recorder, files, Nobody(), stop or StopSignal())
    return trainer, recorder


def train(*case):
    """Return the points, arrays and flags of a training, and its last weights."""
    trainer, recorder = make(*case)
    trainer.run()
    return {
        "points": recorder.points,
        "arrays": recorder.arrays,
        "flags": recorder.flags,
        "weights": trainer.network.state_dict(),
    }


def stopped_and_resumed(folder):
    """Return the weights of a training with dropout and noise, whole and with a stop in it.

    Of several processes only the first is asked to stop.
    """
    case = ("classification", "moe", {"router": "noisy_topk", "dropout": 0.3}, {}, folder)
    stop = StopSignal()
    whole, _ = make(*case)
    whole.run()
    first, _ = make(*case, stop)
    if ranks.rank() == 0:
        stop.is_requested = lambda: first.counters.step == 2
    with suppress(StoppedError):
        first.run()
    second, _ = make(*case)
    resumed_at = second.restore()
    second.run()
    return {
        "resumed at": resumed_at,
        "whole": whole.network.state_dict(),
        "resumed": second.network.state_dict(),
    }


def main(out):
    """Train all cases and write what became of them."""
    torch.set_num_threads(1)
    for module in (goe, goe_original):
        module.gumbel_noise = torch.zeros_like
    here = launched()
    with nullcontext() if here is None else ranks.joined(here, ranks.meeting_place(here)):
        folder = Path(out).parent / f"files of {ranks.size()}"
        folder.mkdir(exist_ok=True)
        curves = {
            f"{name}, {task}": train(task, *case, folder)
            for task in ("classification", "language_modeling")
            for name, *case in cases(task)
        }
        torch.save({"curves": curves, "stopped": stopped_and_resumed(folder)}, out)


if __name__ == "__main__":
    main(sys.argv[1])

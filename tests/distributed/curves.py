"""Trains small networks of every kind and keeps their curves and weights in a file.

    python curves.py OUT        alone, or once for each of several processes of a launcher

Nothing random is drawn in training, and the last batch of an epoch is small: with two processes
their shares of it are 3 and 2 rows, or 1 and none.
"""

import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import torch

from research_eval import ranks
from research_eval.config import ExperimentConfig
from research_eval.models import goe, goe_original
from research_eval.network import Network
from research_eval.processes import launched
from research_eval.records import ListRecorder
from research_eval.registry import MODELS_MAP, ROUTERS_MAP
from research_eval.spec import BodyContext, Dataset, Split
from research_eval.training.progress import Nobody, StopSignal
from research_eval.training.train import Files, Trainer

SMALL = {"embed_dim": 8, "num_heads": 2, "num_layers": 2, "dropout": 0.0}
STEPS = 5

VARIANTS = {
    "moe bias": {"balance": "bias", "bias_update_rate": 0.05},
    "moe sigmoid": {"router": "sigmoid", "top_k": 1, "k1_weight": "straight_through"},
    "moe threshold": {"router": "threshold", "threshold": 0.5},
    "moe hash": {"router": "hash"},
    "moe recomputed": {"checkpoint_activations": True},
    "moe shared": {"moe_layers": "last", "num_shared_experts": 1},
    "goe dense": {"dispatch": "dense"},
    "goe_original guesses": {"meta_loss_weight": 0.1, "num_layers": 3},
    "gnn_moe content": {"readout": "content", "normalize": "sum"},
    "hgnn_moe dynamic": {"hyperedges": "dynamic", "edge_gate": True},
}
"""Beside the defaults of each registered model."""


def cases():
    """Yield name, model and its parameters, and further settings of the training."""
    for name in sorted(MODELS_MAP):
        yield name, name, {}, {}
    for name, params in VARIANTS.items():
        yield name, name.split()[0], params, {}
    yield "moe accumulated", "moe", {}, {"training_params": {"grad_accum_steps": 2}}


def split(rows, seed, task):
    """Return padded rows in which each id follows from the one before."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(1, 7, (rows, 1), generator=generator)
    ids = ((start + torch.arange(7) - 1) % 6 + 1).int()
    lengths = torch.randint(2, 8, (rows,), generator=generator, dtype=torch.int32)
    ids[torch.arange(7) >= lengths[:, None]] = 0
    labels = start.squeeze(1) % 2 if task == "classification" else None
    return Split(ids, lengths, labels_N=labels)


def dataset(task):
    """Return 21 rows to classify, or 17 to continue."""
    return Dataset(
        task=task,
        vocab_size=7,
        max_length=7,
        train=split(21 if task == "classification" else 17, 0, task),
        validation=split(13, 1, task),
        test=None,
        label_names=("even", "odd") if task == "classification" else (),
        fingerprint="memory",
        source="memory",
    )


def train(task, model, params, settings, folder):
    """Return the points, arrays and flags of a training, and its last weights."""
    spec, data = MODELS_MAP[model], dataset(task)
    model_params = spec.params.model_validate({**SMALL, **params})
    training = {"precision": "fp32", "max_steps": STEPS, "log_every": 1, "eval_every": 3}
    config = ExperimentConfig.model_validate(
        {
            "experiment_name": "curve",
            "model_type": model,
            "dataset_name": "parity",
            "batch_size": 8,
            "model_params": model_params,
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
    recorder = ListRecorder()
    trainer = Trainer(config, network, data, recorder, Files(folder), Nobody(), StopSignal())
    trainer.run()
    return {
        "points": recorder.points,
        "arrays": recorder.arrays,
        "flags": recorder.flags,
        "weights": network.state_dict(),
    }


def main(out):
    """Train all cases and write what became of them."""
    torch.set_num_threads(1)
    for module in (goe, goe_original):
        module.gumbel_noise = torch.zeros_like
    here = launched()
    with nullcontext() if here is None else ranks.joined(here, ranks.meeting_place(here)):
        found = {}
        for task in ("classification", "language_modeling"):
            for name, *case in cases():
                with tempfile.TemporaryDirectory() as folder:
                    found[f"{name}, {task}"] = train(task, *case, Path(folder))
        torch.save(found, out)


if __name__ == "__main__":
    main(sys.argv[1])

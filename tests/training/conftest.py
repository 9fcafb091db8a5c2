"""A small real task: parity of 200 rows, and a tiny Markov language, made in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from research_eval.config import ExperimentConfig
from research_eval.config.experiment import OPTIMIZERS, SCHEDULES
from research_eval.network import Network
from research_eval.records import ListRecorder
from research_eval.registry import MODELS_MAP, ROUTERS_MAP
from research_eval.spec import BodyContext, Dataset, Split
from research_eval.training.progress import Nobody, StopSignal, Watcher
from research_eval.training.seeding import derive
from research_eval.training.train import Files, Trainer


def parity_split(rows: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 5, (rows, 6), generator=generator, dtype=torch.int32)
    lengths = torch.randint(3, 7, (rows,), generator=generator, dtype=torch.int32)
    ids[torch.arange(6) >= lengths[:, None]] = 0
    return Split(ids, lengths, labels_N=(ids == 1).sum(1) % 2)


def text_split(rows: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(0, 5, (rows, 1), generator=generator, dtype=torch.int32)
    ids = (start + torch.arange(9, dtype=torch.int32)) % 5
    lengths = torch.full((rows,), 9, dtype=torch.int32)
    return Split(ids, lengths, num_bytes=rows * 8)


@pytest.fixture
def classification() -> Dataset:
    return Dataset(
        task="classification",
        vocab_size=5,
        max_length=6,
        train=parity_split(200, 0),
        validation=parity_split(60, 1),
        test=parity_split(60, 2),
        label_names=("even", "odd"),
        fingerprint="parity",
        source="memory",
    )


@pytest.fixture
def language() -> Dataset:
    return Dataset(
        task="language_modeling",
        vocab_size=5,
        max_length=8,
        train=text_split(100, 0),
        validation=text_split(30, 1),
        test=None,
        fingerprint="text",
        source="memory",
    )


Make = Callable[..., tuple[Trainer, ListRecorder]]


@pytest.fixture
def make_trainer(tmp_path: Path) -> Make:
    """Return a function that builds a trainer, its network seeded as `execute` does it."""

    def make(
        dataset: Dataset,
        *,
        model: str = "dense",
        folder: str = "run",
        watcher: Watcher | None = None,
        stop: StopSignal | None = None,
        **fields: Any,
    ) -> tuple[Trainer, ListRecorder]:
        spec = MODELS_MAP[model]
        small = {"embed_dim": 8, "num_heads": 2, "num_layers": 1, "dropout": 0.1}
        params = spec.params(**small, **fields.pop("model_params", {}))
        base = {"experiment_name": "t", "model_type": model, "dataset_name": "parity"}
        for section, known in (("optimizer_params", OPTIMIZERS), ("scheduler_params", SCHEDULES)):
            if section in fields:
                fields[section] = known[fields[section]["name"]](**fields[section])
        training = {"precision": "fp32", **fields.pop("training_params", {})}
        config = ExperimentConfig.model_validate(
            {
                "epochs": 3,
                "batch_size": 16,
                **base,
                **fields,
                "model_params": params,
                "training_params": training,
            }
        )
        context = BodyContext(
            vocab_size=dataset.vocab_size,
            max_length=dataset.max_length,
            causal=dataset.task == "language_modeling",
            find_router=lambda name: ROUTERS_MAP[name],
        )
        torch.manual_seed(derive(config.seed, "init"))
        network = Network(
            spec, params, context, task=dataset.task, num_classes=len(dataset.label_names)
        )
        files = Files(tmp_path / folder)
        files.folder.mkdir(exist_ok=True)
        recorder = ListRecorder()
        trainer = Trainer(
            config,
            network,
            dataset,
            recorder,
            files,
            watcher or Nobody(),
            stop or StopSignal(),
        )
        return trainer, recorder

    return make

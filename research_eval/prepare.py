"""From a configuration to everything that is needed to run it: data, device, identity, network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from research_eval import provenance
from research_eval.config import Experiment, config_hash
from research_eval.errors import ConfigError, Issue, PluginError, ResearchEvalError
from research_eval.knobs import Params, plugin_kind_of
from research_eval.metrics import default_monitor, history_names
from research_eval.network import Network, num_positions
from research_eval.registry import MAPS
from research_eval.spec import BodyContext, Dataset, LoadContext
from research_eval.training import train
from research_eval.training.device import autocast, resolve_device, resolve_precision
from research_eval.training.progress import Watcher
from research_eval.training.seeding import derive
from research_eval.training.train import steps_of


@dataclass(frozen=True, slots=True)
class Prepared:
    """An experiment with its data, ready to run with any seed.

    Attributes:
        experiment: Resolved: precision and monitor are decided.
        config_hash: Identity of the configuration, whatever the seed.
        code_hash: Identity of the source.
        processes: How many share each batch; they come to the same result.
    """

    experiment: Experiment
    dataset: Dataset
    device: torch.device
    config_hash: str
    code_hash: str
    processes: int = 1

    def with_seed(self, seed: int) -> Prepared:
        """Return the same experiment with another seed."""
        return replace(self, experiment=self.experiment.with_fields({"seed": seed}))


@dataclass(frozen=True, slots=True)
class Plan:
    """What an experiment would cost, estimated without training.

    Attributes:
        flops: Of the whole training: 3 x forward.
        memory_bytes: Weights, gradients, optimizer, activations of one batch, and data: what
            tensors hold, of several processes in each. Libraries, and an allocator that keeps
            what is freed, take more.
        disk_bytes: Weights that are kept, and the resume point while it runs.
        kept_bytes: Weights that are kept when it is over.
    """

    config_hash: str
    data: str
    param_count: int
    active_param_count: int
    flops_per_token: float
    steps: int
    tokens: int
    flops: float
    memory_bytes: int
    disk_bytes: int
    kept_bytes: int


def cache_dir() -> Path:
    """Return where prepared data is kept: `RESEARCH_EVAL_CACHE` or the user's cache folder."""
    asked = os.environ.get("RESEARCH_EVAL_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(asked) if asked else base / "research_eval"


def prepare(experiment: Experiment, watcher: Watcher, *, processes: int = 1) -> Prepared:
    """Load the data and decide everything that the configuration leaves open.

    Args:
        experiment: What to run.
        watcher: Who waits.
        processes: How many are to share each batch.

    Raises:
        ConfigError: If this machine or this data set cannot do what is asked.
        DataError: If the data cannot be had.
        PluginError: If the data set's own code fails.
    """
    settings = experiment.config.training_params
    device = resolve_device(settings.device, processes)
    resolve_precision(settings.precision, device)  # told at once
    _check_sharing(experiment, processes)
    context = LoadContext(experiment.base_dir, cache_dir(), watcher.say)
    with _blamed("data set", experiment.config.dataset_name):
        dataset = experiment.dataset.load(experiment.config.dataset_params, context)
    return prepare_with(dataset, experiment, processes=processes)


def _check_sharing(experiment: Experiment, processes: int) -> None:
    """Refuse a batch that processes cannot share evenly.

    Raises:
        ConfigError: If they cannot.
    """
    config = experiment.config
    wrong = []
    rest = config.batch_size % processes
    if rest:
        below, above = config.batch_size - rest, config.batch_size - rest + processes
        legal = f"{below} or {above}" if below else str(above)
        advice = f"{processes} processes cannot share {config.batch_size} rows; take {legal}"
        wrong.append(Issue("batch_size", f"{advice}, or another number of processes"))
    if config.training_params.compile and processes > 1:
        advice = "a compiled model takes one process; take compile=false or one process"
        wrong.append(Issue("training_params.compile", advice))
    if wrong:
        raise ConfigError("the configuration does not fit the processes", wrong)


def prepare_with(dataset: Dataset, experiment: Experiment, *, processes: int = 1) -> Prepared:
    """Decide everything that a configuration leaves open, given its data.

    Raises:
        ConfigError: If this machine or this data set cannot do what is asked.
    """
    settings = experiment.config.training_params
    device = resolve_device(settings.device, processes)
    precision = resolve_precision(settings.precision, device)
    num_positions(experiment.config.model_params, dataset.max_length)
    monitor = settings.monitor or default_monitor(dataset.task)
    known = history_names(dataset.task)
    if monitor.partition(":")[0] not in known:
        issue = Issue(
            "training_params.monitor",
            f"{experiment.config.dataset_name} has no '{monitor}'; known: {', '.join(known)}",
        )
        raise ConfigError("the configuration does not fit the data", [issue])
    resolved = experiment.with_fields(
        {"training_params.precision": precision, "training_params.monitor": monitor}
    )
    return Prepared(
        resolved, dataset, device, config_hash(resolved), code_hash(resolved), processes
    )


def code_hash(experiment: Experiment) -> str:
    """Return the identity of the source that an experiment would use."""
    return provenance.code_hash(_source_files(experiment))


def build_network(prepared: Prepared) -> Network:
    """Return the experiment's network on its device, initialised from its seed.

    Raises:
        PluginError: If the model's own code fails.
    """
    torch.manual_seed(derive(prepared.experiment.config.seed, "init"))
    return new_network(prepared.experiment, prepared.dataset).to(prepared.device)


def new_network(experiment: Experiment, dataset: Dataset) -> Network:
    """Return the experiment's network on torch's default device.

    Raises:
        PluginError: If the model's own code fails.
    """
    context = BodyContext(
        vocab_size=dataset.vocab_size,
        max_length=dataset.max_length,
        causal=dataset.task == "language_modeling",
        find_router=experiment.find_router,
    )
    with _blamed("model", experiment.config.model_type):
        return Network(
            experiment.model,
            experiment.config.model_params,
            context,
            task=dataset.task,
            num_classes=len(dataset.label_names),
        )


@contextmanager
def _blamed(kind: str, name: str) -> Iterator[None]:
    """Say whose code it is that fails in a way of its own.

    Raises:
        PluginError: Instead of anything that is no error of this package.
    """
    try:
        yield
    except ResearchEvalError:
        raise
    except Exception as error:  # a plug-in may fail in any way
        raise PluginError(
            f"{kind} '{name}' fails: {type(error).__name__}: {error} "
            "(research-eval --debug run shows where)"
        ) from error


def plan(prepared: Prepared) -> Plan:
    """Return what an experiment would cost."""
    config, dataset = prepared.experiment.config, prepared.dataset
    network = build_network(prepared)
    per_epoch, steps = steps_of(config, len(dataset.train))
    row_tokens = int(dataset.train.lengths_N.sum())
    tokens = round(row_tokens * steps / per_epoch)
    per_token = network.flops_per_token(dataset.max_length)
    weights = 4 * network.param_count()
    casting = partial(autocast, prepared.device, config.training_params.precision)
    rows = config.batch_size // prepared.processes
    step = network.step_bytes(rows, dataset.max_length, casting)
    if prepared.processes > 1:
        step += weights  # the buckets in which DistributedDataParallel averages gradients
    splits = [s for s in (dataset.train, dataset.validation, dataset.test) if s is not None]
    kept = {"none": 0, "best": 1, "last": 1, "both": 2}[config.training_params.keep_checkpoints]
    return Plan(
        config_hash=prepared.config_hash,
        data=f"{len(dataset.train):,} rows, {dataset.source}",
        param_count=network.param_count(),
        active_param_count=network.active_param_count(),
        flops_per_token=per_token,
        steps=steps,
        tokens=tokens,
        flops=3 * per_token * tokens,
        memory_bytes=step + sum(s.ids_NL.nbytes for s in splits),
        disk_bytes=(max(kept, 1) + 3) * weights,
        kept_bytes=kept * weights,
    )


def components(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Yield kind and name of every component that the configuration names."""
    groups: tuple[Params, ...] = (
        experiment.config,
        experiment.config.model_params,
        experiment.config.dataset_params,
    )
    for group in groups:
        for field, info in type(group).model_fields.items():
            kind = plugin_kind_of(info)
            if kind is not None:
                yield kind, getattr(group, field)


def _source_files(experiment: Experiment) -> list[Path]:
    """Return the files that define what the run computes."""
    files = [Path(train.__file__)]
    for kind, name in components(experiment):
        files.append(MAPS[kind].source_file(name, experiment.base_dir))
    return files

"""One configuration in, one recorded run out: the only place where training meets the store."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from research_eval import provenance
from research_eval.allocator import tune_allocator
from research_eval.config import Experiment, config_hash, json_schema, load_text
from research_eval.errors import ConfigError, DivergedError, Issue, RunError, StoppedError
from research_eval.interrupt import stop_on_signals
from research_eval.knobs import Params, plugin_kind_of
from research_eval.metrics import default_monitor, history_names
from research_eval.network import Network
from research_eval.records import NewRun, RunRecord, RunStatus
from research_eval.registry import MAPS, plugin_reference
from research_eval.runlog import LoggedWatcher
from research_eval.spec import BodyContext, Dataset, LoadContext
from research_eval.store import RunWriter, Store
from research_eval.training import evaluate, train
from research_eval.training.batches import Batches
from research_eval.training.checkpoint import load_weights, resume_step
from research_eval.training.device import resolve_device, resolve_precision
from research_eval.training.progress import StopSignal, Watcher
from research_eval.training.seeding import derive
from research_eval.training.train import Files, Trainer, steps_of

FLOOR_TOLERANCE_NATS = 0.01
"""A model this far below the loss of the true process has seen what it should not have seen."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An experiment with its data, ready to run with any seed.

    Attributes:
        experiment: Resolved: precision and monitor are decided.
        config_hash: Identity of the configuration, whatever the seed.
        code_hash: Identity of the source.
    """

    experiment: Experiment
    dataset: Dataset
    device: torch.device
    config_hash: str
    code_hash: str

    def with_seed(self, seed: int) -> Prepared:
        """Return the same experiment with another seed."""
        return replace(self, experiment=self.experiment.with_fields({"seed": seed}))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an experiment.

    Attributes:
        action: "ran" from the start, "resumed", or "skipped" because it is already recorded.
    """

    record: RunRecord
    action: Literal["ran", "resumed", "skipped"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What an experiment would cost, estimated without training.

    Attributes:
        flops: Of the whole training: 3 x forward.
        memory_bytes: Weights, gradients, optimizer, activations of one batch, and data.
        disk_bytes: Weights that are kept, and the resume point while it runs.
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


def cache_dir() -> Path:
    """Return where prepared data is kept: `RESEARCH_EVAL_CACHE` or the user's cache folder."""
    asked = os.environ.get("RESEARCH_EVAL_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(asked) if asked else base / "research_eval"


def prepare(experiment: Experiment, watcher: Watcher) -> Prepared:
    """Load the data and decide everything that the configuration leaves open.

    Raises:
        ConfigError: If this machine or this data set cannot do what is asked.
        DataError: If the data cannot be had.
    """
    settings = experiment.config.training_params
    device = resolve_device(settings.device)
    precision = resolve_precision(settings.precision, device)
    context = LoadContext(experiment.base_dir, cache_dir(), watcher.say)
    dataset = experiment.dataset.load(experiment.config.dataset_params, context)
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
    code = provenance.code_hash(_source_files(resolved))
    return Prepared(resolved, dataset, device, config_hash(resolved), code)


def build_network(prepared: Prepared) -> Network:
    """Return the experiment's network on its device, initialised from its seed.

    Raises:
        ConfigError: If the model cannot read the data, for example for want of positions.
    """
    experiment, dataset = prepared.experiment, prepared.dataset
    context = BodyContext(
        vocab_size=dataset.vocab_size,
        max_length=dataset.max_length,
        causal=dataset.task == "language_modeling",
        find_router=experiment.find_router,
    )
    torch.manual_seed(derive(experiment.config.seed, "init"))
    network = Network(
        experiment.model,
        experiment.config.model_params,
        context,
        task=dataset.task,
        num_classes=len(dataset.label_names),
    )
    return network.to(prepared.device)


def plan(prepared: Prepared) -> Plan:
    """Return what an experiment would cost."""
    config, dataset = prepared.experiment.config, prepared.dataset
    network = build_network(prepared)
    per_epoch, steps = steps_of(config, len(dataset.train))
    row_tokens = int(dataset.train.lengths_N.sum())
    tokens = round(row_tokens * steps / per_epoch)
    per_token = network.flops_per_token(dataset.max_length)
    weights = 4 * network.param_count()
    value_bytes = 4 if config.training_params.precision == "fp32" else 2
    activations = network.activation_bytes(config.batch_size, dataset.max_length, value_bytes)
    splits = [s for s in (dataset.train, dataset.validation, dataset.test) if s is not None]
    kept = {"none": 0, "best": 1, "last": 1, "both": 2}[config.training_params.keep_checkpoints]
    return Plan(
        config_hash=prepared.config_hash,
        data=f"{len(dataset.train)} rows of {dataset.source}",
        param_count=network.param_count(),
        active_param_count=network.active_param_count(),
        flops_per_token=per_token,
        steps=steps,
        tokens=tokens,
        flops=3 * per_token * tokens,
        memory_bytes=4 * weights + activations + sum(s.ids_NL.nbytes for s in splits),
        disk_bytes=(max(kept, 1) + 3) * weights,
    )


def run(
    prepared: Prepared, store: Store, watcher: Watcher, *, again: bool = False, source: str = ""
) -> Outcome:
    """Carry out an experiment and record it; what is recorded already is not done twice.

    Args:
        prepared: What to run.
        store: Open for writing.
        watcher: Who waits.
        again: Run it even if a completed run of the same configuration, code, data and seed
            is recorded.
        source: Where the configuration came from, for the record.

    Raises:
        RunError: If it failed; the record keeps the traceback.
        StoppedError: If a signal stopped it; the same call continues.
        StoreError: If the store cannot be written.
    """
    for record in [] if again else recorded(prepared, store):
        if record.status in (RunStatus.COMPLETED, RunStatus.RUNNING):
            return Outcome(record, "skipped")
        files = Files(store.artifact_dir / record.experiment_id)
        if record.status in (RunStatus.INTERRUPTED, RunStatus.LOST) and files.resume.exists():
            return Outcome(_carry_out(prepared, store, watcher, record.experiment_id), "resumed")
    return Outcome(_carry_out(prepared, store, watcher, None, source=source), "ran")


def recorded(prepared: Prepared, store: Store) -> list[RunRecord]:
    """Return the runs of the same configuration, code, data and seed, newest first."""
    return store.find(
        config_hash=prepared.config_hash,
        code_hash=prepared.code_hash,
        data_hash=prepared.dataset.fingerprint,
        seed=prepared.experiment.config.seed,
    )


def resume(record: RunRecord, store: Store, watcher: Watcher) -> Outcome:
    """Continue an interrupted or lost run from its resume point.

    Raises:
        ConfigError: If the run cannot be continued, or what it would be continued with is not
            what it began with.
        DataError: If its data cannot be had any more.
    """
    run_id = record.experiment_id
    if record.status not in (RunStatus.INTERRUPTED, RunStatus.LOST):
        raise ConfigError(f"run {run_id} is {record.status}; only an interrupted one continues")
    if not Files(store.artifact_dir / run_id).resume.exists():
        raise ConfigError(f"run {run_id} has no resume point; run its configuration anew")
    base_dir = Path(json.loads(record.env_details_json)["base_dir"])
    text = record.full_config_json
    prepared = prepare(load_text(text, base_dir=base_dir, source=f"run {run_id}"), watcher)
    for what, before, now in (
        ("configuration", record.config_hash, prepared.config_hash),
        ("code", record.code_hash, prepared.code_hash),
        ("data", record.data_hash, prepared.dataset.fingerprint),
    ):
        if before != now:
            raise ConfigError(
                f"run {run_id} cannot continue: its {what} is not what it began with; "
                "run its configuration anew"
            )
    return Outcome(_carry_out(prepared, store, watcher, run_id), "resumed")


def _carry_out(
    prepared: Prepared,
    store: Store,
    watcher: Watcher,
    resumed_id: str | None,
    *,
    source: str = "",
) -> RunRecord:
    tuned = tune_allocator()
    with _threads(prepared.experiment.config.training_params.num_threads):
        network = build_network(prepared)
        if resumed_id is None:
            writer = store.start(_new_run(prepared, source, tuned))
        else:
            resume_point = Files(store.artifact_dir / resumed_id).resume
            writer = store.resume(resumed_id, step=resume_step(resume_point))
        meter = provenance.ContentionMeter()
        with _ended_truthfully(writer, meter), stop_on_signals() as stop:
            files = Files(writer.folder)
            with LoggedWatcher(watcher, writer.folder / "run.log") as logged:
                _train_and_measure(prepared, network, writer, files, logged, stop)
    return store.run(writer.experiment_id)


def _train_and_measure(
    prepared: Prepared,
    network: Network,
    writer: RunWriter,
    files: Files,
    watcher: Watcher,
    stop: StopSignal,
) -> None:
    config = prepared.experiment.config
    is_resumed = files.resume.exists()
    if not is_resumed:
        _keep_plugins(prepared.experiment, writer)
        _declare(prepared, writer)
    trainer = Trainer(config, network, prepared.dataset, writer, files, watcher, stop)
    if is_resumed:
        watcher.say(f"continuing {writer.experiment_id} from step {trainer.restore()}")
    trainer.run()
    _hand_over(prepared, trainer, writer, files)


def _hand_over(prepared: Prepared, trainer: Trainer, writer: RunWriter, files: Files) -> None:
    """Measure the last weights, then the selected ones, record both and keep what is asked for."""
    config, dataset, network = prepared.experiment.config, prepared.dataset, trainer.network
    settings, counters = config.training_params, trainer.counters
    complete = settings.max_eval_batches is None and trainer.latest is not None
    last = trainer.latest if complete and trainer.latest else trainer.measure()
    trainer.save_weights(files.last)
    if settings.select == "best":
        load_weights(files.best, network, prepared.device)
    selected_is_last = settings.select == "last" or counters.best_step == counters.step
    chosen = last if selected_is_last else trainer.measure()
    values = last.named("last_val") | chosen.named("final_val")
    if dataset.test is not None:
        batches = Batches(dataset.test, dataset.task, prepared.device)
        test = evaluate.evaluate(
            network, batches, batch_size=config.batch_size, autocast=trainer.autocast
        )
        values |= test.named("final_test")
    for name in ("val_f1", "val_loss"):
        if name in counters.best_seen:
            values[f"best_{name}_across_epochs"] = counters.best_seen[name]
    values |= _costs(prepared, trainer)
    writer.log(values, step=counters.step)
    _flag_below_floor(dataset, values["final_val_loss"], writer)
    _keep_checkpoints(config.training_params.keep_checkpoints, writer, files)


def _costs(prepared: Prepared, trainer: Trainer) -> dict[str, float]:
    config, network, counters = prepared.experiment.config, trainer.network, trainer.counters
    latency = evaluate.measure_latency(
        network,
        trainer.validation_data,
        batch_size=config.batch_size,
        autocast=trainer.autocast,
    )
    return latency | {
        "best_step": counters.best_step,
        "param_count": network.param_count(),
        "active_param_count": network.active_param_count(),
        "flops_per_token": trainer.flops_per_token,
        "train_tokens_per_second": counters.tokens / max(counters.train_seconds, 1e-9),
        "total_training_time_seconds": counters.total_seconds,
        "peak_memory_mb": provenance.peak_memory_mb(prepared.device),
    }


def _flag_below_floor(dataset: Dataset, loss: float, writer: RunWriter) -> None:
    floor = dataset.validation.loss_floor
    if floor is None:
        return
    writer.log({"val_loss_floor": floor}, step=0)
    if loss < floor - FLOOR_TOLERANCE_NATS:
        writer.flag(
            "below_loss_floor",
            f"final_val_loss {loss:.4f} is below {floor:.4f}, the least that the data allows: "
            "the model has seen what it must not see",
        )


def _keep_checkpoints(keep: str, writer: RunWriter, files: Files) -> None:
    for name, path in (("best", files.best), ("last", files.last)):
        if keep in (name, "both"):
            writer.artifact("checkpoint", path)
        else:
            path.unlink(missing_ok=True)
    files.resume.unlink(missing_ok=True)


def _new_run(prepared: Prepared, source: str, allocator: str) -> NewRun:
    experiment, dataset = prepared.experiment, prepared.dataset
    config = experiment.config
    commit, diff = provenance.git_state(experiment.base_dir)
    details = provenance.environment(prepared.device) | {
        "allocator": allocator,
        "base_dir": str(experiment.base_dir),
        "config_source": source,
        "data_source": dataset.source,
        "data_counts": dict(dataset.counts),
    }
    return NewRun(
        experiment_id=secrets.token_hex(6),
        run_type="json",
        experiment_name=config.experiment_name,
        project=config.project,
        tags=tuple(config.tags),
        model_type=config.model_type,
        dataset_name=config.dataset_name,
        dataset_type=experiment.dataset.dataset_type,
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=config.seed,
        full_config_json=config.model_dump_json(by_alias=True, exclude={"schema_ref"}),
        config_schema_json=json.dumps(json_schema(experiment), sort_keys=True),
        env_details_json=json.dumps(details),
        config_hash=prepared.config_hash,
        code_hash=prepared.code_hash,
        data_hash=dataset.fingerprint,
        git_commit=commit,
        git_diff=diff,
        argv=provenance.command(),
        hardware=provenance.hardware_key(prepared.device),
        host=provenance.host(),
        pid=os.getpid(),
    )


def _declare(prepared: Prepared, writer: RunWriter) -> None:
    """Record what must stand beside the run's scores: waived promises and unlearned routers."""
    experiment = prepared.experiment
    for promise, reason in experiment.model.waives.items():
        writer.flag(f"waives_{promise}", reason)
    for kind, name in _components(experiment):
        if kind == "router" and not experiment.find_router(name).learned:
            writer.flag("router_not_learned", f"the router '{name}' is a control without gradient")


def _components(experiment: Experiment) -> Iterator[tuple[str, str]]:
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
    for kind, name in _components(experiment):
        files.append(MAPS[kind].source_file(name, experiment.base_dir))
    return files


def _keep_plugins(experiment: Experiment, writer: RunWriter) -> None:
    """Copy the source of plug-in files into the run's folder."""
    for _kind, name in _components(experiment):
        reference = plugin_reference(name, experiment.base_dir)
        if reference is not None:
            kept = writer.folder / reference.file.name
            shutil.copyfile(reference.file, kept)
            writer.artifact("plugin", kept)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _ended_truthfully(writer: RunWriter, meter: provenance.ContentionMeter) -> Iterator[None]:
    """Give the run the status of what happens inside, whatever it is."""

    def finish(status: RunStatus, error: str | None = None) -> None:
        writer.finish(status, error=error, contended=meter.contended())

    try:
        yield
    except DivergedError as error:
        finish(RunStatus.DIVERGED, str(error))
        raise
    except (StoppedError, KeyboardInterrupt) as error:
        finish(RunStatus.INTERRUPTED, str(error) or "interrupted")
        raise
    except BaseException as error:
        finish(RunStatus.FAILED, "".join(traceback.format_exception(error)))
        if isinstance(error, RunError) or not isinstance(error, Exception):
            raise
        raise RunError(
            f"run {writer.experiment_id} failed: {type(error).__name__}: {error}; "
            f"research-eval runs show {writer.experiment_id} has the traceback"
        ) from error
    else:
        finish(RunStatus.COMPLETED)

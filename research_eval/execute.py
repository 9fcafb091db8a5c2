"""One configuration in, one recorded run out: the only place where training meets the store."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from research_eval import machine, provenance, verdicts
from research_eval.allocator import tune_allocator
from research_eval.company import together
from research_eval.config import Experiment, json_schema, load_text
from research_eval.diagnostics.collapse import EARLY_SHARE, premature_saturation
from research_eval.ending import ending
from research_eval.errors import ConfigError, PrunedError, RunError, StoreError
from research_eval.following import Training
from research_eval.handover import hand_over
from research_eval.interrupt import stop_on_signals
from research_eval.network import Network
from research_eval.prepare import Prepared, build_network, components, prepare
from research_eval.records import ArtifactKind, NewRun, Place, RunRecord, RunStatus
from research_eval.registry import plugin_reference
from research_eval.runlog import LoggedWatcher
from research_eval.store import PendingError, RunWriter, Store
from research_eval.store.csv_log import DEFAULT_NAME as RESULTS_NAME
from research_eval.store.csv_log import append_result
from research_eval.system import SystemSampler
from research_eval.training.checkpoint import resume_step
from research_eval.training.device import cpu_threads
from research_eval.training.progress import StopSignal, Watcher
from research_eval.training.train import Files, Trainer, steps_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BEFORE_ALL_STEPS = -1
"""What an attempt without a resume point continues from: nothing recorded before it counts."""

Judge = Callable[[int, Mapping[str, float]], bool]
"""Told step and metrics of every point; says whether the run is to end as PRUNED."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an experiment.

    Attributes:
        action: "ran" from the start, "resumed", or "skipped" because it is already recorded.
    """

    record: RunRecord
    action: Literal["ran", "resumed", "skipped"]


def run(
    prepared: Prepared,
    store: Store,
    watcher: Watcher,
    *,
    again: bool = False,
    source: str = "",
    place: Place | None = None,
    judge: Judge | None = None,
) -> Outcome:
    """Carry out an experiment and record it; what is recorded already is not done twice.

    Args:
        prepared: What to run.
        store: Open for writing.
        watcher: Who waits.
        again: Run it even if a completed run of the same configuration, code, data and seed
            is recorded. A trial of a search counts only for a search: it has no test score.
        source: Where the configuration came from, for the record.
        place: What the run belongs to.
        judge: Who may end it as PRUNED.

    Raises:
        PrunedError: If `judge` ended it.
        RunError: If it failed; the record keeps the traceback.
        StoppedError: If a signal stopped it; the same call continues.
        StoreError: If the store cannot be written.
    """
    place = place or Place()
    for record in [] if again else recorded(prepared, store):
        if record.phase == "search" and place.phase != "search":
            continue  # it has not looked at the test split
        if record.status in (RunStatus.COMPLETED, RunStatus.RUNNING):
            return Outcome(record, "skipped")
        files = Files(store.artifact_dir / record.experiment_id)
        if record.status in (RunStatus.INTERRUPTED, RunStatus.LOST) and files.resume.exists():
            record = _carry_out(prepared, store, watcher, record.experiment_id, judge)
            return Outcome(record, "resumed")
    new = _new_run(prepared, source, place)
    return Outcome(_carry_out(prepared, store, watcher, new, judge), "ran")


def continue_run(
    run_id: str, prepared: Prepared, store: Store, watcher: Watcher, judge: Judge | None
) -> Outcome | None:
    """Make another attempt of a run, from its resume point or else from the start.

    Returns:
        None if it was made by other code or on other data, so that it cannot be continued.

    Raises:
        RunError: As `run` does.
    """
    record = store.run(run_id)
    if record.status is RunStatus.COMPLETED:
        return Outcome(record, "skipped")
    then = (record.config_hash, record.code_hash, record.data_hash)
    if then != (prepared.config_hash, prepared.code_hash, prepared.dataset.fingerprint):
        return None
    return Outcome(_carry_out(prepared, store, watcher, run_id, judge), "resumed")


def recorded(prepared: Prepared, store: Store) -> list[RunRecord]:
    """Return the runs of the same configuration, code, data and seed, newest first."""
    return store.find(
        config_hash=prepared.config_hash,
        code_hash=prepared.code_hash,
        data_hash=prepared.dataset.fingerprint,
        seed=prepared.experiment.config.seed,
    )


def resume(record: RunRecord, store: Store, watcher: Watcher, *, processes: int = 1) -> Outcome:
    """Continue an interrupted or lost run from its resume point.

    Args:
        record: Of the run.
        store: Open for writing.
        watcher: Who waits.
        processes: How many share each batch, whatever they were before.

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
    experiment = load_text(text, base_dir=base_dir, source=f"run {run_id}")
    prepared = prepare(experiment, watcher, processes=processes)
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
    return Outcome(_carry_out(prepared, store, watcher, run_id, None), "resumed")


def _carry_out(
    prepared: Prepared,
    store: Store,
    watcher: Watcher,
    started: NewRun | str,
    judge: Judge | None,
) -> RunRecord:
    """Carry out a new run, or another attempt of the one with this id."""
    tune_allocator()
    with cpu_threads(prepared.experiment.config.training_params.num_threads):
        network = build_network(prepared)
        if isinstance(started, NewRun):
            phase = started.phase
            writer = store.start(started)
        else:
            phase = store.run(started).phase
            resume_point = Files(store.artifact_dir / started).resume
            step = resume_step(resume_point) if resume_point.exists() else BEFORE_ALL_STEPS
            writer = store.resume(started, step=step)
        meter = machine.ContentionMeter()
        with (
            _listed(store, writer.experiment_id, watcher),
            stop_on_signals() as stop,  # also while the end is written
            ended_truthfully(writer, meter),
        ):
            stop.is_requested = lambda: writer.stop_requested
            files = Files(writer.folder)
            with LoggedWatcher(watcher, writer.folder / "run.log") as logged:
                with_test = phase != "search"
                training = Training.of(
                    prepared, files.folder, is_resumed=files.resume.exists(), with_test=with_test
                )
                with together(prepared, training, logged):
                    trainer = _train(prepared, network, writer, files, logged, stop, judge)
                    hand_over(prepared, trainer, writer, files, with_test=with_test)
                _judge_early_choices(trainer, store, writer)
        files.resume.unlink(missing_ok=True)
    return store.run(writer.experiment_id)


def _train(
    prepared: Prepared,
    network: Network,
    writer: RunWriter,
    files: Files,
    watcher: Watcher,
    stop: StopSignal,
    judge: Judge | None,
) -> Trainer:
    config = prepared.experiment.config
    is_resumed = files.resume.exists()
    if not is_resumed:
        _keep_plugins(prepared.experiment, writer)
        _declare(prepared, network, writer)
    recorder = writer if judge is None else _Judged(writer, judge, _total_steps(prepared))
    trainer = Trainer(config, network, prepared.dataset, recorder, files, watcher, stop)
    if is_resumed:
        watcher.say(f"continuing {writer.experiment_id} from step {trainer.restore()}")

    def record(reading: Mapping[str, float]) -> None:
        writer.log(reading, step=trainer.counters.step)

    with SystemSampler(record, complain=watcher.say):
        trainer.run()
    return trainer


def _judge_early_choices(trainer: Trainer, store: Store, writer: RunWriter) -> None:
    """Flag a router that was certain in the first 5 % of training and never changed again."""
    try:
        writer.flush()
    except PendingError as error:
        writer.flag("early_choices_not_judged", str(error))
        return
    run_id, early_until = writer.experiment_id, EARLY_SHARE * trainer.total_steps
    choices = store.expert_stats(run_id, "chosen")
    early = {stats.layer: stats for stats in choices if stats.step <= early_until}
    final = {stats.layer: stats.values for stats in choices}
    entropies = {}
    for layer, stats in early.items():
        history = store.history(run_id, f"val_router_entropy_layer{layer}")
        entropies[layer] = float(history.values[list(history.steps).index(stats.step)])
    chosen = {layer: stats.values for layer, stats in early.items()}
    for name, reason in premature_saturation(chosen, entropies, final).items():
        writer.flag(name, reason)


@dataclass(frozen=True, slots=True)
class _Judged:
    """A `Recorder` that shows a judge every point but those of the last step, which end it anyway.

    Raises:
        PrunedError: From `log`, if the judge says so.
    """

    inner: RunWriter
    judge: Judge
    total_steps: int

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        self.inner.log(values, step=step)
        if step < self.total_steps and self.judge(step, values):
            Files(self.inner.folder).resume.unlink(missing_ok=True)
            raise PrunedError(step)

    def log_array(
        self, name: str, values: npt.NDArray[np.generic], *, layer: int, step: int
    ) -> None:
        self.inner.log_array(name, values, layer=layer, step=step)

    def flag(self, name: str, reason: str) -> None:
        self.inner.flag(name, reason)

    def artifact(self, kind: ArtifactKind, path: Path) -> None:
        self.inner.artifact(kind, path)


def _total_steps(prepared: Prepared) -> int:
    return steps_of(prepared.experiment.config, len(prepared.dataset.train))[1]


def _new_run(prepared: Prepared, source: str, place: Place) -> NewRun:
    experiment, dataset = prepared.experiment, prepared.dataset
    config = experiment.config
    details = machine.environment(prepared.device, prepared.processes) | {
        "allocator": tune_allocator(),
        "base_dir": str(experiment.base_dir),
        "config_source": source,
        "data_source": dataset.source,
        "data_counts": dict(dataset.counts),
        "total_steps": _total_steps(prepared),
    }
    return NewRun(
        experiment_id=secrets.token_hex(6),
        run_type="json" if place.study is None else "optuna_trial",
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
        **asdict(place),
        **traces(prepared),
    )


def traces(prepared: Prepared) -> dict[str, Any]:
    """Return which source, command, machine and process make a run, as fields of `NewRun`."""
    commit, diff = provenance.git_state(prepared.experiment.base_dir)
    return {
        "git_commit": commit,
        "git_diff": diff,
        "argv": provenance.command(),
        "hardware": machine.hardware_key(prepared.device, prepared.processes),
        "host": provenance.host(),
        "pid": os.getpid(),
    }


def _declare(prepared: Prepared, network: Network, writer: RunWriter) -> None:
    """Record what must stand beside the run's scores: waived or unchecked promises, controls."""
    experiment = prepared.experiment
    for promise, reason in network.waives().items():
        writer.flag(f"waives_{promise}", reason)
    for kind, name in components(experiment):
        if kind == "router" and not experiment.find_router(name).learned:
            writer.flag("router_not_learned", f"the router '{name}' is a control without gradient")
    for name, reason in verdicts.flags(experiment, prepared.dataset.task).items():
        writer.flag(name, reason)


def _keep_plugins(experiment: Experiment, writer: RunWriter) -> None:
    """Copy the source of plug-in files into the run's folder."""
    for _kind, name in components(experiment):
        reference = plugin_reference(name, experiment.base_dir)
        if reference is not None:
            kept = writer.folder / reference.file.name
            shutil.copyfile(reference.file, kept)
            writer.artifact("plugin", kept)


@contextmanager
def _listed(store: Store, run_id: str, watcher: Watcher) -> Iterator[None]:
    """Bring the run's line in the CSV beside the store up to date, however the run ends."""
    try:
        yield
    finally:
        try:
            append_result(store.artifact_dir.parent / RESULTS_NAME, store.run(run_id))
        except StoreError as error:
            watcher.say(f"{error}; the record in the database is complete without it")


@contextmanager
def ended_truthfully(writer: RunWriter, meter: machine.ContentionMeter) -> Iterator[None]:
    """Give the run the status of what happens inside, whatever it is."""
    try:
        yield
    except BaseException as error:
        status, text = ending(error)
        writer.finish(status, error=text, contended=meter.contended())
        is_ours = isinstance(error, RunError) or not isinstance(error, Exception)
        if is_ours or status is not RunStatus.FAILED:
            raise
        raise RunError(
            f"run {writer.experiment_id} failed: {type(error).__name__}: {error}; "
            f"research-eval runs show {writer.experiment_id} has the traceback"
        ) from error
    else:
        writer.finish(RunStatus.COMPLETED, contended=meter.contended())

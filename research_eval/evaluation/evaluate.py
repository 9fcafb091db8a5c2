"""Evaluations of a recorded run, each recorded as a child of it."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from research_eval import machine
from research_eval.breakdown import metrics_of, read_predictions
from research_eval.config import canonical_json
from research_eval.errors import ConfigError
from research_eval.evaluation import latency
from research_eval.evaluation.comparing import costs, recorded_costs, verdict
from research_eval.evaluation.other_data import load_other
from research_eval.evaluation.predicting import predict
from research_eval.execute import ended_truthfully, traces
from research_eval.files import replace_file
from research_eval.machine import ContentionMeter
from research_eval.recorded import Recalled, SplitName, Weights, recall, require_model, split_of
from research_eval.records import NewRun, RunRecord, RunStatus
from research_eval.routing_controls import Replacement
from research_eval.spec import Dataset, Split
from research_eval.store import RunWriter, Store
from research_eval.store.location import locate
from research_eval.training.batches import Batches
from research_eval.training.device import autocast, resolve_precision
from research_eval.training.progress import Nobody, Watcher

if TYPE_CHECKING:
    import pandas as pd

Routing = Literal["learned"] | Replacement
ROUTINGS: tuple[Routing, ...] = ("learned", *get_args(Replacement))

FILE_NAME = "predictions.parquet"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation as it is recorded.

    Attributes:
        record: A run of type "evaluation"; its parent is the run that was evaluated.
        action: "ran", or "skipped" because it was recorded already.
        path: Parquet file of the predictions; see `breakdown.COLUMNS`.
        learned: The evaluation with the learned routing, where this one replaces it.
        latency: The record of the latency, where it was asked for.
    """

    record: RunRecord
    action: Literal["ran", "skipped"]
    path: Path
    learned: Evaluation | None = None
    latency: RunRecord | None = None

    def predictions(self) -> pd.DataFrame:
        """Return a row for each row of the split.

        Raises:
            DataError: If the file is gone.
        """
        return read_predictions(self.path)

    @property
    def verdict(self) -> str | None:
        """What replacing the routing cost, as a sentence; None if it was not replaced."""
        costs, params = recorded_costs(self.record), self.record.params
        if not costs:
            return None
        rows = int(self.record.value("eval_rows") or 0)
        return verdict(costs, params["routing"], params["learned_part"], rows)


def evaluate(
    run: str | RunRecord,
    *,
    split: SplitName = "validation",
    dataset: str | Path | Mapping[str, Any] | None = None,
    routing: Routing = "learned",
    latency: bool = False,
    weights: Weights = "selected",
    device: str = "auto",
    db: str | Path | None = None,
    again: bool = False,
    watcher: Watcher | None = None,
) -> Evaluation:
    """Evaluate a recorded run, and record that; what is recorded already is not done twice.

    Args:
        run: A record, or what a person calls the run: an id, its beginning, a name, "last".
        split: Which rows. Those of test are refused for trials of a search that nobody confirmed.
        dataset: Other data than the run's own: a JSON file with dataset_name and dataset_params,
            or its content.
        routing: What decides which experts work: what was learned, or a control; see
            `research_eval.routing_controls`. A control is compared with the learned routing on
            the same rows, which is evaluated first.
        latency: Also measure how long a forward pass takes, of the learned routing.
        weights: Which; "selected" are those that the run's scores describe.
        device: Where to: auto, cpu, cuda, cuda:1 or mps.
        db: The store, by path or URL; by default the one that the commands would use.
        again: Evaluate even what is recorded already.
        watcher: Told about progress.

    Raises:
        ConfigError: If the run cannot be evaluated so; nothing is recorded.
        DataError: If the data cannot be had, or has no such split; nothing is recorded.
        StoreError: If there is no such run or checkpoint, or the store cannot be written.
        RunError: If the evaluation failed; its record says why.
    """
    if routing not in ROUTINGS:
        raise ConfigError(f"there is no {routing} routing; there is {', '.join(ROUTINGS)}")
    watcher = watcher or Nobody()
    with Store.open(db or locate(create=False)) as store:
        record = store.run(run) if isinstance(run, str) else run
        _check_can_be_evaluated(record, store, split)
        recalled = recall(record, store, weights=weights, device=device, watcher=watcher)
        if routing != "learned":
            recalled.network.deciding_modules()
        evaluator = _Evaluator.of(recalled, store, split, dataset, again=again, watcher=watcher)
        timed = evaluator.latency() if latency else None
        return evaluator.quality(routing, timed)


def _check_can_be_evaluated(record: RunRecord, store: Store, split: str) -> None:
    run_id = record.experiment_id
    require_model(record)
    if record.status is not RunStatus.COMPLETED:
        raise ConfigError(
            f"run {run_id} is {record.status}; only a COMPLETED run has the weights that its "
            "scores describe"
        )
    if split == "test" and record.phase == "search" and not _is_confirmed(record, store):
        raise ConfigError(
            f"run {run_id} is a trial of the search of study {record.study}, and a search never "
            "looks at test: what was chosen by it would no longer be tested by it; evaluate it on "
            "validation, or confirm the winner on fresh seeds (research-eval hpo --confirm)"
        )


def _is_confirmed(record: RunRecord, store: Store) -> bool:
    trial = f"study == {json.dumps(record.study)} and trial == {record.trial}"
    return bool(store.runs(filter=f'{trial} and phase == "confirm"', metrics=(), limit=1))


@dataclass(frozen=True, slots=True)
class _Evaluator:
    """One network and the rows that it is evaluated on.

    Attributes:
        settings: What identifies each evaluation of them, besides what it does with them.
    """

    recalled: Recalled
    store: Store
    dataset: Dataset
    split: Split
    settings: Mapping[str, Any]
    again: bool
    watcher: Watcher

    @classmethod
    def of(
        cls,
        recalled: Recalled,
        store: Store,
        split: SplitName,
        source: str | Path | Mapping[str, Any] | None,
        *,
        again: bool,
        watcher: Watcher,
    ) -> _Evaluator:
        """Load the rows."""
        dataset, described = recalled.prepared.dataset, None
        what = f"the data of run {recalled.record.experiment_id}"
        if source is not None:
            other = load_other(source, recalled, watcher)
            dataset, described, what = other.dataset, other.described, str(source)
        settings = {
            "evaluated": recalled.record.experiment_id,
            "split": split,
            "weights": Path(recalled.checkpoint.path).stem,
            "checkpoint": recalled.checkpoint.sha256,
            "batch_size": recalled.prepared.experiment.config.batch_size,
            "precision": _precision(recalled, watcher),
            "dataset": described,
        }
        rows = split_of(dataset, split, what)
        return cls(recalled, store, dataset, rows, settings, again, watcher)

    # -------------------------------------------------------------------------------- quality

    def quality(self, routing: Routing, timed: RunRecord | None = None) -> Evaluation:
        """Return the evaluation of this routing, made now or before."""
        learned = None if routing == "learned" else self.quality("learned")
        settings = {"routing": routing, "learned_part": self._learned_part(), **self.settings}
        found = None if self.again else self._recorded(settings)
        if found is not None and self._is_whole(found):
            return Evaluation(found, "skipped", self._path(found.experiment_id), learned, timed)
        name = "" if routing == "learned" else f", {routing} routing"
        writer = self.store.start(self._new_run(settings, f"{self.settings['split']}{name}"))
        with ended_truthfully(writer, ContentionMeter()), self._replaced(routing):
            self._predict(writer, routing, learned)
        record = self.store.run(writer.experiment_id)
        return Evaluation(record, "ran", self._path(record.experiment_id), learned, timed)

    def _replaced(self, routing: Routing) -> AbstractContextManager[None]:
        if routing == "learned":
            return nullcontext()
        return self.recalled.network.routing_replaced(routing, seed=self._seed)

    def _predict(self, writer: RunWriter, routing: Routing, learned: Evaluation | None) -> None:
        found = predict(
            self.recalled.network,
            self.dataset,
            self.split,
            batch_size=self.settings["batch_size"],
            device=self.recalled.prepared.device,
            autocast=self._autocast,
            # Tokens exchange decisions within a batch, which must not be all of one label.
            mixed_by=self._seed if routing == "shuffled" else None,
            progress=self.watcher.progress,
        )
        self._keep(writer, found.table)
        frame = found.table.drop_columns(["experts"]).to_pandas()
        values = {f"eval_{name}": value for name, value in found.scores.items()}
        values |= {"eval_rows": float(len(frame))} | metrics_of(frame)
        for cost in [] if learned is None else costs(learned.predictions(), frame):
            values |= cost.metrics()
        writer.log(values, step=0)
        for name, reason in self._flags().items():
            writer.flag(name, reason)

    def _keep(self, writer: RunWriter, table: pa.Table) -> None:
        content = io.BytesIO()
        pq.write_table(table, content, compression="zstd")
        path = writer.folder / FILE_NAME
        replace_file(path, content.getvalue())
        writer.artifact("predictions", path)

    def _flags(self) -> dict[str, str]:
        """Return what must stand beside the scores: what stands beside those of the run, and more.

        The network may be built by other source than the run's, as long as its weights fit.
        """
        flags = dict(self.recalled.record.flags)
        if self.recalled.prepared.code_hash != self.recalled.record.code_hash:
            flags["other_code"] = "evaluated by other source than the run was trained by"
        return flags

    def _learned_part(self) -> str:
        """Return what a control replaces, as the subject of a sentence."""
        if "router_not_learned" in self.recalled.record.flags:
            return "which token goes where, though no router learned it,"
        if self.recalled.network.routing_parameters():
            return "what the router learned"
        return "what the experts learned to take from each other"

    # -------------------------------------------------------------------------------- latency

    def latency(self) -> RunRecord:
        """Return the record of the latency on this machine, measured now or before undisturbed."""
        sizes = latency.batch_sizes(self.settings["batch_size"], len(self.split))
        hardware = machine.hardware_key(self.recalled.prepared.device)
        settings = {"latency_of_batches": sizes, "hardware": hardware, **self.settings}
        found = None if self.again else self._recorded(settings, undisturbed=True)
        if found is not None:
            return found
        batches = Batches(self.split, self.dataset.task, self.recalled.prepared.device)
        with latency.alone(self.watcher.say):
            writer = self.store.start(self._new_run(settings, "latency"))
            with ended_truthfully(writer, ContentionMeter()):
                times = latency.measure(
                    self.recalled.network, batches, sizes=sizes, autocast=self._autocast
                )
                writer.log(times, step=0)
        return self.store.run(writer.experiment_id)

    # -------------------------------------------------------------------------------- records

    @property
    def _seed(self) -> int:
        return self.recalled.record.seed or 0

    @property
    def _autocast(self) -> Callable[[], AbstractContextManager[object]]:
        return partial(autocast, self.recalled.prepared.device, self.settings["precision"])

    def _path(self, run_id: str) -> Path:
        return self.store.artifact_dir / run_id / FILE_NAME

    def _recorded(
        self, settings: Mapping[str, Any], *, undisturbed: bool = False
    ) -> RunRecord | None:
        found = self.store.find(
            config_hash=_identity(settings),
            code_hash=self.recalled.prepared.code_hash,
            data_hash=self.dataset.fingerprint,
        )
        completed = [each for each in found if each.status is RunStatus.COMPLETED]
        counting = [each for each in completed if not (undisturbed and each.contended)]
        record = next(iter(counting), None)
        if record is None and completed:
            self.watcher.say("other work disturbed what is recorded; measuring anew")
        if record is not None:
            self.watcher.say(f"{record.experiment_name}: recorded already, {record.experiment_id}")
        return record

    def _is_whole(self, record: RunRecord) -> bool:
        """Return whether the predictions of an evaluation are still those that were recorded."""
        path = self._path(record.experiment_id)
        kept = [each.sha256 for each in self.store.artifacts(record.experiment_id)]
        if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() in kept:
            return True
        self.watcher.say(f"{path} is not what was recorded; evaluating anew")
        return False

    def _new_run(self, settings: Mapping[str, Any], what: str) -> NewRun:
        record, prepared = self.recalled.record, self.recalled.prepared
        described = settings["dataset"] or {}
        details = machine.environment(prepared.device) | {
            "base_dir": str(prepared.experiment.base_dir),
            "data_source": self.dataset.source,
            "label_names": list(self.dataset.label_names),
            "domain_names": list(self.dataset.domain_names),
            "rows": len(self.split),
        }
        return NewRun(
            experiment_id=secrets.token_hex(6),
            run_type="evaluation",
            experiment_name=f"{record.experiment_name}: {what}",
            project=record.project,
            parent=record.experiment_id,
            model_type=record.model_type,
            dataset_name=described.get("dataset_name", record.dataset_name),
            dataset_type=described.get("dataset_type", record.dataset_type),
            batch_size=record.batch_size,
            seed=record.seed,
            full_config_json=json.dumps(dict(settings)),
            env_details_json=json.dumps(details),
            config_hash=_identity(settings),
            code_hash=prepared.code_hash,
            data_hash=self.dataset.fingerprint,
            **traces(prepared),
        )


def _precision(recalled: Recalled, watcher: Watcher) -> str:
    """Return the precision of the run's own scores, or fp32 where this device lacks it."""
    asked = json.loads(recalled.record.full_config_json)["training_params"]["precision"]
    try:
        return resolve_precision(asked, recalled.prepared.device)
    except ConfigError:
        watcher.say(f"{recalled.prepared.device} has no {asked}; evaluating in fp32")
        return "fp32"


def _identity(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(settings).encode()).hexdigest()

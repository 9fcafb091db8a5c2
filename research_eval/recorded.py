"""A recorded run brought back: its network with its weights, and the data that it saw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from research_eval.config import Experiment, config_hash, load_text
from research_eval.errors import ConfigError, DataError, PluginError, StoreError
from research_eval.network import Network
from research_eval.prepare import Prepared, build_network, components, prepare
from research_eval.records import Artifact, RunRecord
from research_eval.registry import plugin_reference
from research_eval.spec import Dataset, Split
from research_eval.store import Store
from research_eval.store.location import locate
from research_eval.training.checkpoint import load_weights
from research_eval.training.progress import Nobody, Watcher

Weights = Literal["selected", "best", "last"]
SplitName = Literal["train", "validation", "test"]


def load_model(
    run: str | RunRecord,
    *,
    weights: Weights = "selected",
    device: str = "auto",
    db: str | Path | None = None,
) -> Network:
    """Return the network of a recorded run with its weights, in fp32, ready to evaluate.

    The data is loaded as well, since it decides the sizes of the network. A later version of this
    package is accepted as long as the configuration means the same to it.

    Args:
        run: A record, or what a person calls the run: an id, its beginning, a name, "last".
        weights: "selected" are those that the run's scores describe.
        device: Where to: auto, cpu, cuda, cuda:1 or mps.
        db: The store, by path or URL; by default the one that the commands would use.

    Raises:
        StoreError: If there is no such run, it kept no such checkpoint, or the file is not what
            was recorded.
        ConfigError: If the configuration, a plug-in or this machine is not what it was.
        DataError: If the data cannot be had any more, or is not what the run saw.
    """
    with Store.open(db or locate(create=False), mode="ro") as store:
        return recall(run, store, weights=weights, device=device).network


@dataclass(frozen=True, slots=True)
class Recalled:
    """A recorded run as it was when its training ended.

    Attributes:
        record: The run.
        prepared: Its configuration and its data, on the device that was asked for, in fp32.
        checkpoint: The file of the weights, whose name says which.
        network: With these weights, ready to evaluate.
    """

    record: RunRecord
    prepared: Prepared
    checkpoint: Artifact
    network: Network


def recall(
    run: str | RunRecord,
    store: Store,
    *,
    weights: Weights = "selected",
    device: str = "auto",
    watcher: Watcher | None = None,
) -> Recalled:
    """Bring back a run of this store; see `load_model`."""
    record, artifacts, folder = _found(run, store)
    checkpoint = _checkpoint(record, artifacts, folder, weights)
    prepared = _prepared(record, artifacts, folder, device, watcher or Nobody())
    network = build_network(prepared)
    path = folder / checkpoint.path
    try:
        load_weights(path, network, prepared.device)
    except (ValueError, RuntimeError) as error:
        raise StoreError(
            f"{path} does not fit the network that this version builds: {error}"
        ) from error
    return Recalled(record, prepared, checkpoint, network.eval())


def load_data(
    run: str | RunRecord, split: SplitName = "validation", *, db: str | Path | None = None
) -> Split:
    """Return a split of the data that a recorded run saw.

    Args:
        run: See `load_model`.
        split: Which one.
        db: See `load_model`.

    Raises:
        StoreError: If there is no such run.
        ConfigError: If the configuration or a plug-in is not what it was.
        DataError: If the data cannot be had any more, is not what the run saw, or has no such
            split.
    """
    with Store.open(db or locate(create=False), mode="ro") as store:
        record, artifacts, folder = _found(run, store)
    dataset = _prepared(record, artifacts, folder, "cpu", Nobody()).dataset
    return split_of(dataset, split, f"the data of run {record.experiment_id}")


def require_model(record: RunRecord) -> None:
    """Check that a run has a model that can be built here.

    Raises:
        ConfigError: If it has none.
    """
    if record.config_hash is None:
        raise ConfigError(
            f"run {record.experiment_id} was not made by `research-eval run`; it has no model here"
        )


def split_of(dataset: Dataset, name: SplitName, what: str) -> Split:
    """Return a split of a data set.

    Raises:
        ConfigError: If no data set has a split of that name.
        DataError: If it has no such split.
    """
    known = get_args(SplitName)
    if name not in known:
        raise ConfigError(f"there is no split '{name}'; the splits are {', '.join(known)}")
    found: Split | None = getattr(dataset, name)
    if found is None:
        raise DataError(f"{what} has no {name} split")
    return found


def _found(run: str | RunRecord, store: Store) -> tuple[RunRecord, Sequence[Artifact], Path]:
    record = store.run(run) if isinstance(run, str) else run
    if record.run_type == "evaluation":
        raise ConfigError(
            f"run {record.experiment_id} is an evaluation and has no weights of its own; name the "
            f"run that it evaluated, {record.parent}"
        )
    return record, store.artifacts(record.experiment_id), store.artifact_dir


def _checkpoint(
    record: RunRecord, artifacts: Sequence[Artifact], folder: Path, weights: Weights
) -> Artifact:
    kept = {Path(each.path).stem: each for each in artifacts if each.kind == "checkpoint"}
    settings = json.loads(record.full_config_json).get("training_params", {})
    wanted = settings.get("select", "last") if weights == "selected" else weights
    if wanted not in kept:
        there = f"only {' and '.join(sorted(kept))}" if kept else "none"
        raise StoreError(
            f"run {record.experiment_id} did not keep its {wanted} weights, {there}; run it again "
            f"with training_params.keep_checkpoints={wanted}"
        )
    _check_content(folder / kept[wanted].path, kept[wanted].sha256)
    return kept[wanted]


def _check_content(path: Path, sha256: str) -> None:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    if digest != sha256:
        raise StoreError(f"checkpoint {path} is not the file that was recorded; its sha256 differs")


def _prepared(
    record: RunRecord, artifacts: Sequence[Artifact], folder: Path, device: str, watcher: Watcher
) -> Prepared:
    run_id = record.experiment_id
    require_model(record)
    base_dir = Path(json.loads(record.env_details_json)["base_dir"])
    plugins = [folder / each.path for each in artifacts if each.kind == "plugin"]
    copies = f"; the run's own copy is {', '.join(map(str, plugins))}" if plugins else ""
    try:
        text = record.full_config_json
        experiment = load_text(text, base_dir=base_dir, source=f"run {run_id}")
    except ConfigError as error:
        raise ConfigError(f"{error}{copies}") from error
    recorded = {each.path: each.sha256 for each in artifacts}
    for file in _plugin_files(experiment, base_dir):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if digest != recorded.get(f"{run_id}/{file.name}"):
            raise PluginError(f"{file} is not what run {run_id} was made with{copies}")
    if config_hash(experiment) != record.config_hash:
        raise ConfigError(
            f"the configuration of run {run_id} means something else to this version of "
            "research-eval; use the version that made it"
        )
    here = {"training_params.device": device, "training_params.precision": "fp32"}
    prepared = prepare(experiment.with_fields(here), watcher)
    if prepared.dataset.fingerprint != record.data_hash:
        raise DataError(f"the data is not what run {run_id} saw; its fingerprint differs")
    return prepared


def _plugin_files(experiment: Experiment, base_dir: Path) -> list[Path]:
    references = (plugin_reference(name, base_dir) for _, name in components(experiment))
    return [reference.file for reference in references if reference is not None]

"""Whether environment, code and data here are those that were recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from research_eval import machine
from research_eval.config import Experiment, config_hash, load_text
from research_eval.errors import ConfigError, DataError, ResearchEvalError
from research_eval.prepare import prepare
from research_eval.records import RunRecord
from research_eval.reproduction.original import Original, threads_of
from research_eval.training.device import resolve_device
from research_eval.training.progress import Watcher

_THREADS = re.compile(r":\d+ threads$")


@dataclass(frozen=True, slots=True)
class Checked:
    """A run that was looked at before it is carried out again.

    Attributes:
        config_json: With the settings that were given.
        is_same_code: Whether the source here is what was recorded.
        problem: Why it cannot be reproduced here; None if it can.
    """

    original: Original
    config_json: str
    is_same_code: bool = False
    problem: ResearchEvalError | None = None

    @property
    def threads(self) -> tuple[int | None, int | None]:
        """CPU threads that are recorded, and those that it will run with here."""
        return self.original.threads, threads_of(self.config_json)


@dataclass(frozen=True, slots=True)
class Difference:
    """Something of the environment that is not what it was.

    Attributes:
        runs: How many runs recorded it so.
    """

    what: str
    recorded: str
    here: str
    runs: int


def check(
    originals: Sequence[Original], settings: Sequence[str], watcher: Watcher
) -> list[Checked]:
    """Load what each run would need, and compare its source and its data with what is recorded.

    Args:
        originals: The runs; what several share is loaded once.
        settings: `path=value` that replace how a run is carried out, never what it computes.
        watcher: Told what is loaded.

    Raises:
        ConfigError: If a setting would change what is computed.
    """
    known: dict[tuple[object, ...], Checked] = {}
    checked = []
    for each in originals:
        key = (each.config_json, each.base_dir, each.threads, *each.group)
        if key not in known:
            known[key] = _checked(each, settings, watcher)
        same = known[key]
        checked.append(Checked(each, same.config_json, same.is_same_code, same.problem))
    return checked


def _checked(original: Original, settings: Sequence[str], watcher: Watcher) -> Checked:
    record = original.record
    try:
        plain = _as_recorded(original)
    except ConfigError as error:
        return Checked(original, original.config_json, problem=error)
    experiment = _with_settings(plain, settings, record.experiment_id)
    text = experiment.config.model_dump_json(by_alias=True, exclude_unset=True)
    try:
        prepared = prepare(experiment, watcher)
    except DataError as error:
        return Checked(original, text, problem=_missing(error, original))
    except ResearchEvalError as error:
        return Checked(original, text, problem=error)
    problem = None
    if prepared.dataset.fingerprint != record.data_hash:
        problem = DataError(
            f"the data of {record.dataset_name} is not what run {record.experiment_id} saw: "
            f"fingerprint {_short(prepared.dataset.fingerprint)} here, "
            f"{_short(record.data_hash)} recorded; found: {prepared.dataset.source}"
        )
    return Checked(original, text, prepared.code_hash == record.code_hash, problem)


def _as_recorded(original: Original) -> Experiment:
    """Return the experiment with the number of threads that it ran with."""
    source = f"run {original.record.experiment_id}"
    plain = load_text(original.config_json, base_dir=original.base_dir, source=source)
    if original.threads is None:
        return plain
    return plain.with_fields({"training_params.num_threads": original.threads})


def _with_settings(plain: Experiment, settings: Sequence[str], run_id: str) -> Experiment:
    if not settings:
        return plain
    text = plain.config.model_dump_json(by_alias=True, exclude_unset=True)
    changed = load_text(
        text, overrides=settings, base_dir=plain.base_dir, source=" ".join(settings)
    )
    seeds = {changed.config.seed, plain.config.seed}
    if config_hash(changed) != config_hash(plain) or len(seeds) > 1:
        raise ConfigError(
            f"{' '.join(settings)} would change what run {run_id} computes; a reproduction can "
            "change only how: training_params.num_threads, training_params.device, "
            "dataset_params.path"
        )
    return changed


def _missing(error: DataError, original: Original) -> DataError:
    return DataError(
        f"{error} (run {original.record.experiment_id}; its data had the fingerprint "
        f"{_short(original.record.data_hash)}). If you have it elsewhere, add "
        "dataset_params.path=PLACE"
    )


def _short(fingerprint: str | None) -> str:
    return (fingerprint or "none")[:12]


def differences(originals: Sequence[Original]) -> list[Difference]:
    """Return what the environment has otherwise than at the time of recording."""
    here = _facts_here()
    found: dict[tuple[str, str], int] = {}
    for each in originals:
        for what, value in _facts_of(each.record).items():
            if value != here.get(what):
                found[what, value] = found.get((what, value), 0) + 1
    return [
        Difference(what, value, here.get(what, "not installed"), runs)
        for (what, value), runs in found.items()
    ]


def _facts_of(record: RunRecord) -> dict[str, str]:
    return _facts(json.loads(record.env_details_json))


def _facts_here() -> dict[str, str]:
    return _facts(machine.environment(resolve_device("auto")))


def _facts(details: dict[str, object]) -> dict[str, str]:
    packages = details.get("packages")
    told = {"python": details.get("python"), "platform": details.get("platform")}
    told |= packages if isinstance(packages, dict) else {}
    told["hardware"] = _THREADS.sub("", str(details.get("hardware")))
    return {name: str(value) for name, value in told.items() if value is not None}

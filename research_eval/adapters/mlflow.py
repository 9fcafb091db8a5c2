"""Runs of the store, written into an MLflow tracking store."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from research_eval.errors import StoreError
from research_eval.records import RunRecord, RunStatus
from research_eval.redaction import without_password
from research_eval.store import Store
from research_eval.store.params import flattened

ID_TAG = "research_eval.id"
EXPERIMENT = "research-eval"
METRICS_AT_ONCE = 1000
PARAMS_AT_ONCE = 100
MAX_PARAM = 6000
STATUSES = {
    RunStatus.RUNNING: "RUNNING",
    RunStatus.COMPLETED: "FINISHED",
    RunStatus.FAILED: "FAILED",
    RunStatus.DIVERGED: "FAILED",
    RunStatus.COLLAPSED: "FAILED",
    RunStatus.PRUNED: "KILLED",
    RunStatus.INTERRUPTED: "KILLED",
    RunStatus.LOST: "KILLED",
}


@dataclass(slots=True)
class Exported:
    """What became of an export.

    Attributes:
        runs: Number of runs written.
        points: Number of points in them.
        skipped: Number of runs that were there already.
        renamed: Names that MLflow does not allow, with what they are called there.
        shortened: Number of parameters that were cut to the 6,000 characters that MLflow keeps.
    """

    runs: int
    points: int
    skipped: int
    renamed: dict[str, str]
    shortened: int


def export(store: Store, ids: Sequence[str], uri: str) -> Exported:
    """Write runs with their points, parameters, tags, notes, times and status; none twice.

    Args:
        store: Where the runs are.
        ids: Which; parents before children, if both are wanted.
        uri: MLflow's: `sqlite:///mlflow.db`, or the address of a server.

    Raises:
        StoreError: If a run is not in the store, or MLflow does not take it.
    """
    done = Exported(0, 0, 0, {}, 0)
    try:
        _export(MlflowClient(uri), store, ids, done)
    except MlflowException as error:
        first_line = str(error).partition("\n")[0]
        raise StoreError(
            f"MLflow at {without_password(uri)} refused after {done.runs} runs: {first_line}"
        ) from error
    return done


def _export(client: MlflowClient, store: Store, ids: Sequence[str], done: Exported) -> None:
    there: dict[str, str] = {}
    for record in map(store.run, ids):
        experiment = _experiment(client, record.project or EXPERIMENT)
        found = client.search_runs([experiment], f"tags.`{ID_TAG}` = '{record.experiment_id}'")
        if found:
            there[record.experiment_id] = found[0].info.run_id
            done.skipped += 1
            continue
        there[record.experiment_id] = _write(client, store, record, experiment, there, done)
        done.runs += 1


def _experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found is not None else client.create_experiment(name))


def _write(
    client: MlflowClient,
    store: Store,
    record: RunRecord,
    experiment: str,
    there: dict[str, str],
    done: Exported,
) -> str:
    tags = {ID_TAG: record.experiment_id, "research_eval.status": str(record.status)}
    tags |= {f"tag.{tag}": "true" for tag in record.tags}
    optional = {
        "mlflow.parentRunId": there.get(record.parent or ""),
        "mlflow.note.content": "\n\n".join(note.text for note in record.notes),
        "mlflow.source.git.commit": record.git_commit,
        "mlflow.source.name": record.argv and " ".join(json.loads(record.argv)),
        "research_eval.error": record.error,
    }
    tags |= {name: value for name, value in optional.items() if value}
    started = int(record.timestamp.timestamp() * 1000)
    run: Any = client.create_run(experiment, started, run_name=record.experiment_name)
    run_id = str(run.info.run_id)
    labels = [RunTag(_allowed(name, done), value) for name, value in tags.items()]
    client.log_batch(run_id, tags=labels)
    params = list(_params(json.loads(record.full_config_json), done))
    for start in range(0, len(params), PARAMS_AT_ONCE):
        client.log_batch(run_id, params=params[start : start + PARAMS_AT_ONCE])
    points = _points(store, record, done)
    while chunk := list(islice(points, METRICS_AT_ONCE)):
        client.log_batch(run_id, metrics=chunk)
        done.points += len(chunk)
    ended = None if record.ended is None else int(record.ended.timestamp() * 1000)
    client.set_terminated(run_id, STATUSES[record.status], ended)
    return run_id


def _params(config: dict[str, Any], done: Exported) -> Iterator[Param]:
    for name, text, _number in flattened(config):
        done.shortened += len(text) > MAX_PARAM
        yield Param(_allowed(name, done), text[:MAX_PARAM])


def _points(store: Store, record: RunRecord, done: Exported) -> Iterator[Metric]:
    for name in record.metrics:
        found = store.history(record.experiment_id, name)
        allowed = _allowed(name, done)
        for step, value, at in zip(found.steps, found.values, found.times, strict=True):
            yield Metric(allowed, float(value), int(at * 1000), int(step))


def _allowed(name: str, done: Exported) -> str:
    """Return a name as MLflow allows it: other characters become their code, `@` becomes `_40_`."""
    kept = re.sub(r"[^\w./: -]", lambda found: f"_{ord(found[0]):x}_", name)
    if posixpath.normpath(kept) != kept or kept.startswith(("/", ".")):  # no path of a file
        kept = kept.replace("/", "_2f_").replace(".", "_2e_")
    if kept != name:
        done.renamed[name] = kept
    return kept

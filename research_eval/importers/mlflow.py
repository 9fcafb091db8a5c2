"""MLflow: the SQLite file of a tracking server, or the files below an `mlruns` folder.

MLflow keeps parameters as text; what spells a number becomes one. Its databases replace an
infinity by the largest double, which stays as it is and is flagged. Runs that were deleted there
are not imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from research_eval.errors import DataError
from research_eval.importers.foreign import (
    ForeignRun,
    Point,
    foreign_database,
    number_or_text,
)
from research_eval.records import RunStatus

TABLES = {
    "experiments": {"experiment_id", "name"},
    "runs": {"run_uuid", "name", "experiment_id", "status", "start_time", "end_time",
             "lifecycle_stage"},
    "metrics": {"run_uuid", "key", "value", "timestamp", "step", "is_nan"},
    "params": {"run_uuid", "key", "value"},
    "tags": {"run_uuid", "key", "value"},
}  # fmt: skip
STATUSES = {
    "RUNNING": RunStatus.LOST,
    "SCHEDULED": RunStatus.LOST,
    "FINISHED": RunStatus.COMPLETED,
    "FAILED": RunStatus.FAILED,
    "KILLED": RunStatus.INTERRUPTED,
}
"""A run that was still running when its tracker was copied is nobody's any more."""
FILE_STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
"""What the numbers 1 to 5 in a `meta.yaml` stand for."""

INFINITIES = "MLflow wrote {} values as the largest number that there is; they were infinite"

PARENT, NOTE, COMMIT = "mlflow.parentRunId", "mlflow.note.content", "mlflow.source.git.commit"


def read(path: Path) -> Iterator[ForeignRun]:
    """Yield the runs of a SQLite file or of an `mlruns` folder.

    Raises:
        DataError: If it is neither, or PyYAML is missing to read a folder.
    """
    return _read_database(path) if path.is_file() else _read_folder(path)


def _run(
    meta: Mapping[str, Any], project: str, params: Mapping[str, str], tags: Mapping[str, str]
) -> dict[str, Any]:
    """Return what both forms have in common; times are in milliseconds there."""
    ended = meta["end_time"]
    own = {key: value for key, value in tags.items() if not key.startswith("mlflow.")}
    return {
        "name": meta["name"] or tags.get("mlflow.runName") or "run",
        "status": STATUSES[meta["status"]],
        "started": (meta["start_time"] or 0) / 1000,
        "ended": None if ended is None else ended / 1000,
        "project": project,
        "parent": tags.get(PARENT),
        "config": {key: number_or_text(value) for key, value in params.items()},
        "tags": tuple(f"{key}={value}" for key, value in own.items()),
        "notes": (tags[NOTE],) if tags.get(NOTE) else (),
        "git_commit": tags.get(COMMIT),
        "environment": {"mlflow": {key: tags[key] for key in sorted(tags.keys() - own.keys())}},
    }


def _read_database(path: Path) -> Iterator[ForeignRun]:
    with foreign_database(path, "MLflow", TABLES) as database:
        projects = dict(database.execute("SELECT experiment_id, name FROM experiments").fetchall())
        for row in database.execute(
            "SELECT * FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time, run_uuid"
        ):
            run_id = row["run_uuid"]
            params, tags = (
                dict(
                    database.execute(
                        f"SELECT key, value FROM {table} WHERE run_uuid = ? ORDER BY key",
                        (run_id,),
                    ).fetchall()
                )
                for table in ("params", "tags")
            )
            infinities = database.execute(
                "SELECT count(*) FROM metrics WHERE run_uuid = ? AND abs(value) = ?",
                (run_id, sys.float_info.max),
            ).fetchone()[0]
            yield ForeignRun(
                source_id=run_id,
                points=partial(_database_points, path, run_id),
                flags={"mlflow_infinities": INFINITIES.format(infinities)} if infinities else {},
                **_run(row, projects[row["experiment_id"]], params, tags),
            )


def _database_points(path: Path, run_id: str) -> Iterator[Point]:
    with foreign_database(path, "MLflow", TABLES) as database:
        for row in database.execute(
            "SELECT key, value, timestamp, step, is_nan FROM metrics WHERE run_uuid = ? "
            "ORDER BY timestamp, step, key",
            (run_id,),
        ):
            value = float("nan") if row["is_nan"] else row["value"]
            yield Point(row["key"], row["step"], row["timestamp"] / 1000, value)


def _read_folder(path: Path) -> Iterator[ForeignRun]:
    files = sorted(path.glob("*/*/meta.yaml"))
    if not files:
        raise DataError(
            f"{path} is neither an MLflow database nor a folder like mlruns "
            "(EXPERIMENT/RUN/meta.yaml)"
        )
    for file in files:
        meta = _yaml(file)
        if "run_id" not in meta or meta.get("lifecycle_stage") != "active":
            continue
        folder = file.parent
        params, tags = (
            {
                each.relative_to(folder / kind).as_posix(): each.read_text(encoding="utf-8")
                for each in sorted((folder / kind).rglob("*"))
                if each.is_file()
            }
            for kind in ("params", "tags")
        )
        described = {
            "name": meta.get("run_name"),
            "status": FILE_STATUSES[meta["status"] - 1],
            "start_time": meta["start_time"],
            "end_time": meta["end_time"],
        }
        yield ForeignRun(
            source_id=meta["run_id"],
            points=partial(_folder_points, folder),
            **_run(described, _yaml(folder.parent / "meta.yaml")["name"], params, tags),
        )


def _folder_points(folder: Path) -> Iterator[Point]:
    for file in sorted((folder / "metrics").rglob("*")):
        if file.is_file():
            name = file.relative_to(folder / "metrics").as_posix()
            for line in file.read_text(encoding="utf-8").splitlines():
                try:
                    at, value, step = line.split()[:3]
                    yield Point(name, int(step), int(at) / 1000, float(value))
                except ValueError as error:
                    raise DataError(f"{file} holds a line that is no metric: {line!r}") from error


def _yaml(file: Path) -> dict[str, Any]:
    try:
        import yaml  # noqa: PLC0415 - an extra that only this form needs
    except ImportError as error:
        raise DataError(
            "reading an mlruns folder needs PyYAML: pip install 'research-eval[import]'"
        ) from error
    try:
        return dict(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{file} is not a description of a run by MLflow: {error}") from error

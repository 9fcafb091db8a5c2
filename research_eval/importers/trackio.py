"""trackio: a SQLite file for each project, in the folder `~/.cache/huggingface/trackio`.

trackio keeps no status, and one time for all that it wrote at once, about every half second.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from research_eval.errors import DataError
from research_eval.importers.foreign import ForeignRun, Point, foreign_database
from research_eval.records import RunStatus

TABLES = {
    "metrics": {"id", "run_id", "run_name", "timestamp", "step", "metrics"},
    "configs": {"run_id", "run_name", "config", "created_at"},
    "system_metrics": {"id", "run_id", "timestamp", "metrics"},
}
NO_STATUS = "trackio does not record how a run ended; it counts as completed"
NONFINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def read(path: Path) -> Iterator[ForeignRun]:
    """Yield the runs of a project's file, or of all projects in a folder.

    Raises:
        DataError: If there are none, or a file is not trackio's.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.db"))
    if not files:
        raise DataError(f"{path} holds no databases of trackio (PROJECT.db)")
    for file in files:
        yield from _project(file)


def _project(file: Path) -> Iterator[ForeignRun]:
    with foreign_database(file, "trackio", TABLES) as database:
        spans = database.execute(
            "SELECT run_id, max(run_name) AS name, min(timestamp) AS first, "
            "max(timestamp) AS last FROM metrics GROUP BY run_id ORDER BY min(id)"
        ).fetchall()
        configs = {
            row["run_id"]: json.loads(row["config"])
            for row in database.execute("SELECT run_id, config FROM configs")
        }
    for span in spans:
        config = configs.get(span["run_id"], {})
        yield ForeignRun(
            source_id=span["run_id"],
            name=span["name"],
            project=file.stem,
            group=config.get("_Group"),
            status=RunStatus.COMPLETED,
            started=_seconds(config.get("_Created") or span["first"]),
            ended=_seconds(span["last"]),
            config={name: value for name, value in config.items() if not name.startswith("_")},
            points=partial(_points, file, span["run_id"], Counter()),
            left_out=_left_out(file, span["run_id"]),
            flags={"imported_without_status": NO_STATUS},
        )


def _left_out(file: Path, run_id: str) -> Counter[str]:
    left_out: Counter[str] = Counter()
    for _point in _points(file, run_id, left_out):
        pass
    return left_out


def _points(file: Path, run_id: str, left_out: Counter[str]) -> Iterator[Point]:
    step = 0
    with foreign_database(file, "trackio", TABLES) as database:
        for row in database.execute(
            "SELECT 0 AS system, id, timestamp, step, metrics FROM metrics WHERE run_id = :run "
            "UNION ALL SELECT 1, id, timestamp, NULL, metrics FROM system_metrics "
            "WHERE run_id = :run ORDER BY timestamp, system, id",
            {"run": run_id},
        ):
            step = step if row["system"] else row["step"]
            prefix = "sys/" if row["system"] else ""
            at = _seconds(row["timestamp"])
            for name, value in json.loads(row["metrics"]).items():
                number = _number(value)
                if number is None:
                    left_out["values that are no numbers"] += 1
                else:
                    yield Point(prefix + name, step, at, number)


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return NONFINITE.get(value)
    return float(value) if isinstance(value, int | float) else None


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()

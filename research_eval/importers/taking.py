"""From another tracker into the store."""

from __future__ import annotations

import importlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from research_eval.errors import DataError
from research_eval.importers.foreign import ForeignRun
from research_eval.records import NewRun
from research_eval.store import Store
from research_eval.store.importing import Imported
from research_eval.store.replay import Recorded, take_in
from research_eval.store.segments import Entry

TRACKERS = ("mlflow", "tensorboard", "trackio", "wandb")


@dataclass(frozen=True, slots=True)
class Found:
    """The runs that a tracker has recorded.

    Attributes:
        tracker: Which one.
        path: Its file or folder.
        runs: Parents before children.
    """

    tracker: str
    path: Path
    runs: tuple[ForeignRun, ...]

    @property
    def left_out(self) -> Counter[str]:
        """What they hold and cannot be imported, counted by kind."""
        return sum((Counter(run.left_out) for run in self.runs), Counter[str]())


def find(tracker: str, path: Path) -> Found:
    """Read what a tracker has recorded.

    Args:
        tracker: One of `TRACKERS`.
        path: Its file or folder.

    Raises:
        DataError: If there is nothing at the path, or it is not understood.
    """
    if not path.exists():
        raise DataError(f"there is no {path} to import from")
    reader = importlib.import_module(f"research_eval.importers.{tracker}")
    return Found(tracker, path, tuple(_parents_first(list(reader.read(path)))))


def import_found(found: Found, store: Store, *, as_new: bool = False) -> Imported:
    """Take in all runs or none, and none twice; what arrives is read back and compared.

    Args:
        found: What was read.
        store: Open for writing.
        as_new: Whether a run that has changed since it was imported gets a new id.

    Raises:
        StoreError: If a run has changed since it was imported, or cannot be written.
    """
    known = {run.source_id for run in found.runs}
    recorded = (_recorded(run, found.tracker, known) for run in found.runs)
    return take_in(store, recorded, found.path, as_new=as_new)


def _parents_first(runs: Iterable[ForeignRun]) -> Iterator[ForeignRun]:
    waiting: dict[str | None, list[ForeignRun]] = {}
    known = {run.source_id for run in runs}
    for run in runs:
        waiting.setdefault(run.parent if run.parent in known else None, []).append(run)
    ready = waiting.pop(None, [])
    while ready:
        run = ready.pop(0)
        yield run
        ready += waiting.pop(run.source_id, [])


def _recorded(run: ForeignRun, tracker: str, known: set[str]) -> Recorded:
    new = NewRun(
        experiment_id=_id(tracker, run.source_id),
        run_type="import",
        experiment_name=run.name,
        full_config_json=json.dumps(run.config, ensure_ascii=False),
        env_details_json=json.dumps({"tracker": tracker, **run.environment}),
        project=run.project,
        group=run.group,
        parent=_id(tracker, run.parent) if run.parent in known else None,
        git_commit=run.git_commit,
        host=run.host,
        tags=run.tags,
    )
    ended = run.started if run.ended is None else run.ended
    ending = {"status": run.status, "error": None, "contended": False, "time": ended}
    flags = [Entry("flag", {"name": n, "reason": r}) for n, r in run.flags.items()]
    notes = [Entry("note", {"note": note, "time": run.started}) for note in run.notes]
    entries = (*flags, *notes, Entry("ending", ending))
    return Recorded(new=new, started=run.started, points=run.points, entries=entries)


def _id(tracker: str, source_id: str) -> str:
    return re.sub(r"[^\w.-]", "-", f"{tracker}-{source_id}")

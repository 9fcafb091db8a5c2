"""Record any script: `research_eval.track`.

    with research_eval.track("my run", config={"lr": 1e-3}) as run:
        for step in range(100):
            run.log({"train/loss": loss}, step=step)

Only light modules of the standard library are loaded before the first `log`; SQLAlchemy, git and
whatever else takes time is left to threads.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from research_eval.errors import ConfigError, StoreError
from research_eval.records import NewRun
from research_eval.store import headstart
from research_eval.store.checks import checked_step
from research_eval.tracking.run import TrackedRun
from research_eval.tracking.values import as_config

__all__ = ["TrackedRun", "track"]

INTERVAL_S = 5.0


def track(
    name: str | None = None,
    *,
    config: Any = None,
    db: str | Path | None = None,
    project: str | None = None,
    group: str | None = None,
    parent: TrackedRun | str | None = None,
    tags: Iterable[str] = (),
    seed: int | None = None,
    resume: str | None = None,
    resume_step: int | None = None,
    system_interval_s: float | None = INTERVAL_S,
    git_diff: bool = True,
    strict: bool = False,
) -> TrackedRun:
    """Start to record a run, or go on with one.

    Args:
        name: What to call it; by default the name of the script.
        config: What it is made with: a mapping, a dataclass or an `argparse.Namespace`.
        db: The store, by path or URL; by default the one that the commands would use. A SQLite
            file is made if need be.
        project: What it belongs to.
        group: Runs of one group are shown together.
        parent: The run that this one is a part of.
        tags: Labels.
        seed: What it was seeded with, for the record.
        resume: Id of an INTERRUPTED, LOST or FAILED run to go on with; what else is given is
            added to it.
        resume_step: Step from which it goes on; later points are kept, but superseded. By
            default the highest step that was recorded.
        system_interval_s: Seconds between readings of CPU, memory and GPUs, recorded under
            `sys/`; None for none.
        git_diff: Whether to keep what is not committed of the checkout around the script.
        strict: Whether problems raise, instead of being shown once while training goes on.

    Raises:
        ConfigError: If an argument cannot be used. Nothing is recorded.
        StoreError: If the records can be kept nowhere, or there is no such run to resume.
    """
    if system_interval_s is not None and not system_interval_s > 0:
        raise ConfigError(f"system_interval_s is a number above 0 or None, not {system_interval_s}")
    settings = _settings(config)
    labels = (tags,) if isinstance(tags, str) else tuple(map(str, tags))
    if resume is None:
        place = {"project": project, "group": group, "parent": parent}
        run = _started(name, place, db, settings, labels, seed, strict)
    else:
        run = _resumed(resume, resume_step, db, settings, labels, strict)
    run.describe_beside(Path.cwd(), git_diff=git_diff)
    if system_interval_s is not None:
        run.sample_beside(system_interval_s)
    return run


def _started(
    name: str | None,
    place: Mapping[str, Any],
    db: str | Path | None,
    settings: dict[str, Any],
    tags: tuple[str, ...],
    seed: int | None,
    strict: bool,
) -> TrackedRun:
    parent = place["parent"]
    if isinstance(parent, TrackedRun):
        place = {**place, "parent": parent.id}
    texts = {"experiment_name": name or Path(sys.argv[0]).stem or "run", **place}
    for field, value in texts.items():
        if not isinstance(value, str | None):
            raise ConfigError(f"{field.removeprefix('experiment_')} is text, not {value!r}")
    described = NewRun(
        experiment_id=os.urandom(6).hex(),
        run_type="track",
        full_config_json=json.dumps(settings, ensure_ascii=False),
        env_details_json="{}",
        tags=tags,
        seed=_seed(seed),
        **texts,
    )
    waits = parent.wait_until_known if isinstance(parent, TrackedRun) else lambda: None
    recording = headstart.start(described, db, strict=strict, before=waits)
    return TrackedRun(recording, described.experiment_name, next_step=0, strict=strict)


def _resumed(
    name: str,
    step: int | None,
    db: str | Path | None,
    settings: dict[str, Any],
    tags: tuple[str, ...],
    strict: bool,
) -> TrackedRun:
    recording, record, last = headstart.go_on(name, db, step=step, strict=strict)
    run = TrackedRun(recording, record.experiment_name, next_step=last + 1, strict=strict)
    if settings:
        run.set(settings)
    run.tag(*tags)
    return run


def _settings(config: Any) -> dict[str, Any]:
    try:
        return as_config(config)
    except TypeError as error:
        raise ConfigError(str(error)) from error


def _seed(seed: int | None) -> int | None:
    try:
        return None if seed is None else checked_step(seed)
    except StoreError:
        raise ConfigError(f"seed is an integer of 64 bits, not {seed!r}") from None

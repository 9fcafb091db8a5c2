"""The same from Python: what the commands do, as functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from research_eval import config as configuration
from research_eval import execute
from research_eval.prepare import prepare
from research_eval.records import RunRecord
from research_eval.store import Store
from research_eval.store.location import locate
from research_eval.training.progress import Nobody, Watcher


def run(
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Iterable[str] = (),
    db: str | Path | None = None,
    again: bool = False,
    watcher: Watcher | None = None,
) -> RunRecord:
    """Carry out one experiment and return its record; a completed one is not run twice.

    Args:
        config: A file, or the configuration itself as JSON values.
        overrides: `path=value` settings that replace what the configuration says.
        db: The store, by path or URL; by default the one that the commands would use.
        again: Run it even if it is recorded already.
        watcher: Told about progress; nobody by default.

    Raises:
        ConfigError: If the configuration is not legal; nothing is written.
        DataError: If the data cannot be had; nothing is written.
        RunError: If the run failed; its record says why.
        StoreError: If the store cannot be written.
    """
    if isinstance(config, Mapping):
        experiment = configuration.validate(config, overrides=overrides)
        source = "Python"
    else:
        experiment = configuration.load_file(Path(config), overrides)
        source = str(config)
    waiting = watcher or Nobody()
    prepared = prepare(experiment, waiting)
    with Store.open(db or locate(create=True), create=True) as store:
        return execute.run(prepared, store, waiting, again=again, source=source).record

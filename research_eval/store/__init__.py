"""The store: runs, metrics and artifacts in SQLite or PostgreSQL; the only place that knows SQL.

    with Store.open("experiment_results.db") as store:
        print(store.run("last").value("final_val_f1"))

SQLAlchemy loads when `Store` is first used, so a command that only looks for the file stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from research_eval.store.database import Store
    from research_eval.store.writer import PendingError, RunWriter

__all__ = ["PendingError", "RunWriter", "Store"]

_HOMES = {"Store": "database", "RunWriter": "writer", "PendingError": "writer"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

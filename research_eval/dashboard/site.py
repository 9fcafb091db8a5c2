"""What every answer is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from research_eval.dashboard.answers import ProblemError
from research_eval.errors import StoreError
from research_eval.filters.tree import quoted
from research_eval.records import RunRecord
from research_eval.store import Store
from research_eval.store.browsing import Browser
from research_eval.store.engine import BusyError

MAX_RUNS = 50
"""Runs that are drawn at once."""


@dataclass(frozen=True, slots=True)
class Site:
    """One store and the folder of its reports.

    Attributes:
        store: Opened read-only.
        browser: Over the same store.
        reports: Folder that `analyze` writes to; it need not exist.
    """

    store: Store
    browser: Browser
    reports: Path

    def run(self, name: str) -> RunRecord:
        """Return a run by its id, or by another name as the command line takes it.

        Raises:
            ProblemError: If no run is meant.
        """
        try:
            return self.store.run(name)
        except BusyError:
            raise
        except StoreError as error:
            raise ProblemError(404, str(error)) from error

    def runs(self, names: Sequence[str]) -> list[RunRecord]:
        """Return runs in the order asked; those that are named by their id in a few queries.

        Raises:
            ProblemError: If a name means no run.
        """
        listed = ", ".join(map(quoted, names))
        found = self.store.runs(filter=f"experiment_id in [{listed}]", limit=len(names))
        by_id = {run.experiment_id: run for run in found}
        return [by_id.get(name) or self.run(name) for name in names]

"""What every answer is made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from research_eval.dashboard.answers import ProblemError
from research_eval.errors import StoreError
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

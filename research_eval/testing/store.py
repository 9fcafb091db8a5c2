"""What every store promises, as a test suite to run over a database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from research_eval.store import Store
from research_eval.testing.lifecycle_checks import LifecycleChecks
from research_eval.testing.reading_checks import ReadingChecks
from research_eval.testing.recording_checks import RecordingChecks


class StoreContract(RecordingChecks, LifecycleChecks, ReadingChecks):
    """Subclass it and supply `store_url`, the address of a database that is empty or not there.

    The tests use only `Store`, and the tables for what no user of a store can do.
    """

    @pytest.fixture
    def store_url(self) -> str | Path:
        """Return the address of an empty database."""
        raise NotImplementedError  # abstract: the subclass supplies it

    @pytest.fixture
    def store(self, store_url: str | Path) -> Iterator[Store]:
        """Yield a new store, and close it."""
        with Store.open(store_url, create=True) as opened:
            yield opened

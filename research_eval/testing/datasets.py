"""The contract of data sets as a pytest suite.

class TestMyDataset(DatasetContract):
    @pytest.fixture
    def spec(self):
        return SPEC
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from research_eval.spec import DatasetSpec, LoadContext
from research_eval.testing.dataset_checks import DATASET_CHECKS, DatasetSubject


class DatasetContract:
    """Every promise of a data set; a subclass supplies the fixture `spec`."""

    @pytest.fixture
    def spec(self) -> DatasetSpec:
        """Return the data set to be tested."""
        raise NotImplementedError  # a subclass says which

    @pytest.fixture
    def subject(self, spec: DatasetSpec, tmp_path: Path) -> DatasetSubject:
        """Return it at small sizes; override this to test other parameters."""
        return DatasetSubject.of(spec, LoadContext(Path.cwd(), tmp_path / "cache"))

    @pytest.mark.parametrize("promise", DATASET_CHECKS, ids=lambda check: check.__name__)
    def test_promise(
        self, promise: Callable[[DatasetSubject], None], subject: DatasetSubject
    ) -> None:
        """Check one promise."""
        promise(subject)
